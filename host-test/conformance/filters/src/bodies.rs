//! Bodies, whole and in chunks: read, changed as the configuration says, and read again.

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::{
    BodyView, Buffered, ConfigureError, Filter, LocalReply, OnRequestBody, OnRequestChunk,
    OnResponseBody, OnResponseChunk, Outcome, RequestBody, RequestChunk, ResetStream, ResponseBody,
    ResponseChunk, Root, StatusCode,
};

/// More than Envoy holds by itself.
const TWO_MIB: usize = 2 << 20;

/// Longer bytes are not logged.
const MOST_LOGGED: usize = 100;

/// What to do with a body.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Edit {
    /// All of it is replaced.
    Replace(String),
    /// Something is put before it.
    Prepend(String),
    /// Something is put behind it.
    Append(String),
    /// A part of it is replaced.
    Part {
        /// Where the part begins.
        start: usize,
        /// Where it ends.
        end: usize,
        /// What is put in its place.
        with: String,
    },
    /// Something is put behind the last chunk.
    AppendToLast(String),
    /// The body is refused.
    Refuse(String),
    /// It is refused by a reply that is none.
    RefuseBadly(String),
}

/// What the filters of bodies are told.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    request: Vec<Edit>,
    #[serde(default)]
    response: Vec<Edit>,
}

/// Why a body does not pass.
struct Refused<'a> {
    why: &'a str,
    badly: bool,
}

impl From<Refused<'_>> for LocalReply {
    fn from(refused: Refused<'_>) -> Self {
        let reply = Self::new(StatusCode::FORBIDDEN).with_body(refused.why);
        if refused.badly { reply.with_header("x-bad", "a\nb") } else { reply }
    }
}

impl From<Refused<'_>> for ResetStream {
    fn from(refused: Refused<'_>) -> Self {
        Self::because(refused.why.to_owned())
    }
}

/// Does what `edits` say, and logs what came of each. Of chunks, `is_last` says which one it is.
fn carry_out<'a, P: Buffered>(
    what: &str,
    edits: &'a [Edit],
    is_last: bool,
    body: &mut BodyView<P>,
) -> Result<(), Refused<'a>> {
    tollgate::log::info!("{what}: {} absent={} last={is_last}", show(body), body.is_absent());
    for edit in edits {
        let outcome = match edit {
            Edit::Replace(bytes) => body.replace(bytes),
            Edit::Prepend(bytes) => body.prepend(bytes),
            Edit::Append(bytes) => body.append(bytes),
            Edit::Part { start, end, with } => body.replace_part(*start..*end, with),
            Edit::AppendToLast(bytes) if is_last => body.append(bytes),
            Edit::AppendToLast(_) => continue,
            Edit::Refuse(why) => return Err(Refused { why, badly: false }),
            Edit::RefuseBadly(why) => return Err(Refused { why, badly: true }),
        };
        match outcome {
            Ok(()) => tollgate::log::info!("{what}: now {}", show(body)),
            Err(error) => tollgate::log::info!("{what}: {error}"),
        }
    }
    Ok(())
}

fn show<P: Buffered>(body: &BodyView<P>) -> String {
    let len = body.len();
    if len > MOST_LOGGED {
        return format!("{len} bytes");
    }
    match body.bytes() {
        Ok(bytes) => format!("{len} bytes \"{}\"", bytes.escape_ascii()),
        Err(error) => error.to_string(),
    }
}

macro_rules! filter {
    ($(#[$doc:meta])* $filter:ident) => {
        $(#[$doc])*
        pub struct $filter(Config);

        impl Filter for $filter {
            const NAME: &'static str = "bodies";
            type Config = Config;
            type Stream = ();

            fn configure(config: Config, _: &Root) -> Result<Self, ConfigureError> {
                Ok(Self(config))
            }
        }
    };
}

macro_rules! whole {
    ($(#[$doc:meta])* $filter:ident, $max_bytes:expr, $resizes:expr) => {
        filter!($(#[$doc])* $filter);

        impl OnRequestBody for $filter {
            const MAX_BYTES: usize = $max_bytes;
            const RESIZES: bool = $resizes;

            fn on_request_body(&self, (): &mut (), body: &mut RequestBody) -> Outcome {
                Ok(carry_out("request", &self.0.request, true, body)?)
            }
        }

        impl OnResponseBody for $filter {
            const MAX_BYTES: usize = $max_bytes;
            const RESIZES: bool = $resizes;

            fn on_response_body(
                &self,
                (): &mut (),
                body: &mut ResponseBody,
            ) -> Result<(), ResetStream> {
                Ok(carry_out("response", &self.0.response, true, body)?)
            }
        }
    };
}

macro_rules! chunks {
    ($(#[$doc:meta])* $filter:ident, $resizes:expr) => {
        filter!($(#[$doc])* $filter);

        impl OnRequestChunk for $filter {
            const RESIZES: bool = $resizes;

            fn on_request_chunk(&self, (): &mut (), chunk: &mut RequestChunk) -> Outcome {
                Ok(carry_out("request", &self.0.request, chunk.is_last(), chunk)?)
            }
        }

        impl OnResponseChunk for $filter {
            const RESIZES: bool = $resizes;

            fn on_response_chunk(
                &self,
                (): &mut (),
                chunk: &mut ResponseChunk,
            ) -> Result<(), ResetStream> {
                Ok(carry_out("response", &self.0.response, chunk.is_last(), chunk)?)
            }
        }
    };
}

whole!(
    /// Whole bodies of up to ten bytes, as long as they are.
    Whole,
    10,
    false
);
whole!(
    /// Whole bodies, made longer and shorter.
    WholeResizing,
    TWO_MIB,
    true
);
chunks!(
    /// Chunks, as long as they are.
    Chunks,
    false
);
chunks!(
    /// Chunks, made longer and shorter.
    ChunksResizing,
    true
);
