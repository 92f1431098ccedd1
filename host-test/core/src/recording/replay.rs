//! Plays a session again, in virtual time, and compares what comes of it with what came of it then.
//!
//! Clients do what they did when they did it. Upstreams and services answer as long after they were asked as
//! they did then, and so find their question also where another filter asks later, or does not ask at all.

mod question;
mod replayed;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::decision::Decision;
use super::{Record, Session};
use crate::offline::{
    CalloutId, Event, Fed, Incoming, Input, Loader, Output, Part, Run, Sent, StreamId,
};
use crate::proxy::{Configured, HostFailure};
use crate::report::difference;
use question::Question;

pub use replayed::{Changed, Refusal, Replayed};

/// The status with which an upstream answers that was not asked then.
const MADE_UP_STATUS: u16 = 200;

/// Plays a session on a proxy that has just started. Filters that were exchanged while it was recorded are
/// exchanged again if there is a loader for them.
///
/// # Errors
///
/// [`HostFailure`] when a filter does what ends a proxy, with when it did.
pub fn replay(
    session: &Session,
    mut run: Run,
    loader: Option<&Loader<'_>>,
) -> Result<Replayed, HostFailure> {
    run.set_clock(session.head.wall());
    run.answer_elsewhere();
    let mut player = Player::new(session, run);
    while let Some((&key @ (at, index, _), _)) = player.due.first_key_value() {
        let Some(due) = player.due.remove(&key) else { break };
        if player.last_told.is_some_and(|told| index > told) {
            player.note_metrics();
        }
        let input = match due {
            Due::Recorded => session.records.get(index).map(|record| record.input.clone()),
            Due::Callout(own) => session.records.get(index).map(|record| match &record.input {
                Input::Callout(_, incoming) => Input::Callout(own, incoming.clone()),
                other => other.clone(),
            }),
            Due::MadeUp(input) => Some(input),
        };
        let Some(input) = input else { continue };
        match loader {
            Some(loader) => player.feed(at, index, input, loader)?,
            None if matches!(input, Input::Exchange { .. }) => {}
            None => player.feed(at, index, input, &|_| {
                Err(crate::proxy::StartError::Module("no filter is exchanged".into()))
            })?,
        }
    }
    Ok(player.compare())
}

/// What happens then: an input of a record, an answer to a callout of ours, or what nobody has recorded.
enum Due {
    Recorded,
    Callout(CalloutId),
    MadeUp(Input),
}

/// When, behind which record, and in which order.
type Key = (Duration, usize, u64);

struct Player<'a> {
    session: &'a Session,
    run: Run,
    due: BTreeMap<Key, Due>,
    order: u64,
    /// What came of each stream, then and now, with when it began.
    then: BTreeMap<StreamId, (Duration, Decision)>,
    now: BTreeMap<StreamId, Decision>,
    /// What upstreams sent, by their streams.
    upstreams: BTreeMap<StreamId, Answers>,
    callouts: Vec<RecordedCallout>,
    /// The last record that told of metrics, and what they were then and now.
    last_told: Option<usize>,
    metrics_then: BTreeMap<String, u64>,
    metrics_now: Option<BTreeMap<String, u64>>,
    made_up: BTreeSet<StreamId>,
    unanswered: usize,
    refusals: Vec<Refusal>,
}

/// What came back after something was asked: by records, each so long after.
#[derive(Clone, Default)]
struct Answers {
    asked: Duration,
    records: Vec<(Duration, usize)>,
}

impl Answers {
    fn add(&mut self, record: &Record, index: usize) {
        self.records.push((record.at().saturating_sub(self.asked), index));
    }
}

struct RecordedCallout {
    id: CalloutId,
    question: Question,
    answers: Answers,
    is_used: bool,
}

impl<'a> Player<'a> {
    fn new(session: &'a Session, run: Run) -> Self {
        let mut player = Self {
            session,
            run,
            due: BTreeMap::new(),
            order: 0,
            then: BTreeMap::new(),
            now: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            callouts: Vec::new(),
            last_told: None,
            metrics_then: BTreeMap::new(),
            metrics_now: None,
            made_up: BTreeSet::new(),
            unanswered: 0,
            refusals: Vec::new(),
        };
        let mut streams = 0;
        for (index, record) in session.records.iter().enumerate() {
            match &record.input {
                Input::Answer { stream, .. }
                | Input::Response(stream, _)
                | Input::Break(stream) => {
                    player.upstreams.entry(*stream).or_default().add(record, index);
                }
                Input::Callout(id, _) => {
                    let mut callouts = player.callouts.iter_mut();
                    if let Some(callout) = callouts.find(|callout| callout.id == *id) {
                        callout.answers.add(record, index);
                    }
                }
                input => {
                    if let Input::Open { head, .. } = input {
                        streams += 1;
                        let begun = (record.at(), Decision::begin(head));
                        player.then.insert(StreamId(streams), begun);
                    }
                    player.put(record.at(), index, Due::Recorded);
                }
            }
            player.learn(index, record);
        }
        player
    }

    /// Takes in what the proxy did then.
    fn learn(&mut self, index: usize, record: &Record) {
        for output in &record.outputs {
            let Output::Stream(stream, event) = output else { continue };
            if let Event::Request(Sent::Head { .. }) = event {
                let answers = Answers { asked: record.at(), records: Vec::new() };
                self.upstreams.insert(*stream, answers);
            }
            if let Some((_, decision)) = self.then.get_mut(stream) {
                decision.take(event.clone());
            }
        }
        for (id, question) in Question::all(&record.outputs) {
            let answers = Answers { asked: record.at(), records: Vec::new() };
            self.callouts.push(RecordedCallout { id, question, answers, is_used: false });
        }
        if record.outputs.iter().any(|output| matches!(output, Output::Stream(_, Event::Over(_)))) {
            self.last_told = Some(index);
        }
        self.metrics_then.extend(record.metrics.clone());
    }

    fn put(&mut self, at: Duration, index: usize, due: Due) {
        self.order += 1;
        self.due.insert((at, index, self.order), due);
    }

    fn feed(
        &mut self,
        at: Duration,
        index: usize,
        input: Input,
        loader: &Loader<'_>,
    ) -> Result<(), HostFailure> {
        if let Input::Open { head, .. } = &input {
            let stream = StreamId(u64::try_from(self.now.len()).unwrap_or(u64::MAX) + 1);
            self.now.insert(stream, Decision::begin(head));
        }
        let fed = self.run.feed(at, input, loader);
        let fed = fed.and_then(|fed| {
            self.note_exchange(at, index, fed);
            let outputs: Vec<Output> = std::iter::from_fn(|| self.run.next_output()).collect();
            self.run.take_logs();
            self.run.check().map(|()| outputs)
        });
        let outputs = fed
            .map_err(|failure| HostFailure::Impossible { what: format!("at {at:?}: {failure}") })?;
        let questions = Question::all(&outputs);
        for output in outputs {
            if let Output::Stream(stream, event) = output {
                self.take(at, index, stream, event);
            }
        }
        for (id, question) in questions {
            self.answer(at, index, id, &question);
        }
        Ok(())
    }

    /// Compares what becomes of a filter that is exchanged with what became of it then.
    fn note_exchange(&mut self, at: Duration, index: usize, fed: Fed) {
        let Fed::Exchanged(configured) = fed else { return };
        let outputs = self.session.records.get(index).map_or(&[][..], |record| &record.outputs);
        let then = outputs.iter().find_map(|output| match output {
            Output::Refused(words) => Some(words.clone()),
            Output::Stream(..) | Output::Callout(..) => None,
        });
        let now = match configured {
            Configured::Accepted => None,
            Configured::Refused { words } => Some(words),
        };
        if then != now {
            self.refusals.push(Refusal { at, then, now });
        }
    }

    /// Takes what the proxy does now, and has the upstream answer what it is asked.
    fn take(&mut self, at: Duration, index: usize, stream: StreamId, event: Event) {
        let is_known = self.upstreams.contains_key(&stream);
        match &event {
            Event::Request(Sent::Head { .. }) if is_known => {
                let answers = self.upstreams.get(&stream).cloned().unwrap_or_default();
                for (delay, record) in answers.records {
                    self.put(at.saturating_add(delay), record, Due::Recorded);
                }
            }
            Event::Request(
                Sent::Head { end: true, .. } | Sent::Part(Part::End | Part::Trailers(_)),
            ) if !is_known => {
                self.made_up.insert(stream);
                let headers = Vec::new();
                let answer = Input::Answer { stream, status: MADE_UP_STATUS, headers, end: true };
                self.put(at, index, Due::MadeUp(answer));
            }
            Event::Request(_) | Event::GivesUp | Event::Response(_) | Event::Over(_) => {}
        }
        if let Some(decision) = self.now.get_mut(&stream) {
            decision.take(event);
        }
    }

    /// Answers a callout as the same one was answered: each answer once, and the last one again.
    fn answer(&mut self, at: Duration, index: usize, id: CalloutId, question: &Question) {
        let redacted = &self.session.head.redacted;
        let blank = question.without(redacted);
        let is_same = |callout: &RecordedCallout| callout.question == *question;
        let is_alike = |callout: &RecordedCallout| callout.question.without(redacted) == blank;
        let unused = |callout: &RecordedCallout| !callout.is_used;
        let callouts = &mut self.callouts;
        let found = callouts
            .iter()
            .position(|callout| unused(callout) && is_same(callout))
            .or_else(|| callouts.iter().position(|callout| unused(callout) && is_alike(callout)))
            .or_else(|| callouts.iter().rposition(is_alike));
        let Some(callout) = found.and_then(|found| callouts.get_mut(found)) else {
            self.unanswered += 1;
            return self.put(at, index, Due::MadeUp(Input::Callout(id, Incoming::Refused)));
        };
        callout.is_used = true;
        for (delay, record) in callout.answers.records.clone() {
            self.put(at.saturating_add(delay), record, Due::Callout(id));
        }
    }

    fn note_metrics(&mut self) {
        self.metrics_now.get_or_insert_with(|| self.run.metrics());
    }

    fn compare(mut self) -> Replayed {
        self.note_metrics();
        let mut replayed = Replayed {
            made_up: self.made_up.len(),
            unanswered: self.unanswered,
            refusals: self.refusals,
            missing: self.callouts.iter().filter(|callout| !callout.is_used).count(),
            ..Replayed::default()
        };
        let redacted = &self.session.head.redacted;
        for (stream, (at, then)) in self.then {
            let Some(now) = self.now.remove(&stream).filter(|_| then.is_over()) else {
                replayed.unfinished += 1;
                continue;
            };
            let (lines_then, lines_now) = (then.lines(redacted), now.lines(redacted));
            if lines_then == lines_now {
                replayed.same += 1;
                continue;
            }
            replayed.first.get_or_insert_with(|| {
                (stream, difference::of_lines(&lines_then, &lines_now, |then, now| then == now))
            });
            let kind = (then.verdict(), now.verdict());
            let changed = Changed { stream, at, request: then.request };
            replayed.otherwise.entry(kind).or_default().push(changed);
        }
        let metrics_now = self.metrics_now.unwrap_or_default();
        // They are told at the end of a request: when none ended, nothing is known of them.
        let names = self.metrics_then.keys().chain(metrics_now.keys());
        let names = names.filter(|_| self.last_told.is_some());
        for name in names.collect::<BTreeSet<_>>() {
            let values = (self.metrics_then.get(name).copied(), metrics_now.get(name).copied());
            if values.0.unwrap_or_default() != values.1.unwrap_or_default() {
                replayed.metrics.insert(name.clone(), values);
            }
        }
        replayed
    }
}
