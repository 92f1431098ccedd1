//! Why nothing was measured.

use std::fmt;
use std::io;

use tollgate_host::proxy::{HostFailure, StartError};

/// Why a subject was not measured.
#[derive(Debug)]
pub enum NotMeasured {
    /// There is nothing to repeat.
    NoRequest {
        /// The subject.
        name: String,
    },
    /// Its proxy did not start.
    Start {
        /// The subject.
        name: String,
        /// Why.
        error: StartError,
    },
    /// The host failed while it ran.
    Failed {
        /// The subject.
        name: String,
        /// Why.
        failure: HostFailure,
    },
    /// It calls other services, which are there offline only.
    Callouts {
        /// The subject.
        name: String,
    },
    /// Envoy ended while it started, or did not serve in time.
    NoEnvoy {
        /// What it said.
        said: String,
    },
    /// Envoy has no listener of this name.
    NoListener {
        /// The name.
        name: String,
    },
    /// A file, a process or a connection failed.
    Io(io::Error),
}

impl fmt::Display for NotMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRequest { name } => {
                write!(f, "{name}: no step is a request; add one to be repeated")
            }
            Self::Start { name, error } => write!(f, "{name}: {error}"),
            Self::Failed { name, failure } => write!(f, "{name}: {failure}"),
            Self::Callouts { name } => write!(
                f,
                "{name}: its filters call other clusters, which are there with `--on wasmtime` only"
            ),
            Self::NoEnvoy { said } => write!(f, "Envoy does not serve; it said:\n{said}"),
            Self::NoListener { name } => write!(f, "Envoy has no listener for {name}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NotMeasured {}

impl From<io::Error> for NotMeasured {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
