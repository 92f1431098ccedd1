//! The transcript: everything that crossed the border between host and guests, in order.

mod envoy_log;
mod event;
mod html;

use std::fmt;
use std::time::Duration;

use tollgate_abi::{Call, Callback, Fault, Function, Reply};

pub use envoy_log::{EnvoyLog, envoy_log};
pub use event::{Argument, Event, What, events, lines};
pub use html::html;

use crate::account::TrapReport;
use crate::limits::{Bounded, Limits};

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
    /// The guest called the host with pointers that lead nowhere, or has no place for the answer.
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
    Trap(Box<TrapReport>),
}

/// What an entry takes besides its bytes, about.
const ENTRY_BYTES: usize = 256;

/// The lines so far with the virtual time that had passed, in bounds.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    entries: Vec<(Duration, Entry)>,
    bytes: usize,
    is_full: bool,
}

impl Transcript {
    pub(crate) fn push(&mut self, now: Duration, entry: Entry, limits: &Limits) {
        if self.has_room(now, ENTRY_BYTES, limits) {
            self.entries.push((now, entry));
        }
    }

    pub(crate) fn call(&mut self, now: Duration, call: &Call, reply: &Reply, limits: &Limits) {
        let answered = match reply {
            Reply::Done(answer) | Reply::Failed { answer, .. } => answer.size_bytes(),
            Reply::Refused { .. } | Reply::Untimely { .. } | Reply::Trap { .. } => 0,
        };
        let bytes = call.size_bytes().saturating_add(answered).saturating_add(ENTRY_BYTES);
        if self.has_room(now, bytes, limits) {
            self.entries.push((now, Entry::Call { call: call.clone(), reply: reply.clone() }));
        }
    }

    pub(crate) fn take(&mut self) -> Vec<(Duration, Entry)> {
        std::mem::take(self).entries
    }

    fn has_room(&mut self, now: Duration, bytes: usize, limits: &Limits) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= limits.transcript_bytes {
            return true;
        }
        if !std::mem::replace(&mut self.is_full, true) {
            let beyond = limits.exceeded(Bounded::transcript_bytes);
            let left_out = format!("what follows is left out, {beyond}");
            self.entries.push((now, Entry::Note(left_out)));
        }
        false
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => f.write_str(text),
            Self::Enter { guest, callback: Some(callback) } => write!(f, "  {guest} {callback}"),
            Self::Enter { guest, callback: None } => write!(f, "  {guest} start"),
            Self::Call { call, reply } => write!(f, "    {call} = {reply}"),
            Self::Fault { function, fault } => {
                write!(f, "    {function}(…) = {}: {fault}", function.status_of_faults())
            }
            Self::Return { callback: Some(callback), word } => {
                write!(f, "  -> {}", callback.kind().show_return(*word))
            }
            Self::Return { callback: None, .. } => f.write_str("  -> started"),
            Self::Trap(report) => write!(f, "  -> trap: {}", report.outcome()),
        }
    }
}
