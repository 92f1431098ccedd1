//! What a proxy made of one request.

use crate::offline::{Event, Head, Over, Sent, take_part};
use crate::proxy::{Received, Response};
use crate::scenario::HeaderLine;

/// What a proxy made of one request, put together from what it did with the stream.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    /// Method and path as the client sent them.
    pub(super) request: String,
    received: Option<Received>,
    response: Option<Response>,
    over: Option<Over>,
}

impl Decision {
    pub(super) fn begin(head: &Head) -> Self {
        let request = format!("{} {}", head.method, head.path.escape_debug());
        Self { request, received: None, response: None, over: None }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Request(Sent::Head { head, .. }) => self.received = Some(head),
            Event::Request(Sent::Part(part)) => {
                let message = self.received.as_mut();
                take_part(message.map(|it| (&mut it.body, &mut it.trailers)), part);
            }
            Event::Response(Sent::Head { head, .. }) => self.response = Some(head),
            Event::Response(Sent::Part(part)) => {
                let message = self.response.as_mut();
                take_part(message.map(|it| (&mut it.body, &mut it.trailers)), part);
            }
            Event::Over(over) => self.over = Some(over),
            Event::GivesUp => {}
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// What it came to, in a word or two.
    pub(super) fn verdict(&self) -> String {
        match (self.over, &self.response) {
            (None, _) => "unanswered".into(),
            (Some(over), _) if over.is_reset => "reset".into(),
            (Some(_), None) => "left by the client".into(),
            (Some(_), Some(response)) => {
                let status = response.status;
                if self.upstream().is_some() {
                    format!("passed, {status}")
                } else {
                    format!("{status} by the proxy")
                }
            }
        }
    }

    /// The proxy broke the client's connection.
    pub(super) fn is_reset(&self) -> bool {
        self.over.is_some_and(|over| over.is_reset)
    }

    /// What has come to the upstream, of a stream that is over.
    pub(super) fn upstream(&self) -> Option<&Received> {
        self.received.as_ref().filter(|_| self.over.is_some_and(|over| over.has_arrived))
    }

    /// What the client got.
    pub(super) fn response(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    /// All of it, a line each; values of redacted headers say nothing.
    pub(super) fn lines(&self, redacted: &[String]) -> Vec<String> {
        let mut lines = vec![format!("is {}", self.verdict())];
        if let Some(Received { cluster, method, path, headers, body, trailers }) = self.upstream() {
            lines.extend(cluster.as_ref().map(|name| format!("went to cluster {name}")));
            let (method, path) = (method.escape_ascii(), path.escape_ascii());
            lines.push(format!("upstream got {method} {path}"));
            add(&mut lines, "upstream got", headers, body, trailers, redacted);
        }
        if let Some(Response { status, headers, body, trailers }) = &self.response {
            lines.push(format!("client got {status}"));
            add(&mut lines, "client got", headers, body, trailers, redacted);
        }
        lines
    }
}

fn add(
    lines: &mut Vec<String>,
    who: &str,
    headers: &[HeaderLine],
    body: &[u8],
    trailers: &[HeaderLine],
    redacted: &[String],
) {
    let line = |what: &str, (name, value): &HeaderLine| {
        let is_redacted = redacted.iter().any(|hidden| hidden.as_bytes() == name);
        let value =
            if is_redacted { "(redacted)".into() } else { value.escape_ascii().to_string() };
        format!("{who} {what}{}: {value}", name.escape_ascii())
    };
    lines.extend(headers.iter().map(|header| line("", header)));
    if !body.is_empty() {
        lines.push(format!("{who} body \"{}\"", body.escape_ascii()));
    }
    lines.extend(trailers.iter().map(|trailer| line("trailer ", trailer)));
}
