//! Values of headers that are not for others to read.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use super::Record;
use crate::offline::{Event, Incoming, Input, Outgoing, Output, Part, Sent, StreamId};
use crate::scenario::HeaderLine;

/// Headers whose values are replaced unless something else is asked for.
pub const REDACTED: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
];

/// Values that are shorter are replaced only where they are a whole value.
const LEAST_PART_BYTES: usize = 6;

/// Replaces the values of some headers: the same value by the same word, which tells nothing of it to
/// whoever does not know this process.
///
/// Filters copy values. So long as a stream is under way, its values are replaced wherever they stand in
/// header lines and paths, whatever the name; bodies stay as they are.
pub struct Redaction {
    names: Vec<String>,
    key: RandomState,
    /// The values of each stream that is under way, with their words.
    values: BTreeMap<StreamId, Vec<Replaced>>,
    /// How many streams have begun.
    streams: u64,
}

/// A value with its word.
type Replaced = (Vec<u8>, Vec<u8>);

impl Redaction {
    /// Replaces the values of these headers, named in lower case.
    pub fn new(names: Vec<String>) -> Self {
        Self { names, key: RandomState::new(), values: BTreeMap::new(), streams: 0 }
    }

    /// Replaces what stands in a record, the records coming in their order.
    pub fn apply(&mut self, record: &mut Record) {
        let stream = match &record.input {
            Input::Open { .. } => {
                self.streams += 1;
                Some(StreamId(self.streams))
            }
            Input::Request(stream, _)
            | Input::Leave(stream)
            | Input::Answer { stream, .. }
            | Input::Response(stream, _)
            | Input::Break(stream) => Some(*stream),
            Input::Connect(_)
            | Input::Disconnect(_)
            | Input::Callout(..)
            | Input::Time
            | Input::Exchange { .. } => None,
        };
        self.input(stream, &mut record.input);
        for output in &mut record.outputs {
            self.output(output);
        }
        for output in &record.outputs {
            if let Output::Stream(stream, Event::Over(_)) = output {
                self.values.remove(stream);
            }
        }
    }

    fn input(&mut self, stream: Option<StreamId>, input: &mut Input) {
        match input {
            Input::Open { head, .. } => {
                self.lines(stream, &mut head.headers);
                let mut path = std::mem::take(&mut head.path).into_bytes();
                self.copies(&mut path);
                head.path = String::from_utf8_lossy(&path).into_owned();
            }
            Input::Answer { headers, .. } => self.lines(stream, headers),
            Input::Request(_, part) | Input::Response(_, part) => self.part(stream, part),
            Input::Callout(_, incoming) => match incoming {
                Incoming::Answer { headers, trailers, .. } => {
                    self.lines(None, headers);
                    self.lines(None, trailers);
                }
                Incoming::InitialMetadata(lines) | Incoming::Closed { trailers: lines, .. } => {
                    self.lines(None, lines);
                }
                Incoming::Message(_) | Incoming::Refused | Incoming::Reset | Incoming::Broken => {}
            },
            Input::Connect(_)
            | Input::Disconnect(_)
            | Input::Leave(_)
            | Input::Break(_)
            | Input::Time
            | Input::Exchange { .. } => {}
        }
    }

    fn output(&mut self, output: &mut Output) {
        match output {
            Output::Stream(stream, Event::Request(Sent::Head { head, .. })) => {
                self.lines(Some(*stream), &mut head.headers);
                self.copies(&mut head.path);
            }
            Output::Stream(stream, Event::Response(Sent::Head { head, .. })) => {
                self.lines(Some(*stream), &mut head.headers);
            }
            Output::Stream(
                stream,
                Event::Request(Sent::Part(part)) | Event::Response(Sent::Part(part)),
            ) => self.part(Some(*stream), part),
            Output::Callout(_, Outgoing::Head { headers, .. }) => self.lines(None, headers),
            Output::Stream(_, Event::GivesUp | Event::Over(_))
            | Output::Callout(..)
            | Output::Refused(_) => {}
        }
    }

    fn part(&mut self, stream: Option<StreamId>, part: &mut Part) {
        if let Part::Trailers(lines) = part {
            self.lines(stream, lines);
        }
    }

    fn lines(&mut self, stream: Option<StreamId>, lines: &mut [HeaderLine]) {
        for (name, value) in lines {
            let is_named = self.names.iter().any(|redacted| redacted.as_bytes() == name);
            if !is_named {
                self.copies(value);
            } else if !value.is_empty() {
                let word = format!("redacted-{:016x}", self.key.hash_one(&*value)).into_bytes();
                let value = std::mem::replace(value, word.clone());
                let known = stream.map(|stream| self.values.entry(stream).or_default());
                if let Some(known) = known.filter(|all| all.iter().all(|(own, _)| *own != value)) {
                    known.push((value, word));
                }
            }
        }
    }

    /// Replaces what filters have copied out of headers that are redacted.
    fn copies(&self, text: &mut Vec<u8>) {
        for (value, word) in self.values.values().flatten() {
            if text == value {
                text.clone_from(word);
            } else if value.len() >= LEAST_PART_BYTES {
                replace(text, value, word);
            }
        }
    }
}

/// Replaces a value wherever it stands; what is put in its place is not looked at again.
fn replace(text: &mut Vec<u8>, value: &[u8], word: &[u8]) {
    let mut from = 0;
    while let Some(rest) = text.get(from..)
        && let Some(at) = rest.windows(value.len()).position(|part| part == value)
    {
        let at = from + at;
        text.splice(at..at + value.len(), word.iter().copied());
        from = at + word.len();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::offline::{Head, Over};
    use crate::proxy::Received;

    fn line(name: &str, value: &str) -> HeaderLine {
        (name.as_bytes().to_vec(), value.as_bytes().to_vec())
    }

    fn open(headers: Vec<HeaderLine>) -> Record {
        let head = Head {
            method: "GET".into(),
            path: "/?t=secret-1".into(),
            authority: "a".into(),
            headers,
        };
        Record::new(Duration::ZERO, Input::Open { worker: 0, connection: None, head, end: true })
    }

    fn value(record: &Record) -> String {
        let Input::Open { head, .. } = &record.input else { panic!() };
        String::from_utf8(head.headers[0].1.clone()).unwrap()
    }

    #[test]
    fn the_same_value_is_the_same_word_also_where_it_was_copied() {
        let mut redaction = Redaction::new(vec!["authorization".into()]);
        let mut records = ["secret-1", "secret-1", "secret-2"]
            .map(|token| open(vec![line("authorization", token)]));
        let [first, ..] = &mut records;
        let head = Received {
            cluster: None,
            method: b"GET".to_vec(),
            path: b"/?t=secret-1".to_vec(),
            headers: vec![line("x-copy", "Bearer secret-1"), line("x-user", "alice")],
            body: Vec::new(),
            trailers: Vec::new(),
        };
        first.outputs = vec![
            Output::Stream(StreamId(1), Event::Request(Sent::Head { head, end: true })),
            Output::Stream(StreamId(1), Event::Over(Over { is_reset: false, has_arrived: true })),
        ];
        for record in &mut records {
            redaction.apply(record);
        }
        let [first, second, third] = records;
        assert!(value(&first).starts_with("redacted-"));
        assert_eq!(value(&first), value(&second));
        assert_ne!(value(&first), value(&third));
        assert!(!first.line().contains("secret-1"), "{}", first.line());
        assert!(first.line().contains("alice"));
        // What ended is forgotten, and with it what it had.
        assert_eq!(redaction.values.len(), 2);
    }

    #[test]
    fn a_value_that_stands_in_its_own_word_is_replaced_once() {
        let mut redaction = Redaction::new(vec!["cookie".into()]);
        let mut record =
            open(vec![line("cookie", "redacted"), line("x-copy", "redacted redacted")]);
        redaction.apply(&mut record);
        let word = value(&record);
        assert!(
            record.line().contains(&format!(r#"["x-copy","{word} {word}"]"#)),
            "{}",
            record.line()
        );
    }
}
