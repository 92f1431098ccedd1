//! What comes of a session that is played again, and how that is told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::offline::StreamId;

/// How many requests are named of each kind of difference.
const MOST_NAMED: usize = 5;

/// What came of a session that was played again.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// How many requests were decided as they were.
    pub same: usize,
    /// How many were not, by what they came to then and now.
    pub otherwise: BTreeMap<(String, String), Vec<Changed>>,
    /// How many were still under way when the recording ended.
    pub unfinished: usize,
    /// How many went to the upstream that did not then: it answered them with 200 and no body.
    pub made_up: usize,
    /// How many callouts were made of which the recording has no answer: nobody took them.
    pub unanswered: usize,
    /// How many callouts were made then, and not now.
    pub missing: usize,
    /// What differs first, line by line.
    pub first: Option<(StreamId, String)>,
    /// Filters that were taken then and not now, or refused with other words.
    pub refusals: Vec<Refusal>,
    /// Metrics with another value at the end: then and now.
    pub metrics: BTreeMap<String, (Option<u64>, Option<u64>)>,
}

/// A request that was decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its stream.
    pub stream: StreamId,
    /// When it came.
    pub at: Duration,
    /// Method and path.
    pub request: String,
}

/// What became of a filter that was exchanged: the words with which it was refused, if it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When it came.
    pub at: Duration,
    /// What became of it then.
    pub then: Option<String>,
    /// What becomes of it now.
    pub now: Option<String>,
}

impl Replayed {
    /// How many requests there were whose decisions could be compared.
    pub fn compared(&self) -> usize {
        self.same + self.changed()
    }

    /// How many were decided otherwise.
    pub fn changed(&self) -> usize {
        self.otherwise.values().map(Vec::len).sum()
    }

    /// Whether everything is as it was.
    pub fn is_same(&self) -> bool {
        self.otherwise.is_empty()
            && self.metrics.is_empty()
            && self.refusals.is_empty()
            && (self.made_up, self.unanswered, self.missing) == (0, 0, 0)
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (compared, changed) = (self.compared(), self.changed());
        write!(f, "{compared} requests, {changed} decided otherwise")?;
        let mut note = |count: usize, what: &str| match count {
            0 => Ok(()),
            _ => write!(f, "\n  {count} {what}"),
        };
        note(self.unfinished, "under way when the recording ended, and not compared")?;
        note(
            self.made_up,
            "of an upstream that was not asked then: 200 without a body is assumed",
        )?;
        note(self.unanswered, "callouts that nobody answered then: refused")?;
        note(self.missing, "callouts of then that are not made")?;
        let mut kinds: Vec<_> = self.otherwise.iter().collect();
        kinds.sort_by_key(|(_, changed)| std::cmp::Reverse(changed.len()));
        for ((then, now), changed) in kinds {
            let kind = if then == now {
                format!("{then}, with another message")
            } else {
                format!("{then} -> {now}")
            };
            write!(f, "\n{:6}  {kind}", changed.len())?;
            for Changed { stream, at, request } in changed.iter().take(MOST_NAMED) {
                write!(f, "\n          #{stream} at {at:?}: {request}")?;
            }
            if changed.len() > MOST_NAMED {
                write!(f, "\n          …")?;
            }
        }
        if let Some((stream, difference)) = &self.first {
            write!(f, "\nthe first, #{stream}:\n  {}", difference.replace('\n', "\n  "))?;
        }
        for Refusal { at, then, now } in &self.refusals {
            let word = |refused: &Option<String>| match refused {
                Some(words) => format!("refused: {words}"),
                None => "taken".into(),
            };
            write!(f, "\nthe filter that came at {at:?} is {}, and was {}", word(now), word(then))?;
        }
        for (name, (then, now)) in &self.metrics {
            let value =
                |value: &Option<u64>| value.map_or("none".into(), |value| value.to_string());
            write!(f, "\n{name} is {}, and was {}", value(now), value(then))?;
        }
        Ok(())
    }
}
