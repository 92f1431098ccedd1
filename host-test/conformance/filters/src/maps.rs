//! Headers and trailers: read, changed as the configuration says, and read again.

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::{
    ConfigureError, EditError, Filter, HeaderMap, LocalReply, LoggedExchange, MessageHeaders,
    OnLog, OnRequestHeaders, OnRequestTrailers, OnResponseHeaders, OnResponseTrailers, Outcome,
    RequestHeaders, RequestTrailers, ResetStream, ResponseHeaders, ResponseTrailers, Root,
    StatusCode,
};

/// What to do with a header map.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Edit {
    /// A line is removed.
    RemoveLine([String; 2]),
    /// All lines of a name are removed.
    Remove(String),
    /// All lines of a name are replaced by one.
    Set([String; 2]),
    /// A line is added.
    Append([String; 2]),
    /// The message is refused.
    Refuse(String),
    /// It is refused by a reply that is none.
    RefuseBadly(String),
}

/// Headers and trailers, changed as the configuration says. Lines whose names begin with `x-` are logged.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Maps {
    #[serde(default)]
    request_headers: Vec<Edit>,
    #[serde(default)]
    request_trailers: Vec<Edit>,
    #[serde(default)]
    response_headers: Vec<Edit>,
    #[serde(default)]
    response_trailers: Vec<Edit>,
}

impl Filter for Maps {
    const NAME: &'static str = "maps";
    type Config = Self;
    type Stream = ();

    fn configure(config: Self, _: &Root) -> Result<Self, ConfigureError> {
        Ok(config)
    }
}

impl OnRequestHeaders for Maps {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        carry_out("request", &self.request_headers, request).map_err(Refused::reply)
    }
}

impl OnRequestTrailers for Maps {
    fn on_request_trailers(&self, (): &mut (), trailers: &mut RequestTrailers) -> Outcome {
        carry_out("request trailers", &self.request_trailers, trailers).map_err(Refused::reply)
    }
}

impl OnResponseHeaders for Maps {
    fn on_response_headers(&self, (): &mut (), response: &mut ResponseHeaders) -> Outcome {
        carry_out("response", &self.response_headers, response).map_err(Refused::reply)
    }
}

impl OnResponseTrailers for Maps {
    fn on_response_trailers(
        &self,
        (): &mut (),
        trailers: &mut ResponseTrailers,
    ) -> Result<(), ResetStream> {
        carry_out("response trailers", &self.response_trailers, trailers)
            .map_err(|refused| ResetStream::because(refused.why.to_owned()))
    }
}

impl OnLog for Maps {
    fn on_log(&self, (): &mut (), exchange: &mut LoggedExchange) {
        let trailers = exchange.response_trailers().map(tollgate::Headers::len);
        tollgate::log::info!("log: {trailers:?} response trailers");
    }
}

/// Why a message does not pass.
struct Refused<'a> {
    why: &'a str,
    badly: bool,
}

impl Refused<'_> {
    fn reply(self) -> LocalReply {
        let reply = LocalReply::new(StatusCode::FORBIDDEN).with_body(self.why);
        if self.badly { reply.with_header("x-bad", "a\nb") } else { reply }
    }
}

/// Does what `edits` say, and logs what came of each.
fn carry_out<'a, M: HeaderMap>(
    what: &str,
    edits: &'a [Edit],
    map: &mut MessageHeaders<M>,
) -> Result<(), Refused<'a>> {
    tollgate::log::info!("{what}: {}", show(map));
    for edit in edits {
        let outcome = match edit {
            Edit::RemoveLine([name, value]) => map.remove_line(name, value),
            Edit::Remove(name) => map.remove(name).map(|()| true),
            Edit::Set([name, value]) => map.set(name, value).map(|()| true),
            Edit::Append([name, value]) => map.append(name, value).map(|()| true),
            Edit::Refuse(why) => return Err(Refused { why, badly: false }),
            Edit::RefuseBadly(why) => return Err(Refused { why, badly: true }),
        };
        match outcome {
            Ok(done) => tollgate::log::info!("{what}: {done}, now {}", show(map)),
            Err(error) => tollgate::log::info!("{what}: {error}"),
        }
    }
    Ok(())
}

/// How large the map is, and its lines, as far as they are ours.
fn show<M: HeaderMap>(map: &mut MessageHeaders<M>) -> String {
    let read = |map: &mut MessageHeaders<M>| -> Result<String, EditError> {
        let size = map.size()?;
        let headers = map.read()?;
        let text: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let ours = headers.iter().filter(|(name, _)| name.starts_with(b"x-"));
        let ours: Vec<String> = ours
            .filter(|(name, _)| {
                !matches!(*name, b"x-request-id" | b"x-envoy-upstream-service-time")
            })
            .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        Ok(format!(
            "size {} [{}]",
            if size == text { "as read" } else { "differs" },
            ours.join(", ")
        ))
    };
    read(map).unwrap_or_else(|error| error.to_string())
}
