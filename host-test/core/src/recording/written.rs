//! A session as a scenario: what came becomes its steps, and what was decided what they expect.
//!
//! Requests that were under way at once stand together. One that came to no end is left out; what a
//! scenario cannot say is an error. The wall clock is that of the scenario.

mod callout;
mod peers;
mod request;

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::told::{Exchange, Stream, Told};
use super::{RecordedFilter, Session};
use callout::planned;
use peers::Peers;
use request::request;

/// The most requests that a step has under way at once.
const MOST_AT_ONCE: usize = 16;

/// The longest time that a real proxy is waited for.
const LONGEST_ADVANCE: Duration = Duration::from_mins(1);

/// A scenario that says what a session recorded.
#[derive(Clone, Debug)]
pub struct Written {
    /// The scenario, as its file has it.
    pub scenario: Value,
    /// How many requests were under way when the recording ended, and are not in it.
    pub unfinished: usize,
}

/// Writes a session as a scenario with a name.
///
/// # Errors
///
/// [`NotWritten`].
pub fn as_scenario(session: &Session, name: &str) -> Result<Written, NotWritten> {
    let told = Told::read(session);
    let peers = Peers::of(&told)?;
    let mut steps = steps(&told, &peers)?;
    if steps.is_empty() {
        return Err(NotWritten::Nothing);
    }
    for callout in &told.callouts {
        let place = steps.iter().rposition(|(begin, _)| *begin <= callout.asked);
        if let Some((_, step)) = steps.get_mut(place.unwrap_or_default()) {
            add(step, "callouts", planned(callout));
        }
    }
    let unfinished = told.streams.iter().filter(|stream| stream.end.is_none()).count();
    let steps = steps.into_iter().map(|(_, step)| step).collect();
    Ok(Written { scenario: whole(session, name, &peers, steps), unfinished })
}

/// The steps, each with when it begins.
fn steps(told: &Told, peers: &Peers<'_>) -> Result<Vec<(Duration, Value)>, NotWritten> {
    let mut steps = Vec::new();
    let (mut now, mut exchanges) = (Duration::ZERO, told.exchanges.iter().peekable());
    for group in groups(told)? {
        while let Some(exchange) = exchanges.next_if(|exchange| exchange.at <= group.begin) {
            advance(&mut steps, now, exchange.at);
            now = exchange.at;
            steps.push((now, configure(exchange)));
        }
        let mut meanwhile = None;
        while let Some(exchange) = exchanges.next_if(|exchange| exchange.at < group.end) {
            let waits = group.waits_at(exchange.at).filter(|_| meanwhile.is_none());
            let waits = waits.ok_or_else(|| group.exchanged(exchange.at))?;
            meanwhile = Some((waits, configure(exchange)));
        }
        advance(&mut steps, now, group.begin);
        now = group.end;
        steps.push((group.begin, group.step(meanwhile, peers)));
    }
    steps.extend(exchanges.map(|exchange| (exchange.at, configure(exchange))));
    Ok(steps)
}

fn advance(steps: &mut Vec<(Duration, Value)>, now: Duration, until: Duration) {
    let passed = until.saturating_sub(now);
    if passed >= Duration::from_millis(1) {
        steps.push((now, json!({ "advance": time(passed) })));
    }
}

/// Requests that were under way at once, in their order.
struct Group<'a> {
    begin: Duration,
    end: Duration,
    streams: Vec<&'a Stream>,
}

fn groups(told: &Told) -> Result<Vec<Group<'_>>, NotWritten> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for stream in &told.streams {
        let Some(end) = stream.end else { continue };
        match groups.last_mut().filter(|group| stream.begin < group.end) {
            Some(group) => {
                group.end = group.end.max(end);
                group.streams.push(stream);
            }
            None => groups.push(Group { begin: stream.begin, end, streams: vec![stream] }),
        }
    }
    match groups.iter().find(|group| group.streams.len() > MOST_AT_ONCE) {
        Some(group) => Err(NotWritten::AtOnce {
            at: group.begin,
            first: group.first(),
            requests: group.streams.len(),
        }),
        None => Ok(groups),
    }
}

impl Group<'_> {
    /// Its step, with what a filter gets while one of the requests waits for its upstream.
    fn step(&self, meanwhile: Option<(usize, Value)>, peers: &Peers<'_>) -> Value {
        let requests = self.streams.iter().map(|stream| {
            let mut request = request(stream);
            if let Some(peer) = peers.name(stream.connection) {
                put(&mut request, "peer", json!(peer));
            }
            request
        });
        let mut requests: Vec<Value> = requests.collect();
        if let Some((waits, configure)) = meanwhile
            && let Some(request) = requests.get_mut(waits)
        {
            put(request, "meanwhile", configure);
        }
        if requests.len() > 1 {
            for (stream, request) in self.streams.iter().zip(&mut requests) {
                put(request, "after", json!(time(stream.begin.saturating_sub(self.begin))));
            }
            return json!({ "together": requests });
        }
        requests.pop().unwrap_or_default()
    }

    /// The place of the request whose upstream was the last to be asked by then and had not answered, if
    /// none began since: each finds the same filter if it is exchanged once that upstream is asked.
    fn waits_at(&self, at: Duration) -> Option<usize> {
        let waits = |stream: &Stream| {
            let has_answer = stream.answer.as_ref().is_some_and(|answer| answer.at <= at);
            let is_over = stream.end.is_some_and(|end| end <= at);
            stream.decision.upstream().is_some() && stream.asked <= at && !has_answer && !is_over
        };
        let waiting = self.streams.iter().enumerate().filter(|(_, stream)| waits(stream));
        let (place, last) = waiting.max_by_key(|(_, stream)| stream.asked)?;
        let began = |stream: &&Stream| stream.begin > last.asked && stream.begin <= at;
        (!self.streams.iter().any(began)).then_some(place)
    }

    fn exchanged(&self, at: Duration) -> NotWritten {
        NotWritten::ExchangedMeanwhile { at, first: self.first() }
    }

    /// The first of its requests, as it is told.
    fn first(&self) -> String {
        let heads = self.streams.iter().map(|stream| &stream.head);
        heads.map(|head| format!("{} {}", head.method, head.path)).next().unwrap_or_default()
    }
}

/// The scenario around its steps.
fn whole(session: &Session, name: &str, peers: &Peers<'_>, steps: Vec<Value>) -> Value {
    let head = &session.head;
    let mut whole = json!({
        "name": name,
        "filters": head.filters.iter().map(filter).collect::<Vec<_>>(),
        "workers": head.workers,
        "clusters": head.clusters,
    });
    peers.put(&mut whole);
    if !head.imports.is_empty() {
        put(&mut whole, "imports", json!(head.imports));
    }
    if session.records.windows(2).any(is_long) || !head.imports.is_empty() {
        let reason = "a real proxy would be waited for too long, or lacks imports";
        put(&mut whole, "only", json!({ "on": ["wasmtime", "native"], "reason": reason }));
    }
    put(&mut whole, "steps", Value::Array(steps));
    whole
}

fn is_long(pair: &[super::Record]) -> bool {
    matches!(pair, [one, next] if next.at().saturating_sub(one.at()) > LONGEST_ADVANCE)
}

fn filter(filter: &RecordedFilter) -> Value {
    let mut written = json!({
        "filter": filter.filter,
        "config": config(&filter.config),
        "allow_on_headers_stop_iteration": filter.allow_on_headers_stop_iteration,
    });
    if let Some(name) = &filter.name {
        put(&mut written, "name", json!(name));
    }
    for (key, id) in [("root_id", &filter.root_id), ("vm_id", &filter.vm_id)] {
        if !id.is_empty() {
            put(&mut written, key, json!(id));
        }
    }
    if !filter.vm_config.is_empty() {
        put(&mut written, "vm_config", config(&filter.vm_config));
    }
    if !filter.environment.is_empty() {
        put(&mut written, "environment", json!(filter.environment));
    }
    written
}

/// A configuration as a tree where it is one, else as text.
fn config(bytes: &[u8]) -> Value {
    let tree = serde_json::from_slice(bytes).ok().filter(Value::is_object);
    tree.unwrap_or_else(|| json!(String::from_utf8_lossy(bytes)))
}

fn configure(exchange: &Exchange) -> Value {
    let mut configure = json!({
        "filter": exchange.place,
        "config": config(&exchange.filter.config),
    });
    if let Some(words) = &exchange.refused {
        put(&mut configure, "refused", json!(words));
    }
    json!({ "configure": configure })
}

fn put(to: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = to {
        map.insert(key.to_owned(), value);
    }
}

/// Puts a value behind the others of a list.
fn add(to: &mut Value, key: &str, value: Value) {
    let Value::Object(map) = to else { return };
    let list = map.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(value);
    }
}

fn time(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// A session that no scenario can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// No request came to an end.
    Nothing,
    /// A certificate has a name of a kind that scenarios do not have.
    Peer {
        /// When its client connected.
        at: Duration,
    },
    /// More requests were under way at once than a step may have.
    AtOnce {
        /// Since when.
        at: Duration,
        /// The first of them: method and path.
        first: String,
        /// How many.
        requests: usize,
    },
    /// A filter was exchanged while requests were under way, and not just once while one of them waited for
    /// its upstream.
    ExchangedMeanwhile {
        /// When.
        at: Duration,
        /// The first of them: method and path.
        first: String,
    },
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no request came to an end in it"),
            Self::Peer { at } => write!(
                f,
                "a client connected at {at:?} with a certificate, or to one, that has a name which is \
                 no URI, DNS name, address for mail or address of the Internet protocol"
            ),
            Self::AtOnce { at, first, requests } => write!(
                f,
                "{requests} requests were under way at once from {at:?} on, the first of them {first}; \
                 a step has {MOST_AT_ONCE} at most"
            ),
            Self::ExchangedMeanwhile { at, first } => write!(
                f,
                "a filter was exchanged at {at:?}, while {first} or a request behind it was under way; \
                 a step can say that once, while a request waits for its upstream"
            ),
        }
    }
}

impl std::error::Error for NotWritten {}
