//! The transcript: everything that crossed the border between host and guests, in order.

mod envoy_log;
mod event;
mod html;

use std::fmt;

use tollgate_abi::{Call, Callback, Fault, Function, Reply};

pub use envoy_log::{EnvoyLog, envoy_log};
pub use event::{Argument, Event, What, events};
pub use html::html;

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Something outside the guests: a request, an answer, time that passes.
    Note(String),
    /// A guest starts to run.
    Enter {
        /// Which guest.
        guest: String,
        /// What it runs; `None` is its start function.
        callback: Option<Callback>,
    },
    /// The guest called the host.
    Call {
        /// The call.
        call: Call,
        /// The answer.
        reply: Reply,
    },
    /// The guest called the host with pointers that lead nowhere.
    Fault {
        /// The function.
        function: Function,
        /// What was wrong.
        fault: Fault,
    },
    /// The guest returned.
    Return {
        /// What it ran; `None` is its start function.
        callback: Option<Callback>,
        /// What it returned.
        word: u32,
    },
    /// The guest trapped.
    Trap(String),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => f.write_str(text),
            Self::Enter { guest, callback: Some(callback) } => write!(f, "  {guest} {callback}"),
            Self::Enter { guest, callback: None } => write!(f, "  {guest} start"),
            Self::Call { call, reply } => write!(f, "    {call} = {reply}"),
            Self::Fault { function, fault } => write!(f, "    {function}(…) = {fault}"),
            Self::Return { callback: Some(callback), word } => {
                write!(f, "  -> {}", callback.kind().show_return(*word))
            }
            Self::Return { callback: None, .. } => f.write_str("  -> started"),
            Self::Trap(message) => write!(f, "  -> trap: {message}"),
        }
    }
}
