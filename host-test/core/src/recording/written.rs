//! A session as a scenario: what came becomes its steps, and what was decided what they expect.
//!
//! Requests that were under way at once stand together. One that came to no end is left out; what a
//! scenario cannot say is an error. The wall clock is that of the scenario.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::json::{line_values, value};
use super::told::{Answer, Callout, Exchange, Message, Stream, Told};
use super::{RecordedFilter, Session};
use crate::offline::{CalloutKind, Incoming};
use crate::scenario::HeaderLine;

/// The most requests that a step has under way at once.
const MOST_AT_ONCE: usize = 16;

/// The longest time that a real proxy is waited for.
const LONGEST_ADVANCE: Duration = Duration::from_mins(1);

/// Lines that come from the wire and the proxy, not from its ends: nothing is made or expected of them.
const OF_THE_WIRE: [&[u8]; 9] = [
    b"connection",
    b"content-length",
    b"date",
    b"keep-alive",
    b"server",
    b"transfer-encoding",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-request-id",
];

/// Lines that every answer over gRPC has.
const OF_GRPC: [&[u8]; 3] = [b"content-type", b"grpc-message", b"grpc-status"];

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
    if told.has_tls {
        return Err(NotWritten::Tls);
    }
    let mut steps = steps(&told)?;
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
    Ok(Written { scenario: whole(session, name, steps), unfinished })
}

/// The steps, each with when it begins.
fn steps(told: &Told) -> Result<Vec<(Duration, Value)>, NotWritten> {
    let mut steps = Vec::new();
    let (mut now, mut exchanges) = (Duration::ZERO, told.exchanges.iter().peekable());
    for group in groups(told)? {
        while let Some(exchange) = exchanges.next_if(|exchange| exchange.at <= group.begin) {
            advance(&mut steps, now, exchange.at);
            now = exchange.at;
            steps.push((now, configure(exchange)));
        }
        if let Some(at) = exchanges.peek().map(|next| next.at).filter(|at| *at < group.end) {
            return Err(NotWritten::ExchangedMeanwhile { at });
        }
        advance(&mut steps, now, group.begin);
        now = group.end;
        steps.push((group.begin, group.step()));
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
        Some(group) => Err(NotWritten::AtOnce { at: group.begin, requests: group.streams.len() }),
        None => Ok(groups),
    }
}

impl Group<'_> {
    fn step(&self) -> Value {
        if let [only] = self.streams.as_slice() {
            return request(only);
        }
        let requests = self.streams.iter().map(|stream| {
            let mut request = request(stream);
            put(&mut request, "after", json!(time(stream.begin.saturating_sub(self.begin))));
            request
        });
        json!({ "together": requests.collect::<Vec<_>>() })
    }
}

/// The scenario around its steps.
fn whole(session: &Session, name: &str, steps: Vec<Value>) -> Value {
    let head = &session.head;
    let mut whole = json!({
        "name": name,
        "filters": head.filters.iter().map(filter).collect::<Vec<_>>(),
        "workers": head.workers,
        "clusters": head.clusters,
    });
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
    json!({
        "filter": filter.filter,
        "config": config(&filter.config),
        "allow_on_headers_stop_iteration": filter.allow_on_headers_stop_iteration,
    })
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

/// A request with its upstream and what is expected.
fn request(stream: &Stream) -> Value {
    let head = &stream.head;
    let mut request =
        json!({ "method": head.method, "path": head.path, "authority": head.authority });
    message(&mut request, &head.headers, &stream.body);
    // Who got an answer before its end is taken to have sent it: nothing depends on that any more.
    let is_unfinished = |body: &Message| !body.is_over && stream.left.is_some();
    if is_unfinished(&stream.body) {
        put(&mut request, "unfinished", json!(true));
    }
    if let Some(left) = stream.left {
        put(&mut request, "disconnect", json!(time(left.saturating_sub(stream.begin))));
    }
    let mut step = json!({ "request": request, "worker": stream.worker });
    if let Some(answer) = &stream.answer {
        let mut upstream = upstream(answer, stream.asked);
        if is_unfinished(&answer.body) {
            put(&mut upstream, "unfinished", json!(true));
        }
        put(&mut step, "upstream", upstream);
    }
    if stream.is_broken {
        put(&mut step, "upstream", json!({ "reset": true }));
    }
    put(&mut step, "expect", expected(stream));
    step
}

fn upstream(answer: &Answer, asked: Duration) -> Value {
    let mut upstream = json!({ "status": answer.status });
    message(&mut upstream, &answer.headers, &answer.body);
    put(&mut upstream, "delay", json!(time(answer.at.saturating_sub(asked))));
    upstream
}

/// Adds header lines and what follows them; of the wire is what the scenario makes itself.
fn message(to: &mut Value, headers: &[HeaderLine], body: &Message) {
    let has_length = headers.iter().any(|(name, _)| name == b"content-length");
    put(to, "headers", own_lines(headers, &[]));
    if has_length || body.chunks.len() == 1 {
        put(to, "body", value(&body.chunks.concat()));
    } else if !body.chunks.is_empty() {
        put(to, "body", body.chunks.iter().map(|chunk| value(chunk)).collect());
    }
    if !body.trailers.is_empty() {
        put(to, "trailers", line_values(&body.trailers));
    }
}

/// The lines that a scenario does not make itself: without pseudo-headers, and without `made`.
fn own_lines(lines: &[HeaderLine], made: &[&[u8]]) -> Value {
    let own = lines.iter().filter(|(name, _)| {
        !is_of_the_wire(name) && !name.starts_with(b":") && !made.contains(&name.as_slice())
    });
    line_values(&own.cloned().collect::<Vec<_>>())
}

/// What became of a request: what both ends got, and lines that the filters have made.
fn expected(stream: &Stream) -> Value {
    let decision = &stream.decision;
    let upstream = match decision.upstream() {
        None => json!("none"),
        Some(got) => {
            let mut upstream = json!({ "method": value(&got.method), "path": value(&got.path) });
            put(&mut upstream, "headers", made(&got.headers, &stream.head.headers));
            upstream
        }
    };
    let response = match decision.response() {
        _ if decision.is_reset() => json!("reset"),
        _ if stream.left.is_some() => json!("left"),
        None => json!("none"),
        Some(got) => {
            let sent = stream.answer.as_ref().map_or(&[][..], |answer| &answer.headers);
            let mut response = json!({ "status": got.status, "body": value(&got.body) });
            put(&mut response, "headers", made(&got.headers, sent));
            response
        }
    };
    json!({ "upstream": upstream, "response": response })
}

/// The lines of each name that are not as they were sent.
fn made(got: &[HeaderLine], sent: &[HeaderLine]) -> Value {
    let of = |lines: &[HeaderLine], name: &[u8]| -> Vec<Vec<u8>> {
        let own = lines.iter().filter(|(own, _)| own == name);
        own.map(|(_, value)| value.clone()).collect()
    };
    let is_made =
        |(name, _): &&HeaderLine| !is_of_the_wire(name) && of(got, name) != of(sent, name);
    line_values(&got.iter().filter(is_made).cloned().collect::<Vec<_>>())
}

fn is_of_the_wire(name: &[u8]) -> bool {
    OF_THE_WIRE.contains(&name) || name.starts_with(b"x-envoy-")
}

/// What a callout met.
fn planned(callout: &Callout) -> Value {
    let pseudo = |wanted: &[u8]| {
        let found = callout.headers.iter().find(|(name, _)| name == wanted);
        found.map_or(&[][..], |(_, value)| value)
    };
    let path = pseudo(b":path");
    let (key, met) = met(callout);
    let mut planned = json!({ "cluster": callout.cluster, key: met });
    if key == "refused" {
        // Nobody listens, so nobody can tell what came.
        return planned;
    }
    match callout.kind {
        CalloutKind::Http => {
            let expect = json!({ "method": value(pseudo(b":method")), "path": value(path) });
            put(&mut planned, "expect", expect);
        }
        CalloutKind::GrpcCall | CalloutKind::GrpcStream => {
            let path = String::from_utf8_lossy(path);
            let (service, method) =
                path.trim_start_matches('/').split_once('/').unwrap_or((&path, ""));
            put(&mut planned, "grpc", json!({ "service": service, "method": method }));
        }
    }
    planned
}

fn met(callout: &Callout) -> (&'static str, Value) {
    let Some((first, incoming)) = callout.came.first() else { return ("never", json!(true)) };
    let delay = time(first.saturating_sub(callout.asked));
    match incoming {
        Incoming::Refused => return ("refused", json!(true)),
        Incoming::Reset | Incoming::Broken => return ("reset", json!(true)),
        Incoming::Answer { headers, body, trailers } => {
            let status = headers.iter().find(|(name, _)| name == b":status");
            let status =
                status.and_then(|(_, value)| str::from_utf8(value).ok()?.parse::<u16>().ok());
            let mut answer = json!({ "delay": delay, "headers": own_lines(headers, &[]) });
            if let Some(status) = status {
                put(&mut answer, "status", json!(status));
            }
            put(&mut answer, "body", value(body));
            if !trailers.is_empty() {
                put(&mut answer, "trailers", line_values(trailers));
            }
            return ("answer", answer);
        }
        Incoming::InitialMetadata(_) | Incoming::Message(_) | Incoming::Closed { .. } => {}
    }
    let mut answer = json!({ "delay": delay });
    for (_, incoming) in &callout.came {
        match incoming {
            Incoming::InitialMetadata(lines) => {
                put(&mut answer, "metadata", own_lines(lines, &OF_GRPC));
            }
            Incoming::Message(message) => add(&mut answer, "messages", value(message)),
            Incoming::Closed { trailers, status, message } => {
                put(&mut answer, "trailers", own_lines(trailers, &OF_GRPC));
                put(&mut answer, "status", json!(status));
                put(&mut answer, "message", value(message));
            }
            Incoming::Answer { .. } | Incoming::Refused | Incoming::Reset | Incoming::Broken => {}
        }
    }
    ("answer_grpc", answer)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// No request came to an end.
    Nothing,
    /// Clients showed certificates, whose keys a recording does not have.
    Tls,
    /// More requests were under way at once than a step may have.
    AtOnce {
        /// Since when.
        at: Duration,
        /// How many.
        requests: usize,
    },
    /// A filter was exchanged while requests were under way.
    ExchangedMeanwhile {
        /// When.
        at: Duration,
    },
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no request came to an end in it"),
            Self::Tls => f.write_str(
                "clients came with TLS, and a recording does not have their keys; \
                 write such a scenario with `peers`",
            ),
            Self::AtOnce { at, requests } => write!(
                f,
                "{requests} requests were under way at once at {at:?}; a step has {MOST_AT_ONCE} at most"
            ),
            Self::ExchangedMeanwhile { at } => {
                write!(f, "a filter was exchanged at {at:?} while requests were under way")
            }
        }
    }
}

impl std::error::Error for NotWritten {}
