//! What a transcript tells of the crossings between host and guests: which calls, from which callback, and
//! how many bytes were copied for them.

use std::collections::BTreeMap;

use tollgate_abi::{CallbackKind, Function, Reply};
use tollgate_host::transcript::Entry;

/// Host calls with the bytes that were copied for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crossings {
    pub(crate) calls: u64,
    pub(crate) bytes_from_guest: u64,
    pub(crate) bytes_to_guest: u64,
}

/// The crossings of a transcript.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) functions: BTreeMap<Function, Crossings>,
    pub(crate) callbacks: BTreeMap<CallbackKind, Crossings>,
}

impl Counted {
    pub(crate) fn of(transcript: &[Entry]) -> Self {
        let mut counted = Self::default();
        let mut running = Vec::new();
        for entry in transcript {
            let (function, one) = match entry {
                Entry::Enter { callback, .. } => {
                    running.push(callback.map(|callback| callback.kind()));
                    continue;
                }
                Entry::Return { .. } | Entry::Trap(_) => {
                    running.pop();
                    continue;
                }
                Entry::Note(_) => continue,
                Entry::Call { call, reply } => {
                    (call.function(), Crossings::one(call.size_bytes(), answered_bytes(reply)))
                }
                Entry::Fault { function, .. } => (*function, Crossings::one(0, 0)),
            };
            counted.functions.entry(function).or_default().add(one);
            if let Some(Some(callback)) = running.last() {
                counted.callbacks.entry(*callback).or_default().add(one);
            }
        }
        counted
    }
}

/// How many bytes the guest gets.
fn answered_bytes(reply: &Reply) -> usize {
    match reply {
        Reply::Done(answer) | Reply::Failed { answer, .. } => answer.size_bytes(),
        Reply::Refused { .. } | Reply::Untimely { .. } | Reply::Trap { .. } => 0,
    }
}

impl Crossings {
    fn one(from: usize, to: usize) -> Self {
        let wide = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
        Self { calls: 1, bytes_from_guest: wide(from), bytes_to_guest: wide(to) }
    }

    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.bytes_from_guest = self.bytes_from_guest.saturating_add(other.bytes_from_guest);
        self.bytes_to_guest = self.bytes_to_guest.saturating_add(other.bytes_to_guest);
    }
}

#[cfg(test)]
mod tests {
    use tollgate_abi::{Answer, Call, Callback, LogLevel};

    use super::*;

    #[test]
    fn calls_belong_to_the_callback_that_is_innermost() {
        let enter = |callback| Entry::Enter { guest: "x".into(), callback };
        let leave = |callback| Entry::Return { callback, word: 0 };
        let log = Entry::Call {
            call: Call::Log { level: LogLevel::Info, message: b"hello".to_vec() },
            reply: Reply::OK,
        };
        let read = Entry::Call {
            call: Call::GetProperty { path: b"ab".to_vec() },
            reply: Reply::Done(Answer::Bytes(b"abc".to_vec())),
        };
        let outer = Some(Callback::Tick { context: 1 });
        let inner = Some(Callback::Log { context: 2 });
        let counted = Counted::of(&[
            enter(None),
            log.clone(),
            leave(None),
            enter(outer),
            read.clone(),
            enter(inner),
            log,
            leave(inner),
            read,
            leave(outer),
        ]);
        let crossings = |calls, bytes_from_guest, bytes_to_guest| Crossings {
            calls,
            bytes_from_guest,
            bytes_to_guest,
        };
        let expected = Counted {
            functions: [
                (Function::Log, crossings(2, 10, 0)),
                (Function::GetProperty, crossings(2, 4, 6)),
            ]
            .into(),
            callbacks: [
                (CallbackKind::Tick, crossings(2, 4, 6)),
                (CallbackKind::Log, crossings(1, 5, 0)),
            ]
            .into(),
        };
        assert_eq!(counted, expected);
    }
}
