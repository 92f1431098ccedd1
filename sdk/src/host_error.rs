//! Why a host call gave nothing.

use std::error::Error;
use std::fmt;

use tollgate_abi::pairs::InvalidPairs;
use tollgate_abi::{Function, Status};

/// Why a host call gave nothing: the proxy's fault, or that of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// The host returned another status than ok.
    Refused {
        /// The function that was called.
        function: Function,
        /// What it returned.
        status: Status,
    },
    /// The host announced bytes, and gave no memory that could hold them.
    NoBytes {
        /// The function that was called.
        function: Function,
        /// How many bytes were announced.
        size: usize,
    },
    /// The host gave bytes that are no header map.
    NotPairs {
        /// The function that was called.
        function: Function,
        /// Where the bytes stop making sense.
        reason: InvalidPairs,
    },
    /// The host answered with nothing where there has to be something: as Envoy does when it is asked for
    /// what does not belong to the running callback.
    NotInPhase {
        /// The function that was called.
        function: Function,
    },
    /// The host gave another number of bytes than there are.
    WrongSize {
        /// The function that was called.
        function: Function,
        /// How many bytes it gave.
        size: usize,
        /// How many there are.
        expected: usize,
    },
    /// The host gave a shared value without the number that writing it takes: writing it could undo
    /// what another worker has written.
    NoCas {
        /// The function that was called.
        function: Function,
    },
}

impl HostError {
    /// The function that was called.
    pub fn function(&self) -> Function {
        match *self {
            Self::Refused { function, .. }
            | Self::NoBytes { function, .. }
            | Self::NotPairs { function, .. }
            | Self::NotInPhase { function }
            | Self::WrongSize { function, .. }
            | Self::NoCas { function } => function,
        }
    }

    /// The status that the host returned; `None` when it returned ok, with something unusable.
    pub fn status(&self) -> Option<Status> {
        match *self {
            Self::Refused { status, .. } => Some(status),
            Self::NoBytes { .. }
            | Self::NotPairs { .. }
            | Self::NotInPhase { .. }
            | Self::WrongSize { .. }
            | Self::NoCas { .. } => None,
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { function, status } => {
                write!(f, "the proxy refused {function} with status {status}")
            }
            Self::NoBytes { function, size } => {
                write!(f, "the proxy announced {size} bytes in {function} and gave none")
            }
            Self::NotPairs { function, reason } => {
                write!(f, "the proxy answered {function} with no header map: {reason}")
            }
            Self::NotInPhase { function } => {
                write!(
                    f,
                    "the proxy answered {function} with nothing, as in a callback of another phase"
                )
            }
            Self::WrongSize { function, size, expected } => {
                write!(f, "the proxy answered {function} with {size} bytes in place of {expected}")
            }
            Self::NoCas { function } => {
                write!(f, "the proxy answered {function} with the number 0, which guards nothing")
            }
        }
    }
}

impl Error for HostError {}
