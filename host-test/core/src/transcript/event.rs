//! A transcript as events that tools read: names, arguments and answers as text.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tollgate_abi::{Answer, Callback, Reply};

use super::Entry;

/// One line of a transcript, and when it was.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Event {
    /// Time since the begin: virtual, or that of the log.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum What {
    /// Something outside the guests.
    Note {
        /// What.
        text: String,
    },
    /// A guest starts to run.
    Callback {
        /// Which guest.
        guest: String,
        /// What it runs.
        name: String,
        /// The context; none before the first.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<u32>,
        /// All its arguments.
        arguments: Vec<Argument>,
    },
    /// The guest called the host.
    Call {
        /// Which guest.
        guest: String,
        /// The function.
        function: String,
        /// Its arguments, pointers resolved as far as they can be.
        arguments: Vec<Argument>,
        /// The status that it got.
        status: String,
        /// Why it was refused.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What it got beside the status.
        #[serde(skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// The guest returned.
    Return {
        /// Which guest.
        guest: String,
        /// What it had run.
        name: String,
        /// What it returned.
        value: String,
    },
    /// The guest trapped.
    Trap {
        /// Which guest.
        guest: String,
        /// How.
        message: String,
    },
    /// A line of a log that says nothing of the border.
    Other {
        /// The line.
        text: String,
    },
}

/// An argument by its name.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value as text.
    pub value: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Note { text } | What::Other { text } => f.write_str(text),
            What::Callback { guest, name, arguments, .. } => {
                write!(f, "  {guest} {name}({})", listed(arguments))
            }
            What::Call { function, arguments, status, why, answer, .. } => {
                let result = answer.as_ref().or(why.as_ref());
                let result = result.map_or(String::new(), |result| format!(" {result}"));
                write!(f, "    {function}({}) = {status}{result}", listed(arguments))
            }
            What::Return { value, .. } => write!(f, "  -> {value}"),
            What::Trap { message, .. } => write!(f, "  -> trap: {message}"),
        }
    }
}

fn listed(arguments: &[Argument]) -> String {
    let argument = |Argument { name, value }: &Argument| format!("{name}={value}");
    arguments.iter().map(argument).collect::<Vec<_>>().join(", ")
}

impl What {
    /// The guest that it is about; none outside of guests.
    pub fn guest(&self) -> Option<&str> {
        match self {
            Self::Callback { guest, .. }
            | Self::Call { guest, .. }
            | Self::Return { guest, .. }
            | Self::Trap { guest, .. } => Some(guest),
            Self::Note { .. } | Self::Other { .. } => None,
        }
    }

    /// Whether a host call was refused.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Call { status, .. } if status != "ok" && status != "0")
    }
}

/// The events as a person reads them, a line each. What a guest does after another one says whose it is.
pub fn lines(events: &[Event]) -> Vec<String> {
    let mut last = None;
    let line = |event: &Event| {
        let text = event.to_string();
        let Some(guest) = event.what.guest() else { return text };
        let is_told = matches!(event.what, What::Callback { .. });
        if last.replace(guest.to_owned()).is_none_or(|last| last == guest) || is_told {
            return text;
        }
        let told = text.trim_start();
        format!("{:indent$}{guest} {told}", "", indent = text.len() - told.len())
    };
    events.iter().map(line).collect()
}

/// Turns a transcript into events.
pub fn events(entries: &[(Duration, Entry)]) -> Vec<Event> {
    // A guest that is called while another one runs is done before that goes on.
    let mut running: Vec<String> = Vec::new();
    let event = |(at, entry): &(Duration, Entry)| {
        if let Entry::Enter { guest, .. } = entry {
            running.push(guest.clone());
        }
        let what = what(entry, running.last().map_or("", String::as_str));
        if let Entry::Return { .. } | Entry::Trap(_) = entry {
            running.pop();
        }
        Event { at: *at, what }
    };
    entries.iter().map(event).collect()
}

/// Named arguments.
pub(super) fn arguments<N: ToString, V: ToString>(
    pairs: impl IntoIterator<Item = (N, V)>,
) -> Vec<Argument> {
    let argument =
        |(name, value): (N, V)| Argument { name: name.to_string(), value: value.to_string() };
    pairs.into_iter().map(argument).collect()
}

fn what(entry: &Entry, guest: &str) -> What {
    let guest = guest.to_owned();
    match entry {
        Entry::Note(text) => What::Note { text: text.trim().to_owned() },
        Entry::Enter { callback, .. } => What::Callback {
            guest,
            name: name(*callback),
            context: callback.as_ref().map(Callback::context),
            arguments: callback.as_ref().map(Callback::arguments).map_or_else(Vec::new, arguments),
        },
        Entry::Call { call, reply } => {
            let (status, why, answer) = match reply {
                Reply::Done(Answer::Nothing) => ("ok".into(), None, None),
                Reply::Done(answer) => ("ok".into(), None, Some(answer.to_string())),
                Reply::Refused { status, why } | Reply::Untimely { status, why } => {
                    (status.to_string(), Some(why.to_string()), None)
                }
                Reply::Failed { status, why, answer } => {
                    (status.to_string(), Some(why.to_string()), Some(answer.to_string()))
                }
                Reply::Trap { why } => ("trap".into(), Some(why.to_string()), None),
            };
            let (function, arguments) = (call.function().to_string(), arguments(call.arguments()));
            What::Call { guest, function, arguments, status, why, answer }
        }
        Entry::Fault { function, fault } => What::Call {
            guest,
            function: function.to_string(),
            arguments: Vec::new(),
            status: function.status_of_faults().to_string(),
            why: Some(fault.to_string()),
            answer: None,
        },
        Entry::Return { callback, word } => What::Return {
            guest,
            name: name(*callback),
            value: match callback {
                Some(callback) => callback.kind().show_return(*word),
                None => "started".into(),
            },
        },
        Entry::Trap(report) => What::Trap { guest, message: report.outcome().to_string() },
    }
}

fn name(callback: Option<Callback>) -> String {
    callback.map_or("start", |callback| callback.kind().name()).to_owned()
}

fn seconds<S: Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.as_secs_f64())
}
