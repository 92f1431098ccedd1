//! What guests did last, in bounds: enough to say why something went wrong, without a transcript.

use std::borrow::Cow;
use std::collections::VecDeque;

use tollgate_abi::{
    BufferType, Call, Callback, CallbackKind, Fault as BadPointer, Function, LogLevel, MapType,
    Reply,
};

use super::{Scope, World};
use crate::account::{Account, TrapReport};
use crate::clip::{clip, clip_to};
use crate::engine::Trap;
use crate::scenario::Fault;

/// How many host calls of a callback are remembered.
const MOST_CALLS: usize = 8;

/// How many refused calls of a step are remembered.
const MOST_REFUSED: usize = 5;

/// How many traps of a step are remembered, and how many of other things that are told one by one.
const MOST_TOLD: usize = 4;

/// What has more bytes is remembered as text that is cut off. To write that text takes longer than to
/// copy an answer of this size, such as the headers of most requests.
const MOST_WHOLE_BYTES: usize = 4096;

/// How much of what a guest writes in a callback is remembered: the end of it.
const MOST_OUTPUT_BYTES: usize = 4096;

/// With these words begins what a runtime says before it traps: Rust, our SDK, Go and `TinyGo`, Go,
/// `AssemblyScript`, C, C++.
const LAST_WORDS: [&str; 7] = [
    "panicked at",
    "panic at ",
    "panic: ",
    "fatal error: ",
    "abort: ",
    "Assertion failed",
    "libc++abi: ",
];

/// What guests did last.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// The last calls of the callback that runs.
    calls: VecDeque<Seen>,
    /// How many calls of the callback were made before them.
    calls_before: u64,
    /// What the callback wrote to its standard output and error.
    output: Vec<u8>,
    /// What it logged as an error, the last words of a panic preferred.
    error: Option<String>,
    /// The last calls of the step that were refused, but for those in `calls`.
    refused: VecDeque<Seen>,
    refused_before: u64,
    traps: Vec<TrapReport>,
    untimely: Vec<String>,
    held: Vec<String>,
    endless: Vec<String>,
    struck: Vec<Fault>,
}

/// A host call that is over.
#[derive(Debug)]
enum Seen {
    Whole { call: Call, reply: Reply },
    Text { text: String, is_refused: bool },
}

impl Seen {
    fn of(call: Call, reply: &Reply) -> Self {
        if call.size_bytes() <= MOST_WHOLE_BYTES && is_small(reply) {
            return Self::Whole { call, reply: reply.clone() };
        }
        let text = format!("{} = {}", clip(&call), clip(reply));
        Self::Text { text, is_refused: is_refused(reply) }
    }

    fn is_refused(&self) -> bool {
        match self {
            Self::Whole { reply, .. } => is_refused(reply),
            Self::Text { is_refused, .. } => *is_refused,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Whole { call, reply } => format!("{} = {}", clip(call), clip(reply)),
            Self::Text { text, .. } => text.clone(),
        }
    }
}

fn is_refused(reply: &Reply) -> bool {
    match reply {
        Reply::Done(_) => false,
        Reply::Refused { .. }
        | Reply::Untimely { .. }
        | Reply::Failed { .. }
        | Reply::Trap { .. } => true,
    }
}

fn is_small(reply: &Reply) -> bool {
    let size = match reply {
        Reply::Done(answer) | Reply::Failed { answer, .. } => answer.size_bytes(),
        Reply::Refused { why, .. } | Reply::Untimely { why, .. } | Reply::Trap { why } => why.len(),
    };
    size <= MOST_WHOLE_BYTES
}

impl Recent {
    /// A host call is over, and came out of its phase for this reason, if the reply does not say so.
    pub(super) fn call(&mut self, call: Call, reply: &Reply, unsaid: Option<Cow<'static, str>>) {
        let is_untimely = unsaid.is_some() || matches!(reply, Reply::Untimely { .. });
        if is_untimely && self.untimely.len() < MOST_TOLD {
            let unsaid = unsaid.map_or_else(String::new, |why| format!(": {why}"));
            let text = format!("{} = {}{unsaid}", clip(&call), clip(reply));
            if !self.untimely.contains(&text) {
                self.untimely.push(text);
            }
        }
        self.add(Seen::of(call, reply));
    }

    pub(super) fn fault(&mut self, function: Function, fault: BadPointer) {
        let text = format!("{function}(…) = {}: {fault}", function.status_of_faults());
        self.add(Seen::Text { text, is_refused: true });
    }

    /// A call failed because the scenario asked for it.
    pub(super) fn struck(&mut self, fault: &Fault) {
        if !self.struck.contains(fault) {
            self.struck.push(fault.clone());
        }
    }

    /// A function that only answers did not do what it was asked to.
    pub(super) fn stub(&mut self, text: String) {
        self.add(Seen::Text { text, is_refused: true });
    }

    fn add(&mut self, seen: Seen) {
        if self.calls.len() == MOST_CALLS
            && let Some(oldest) = self.calls.pop_front()
        {
            self.calls_before += 1;
            self.put_aside(oldest);
        }
        self.calls.push_back(seen);
    }

    fn put_aside(&mut self, seen: Seen) {
        if !seen.is_refused() {
            return;
        }
        if self.refused.len() == MOST_REFUSED {
            self.refused.pop_front();
            self.refused_before += 1;
        }
        self.refused.push_back(seen);
    }

    /// The guest wrote to its standard output or error, perhaps a part of a line.
    pub(super) fn wrote(&mut self, data: &[u8]) {
        let most = MOST_OUTPUT_BYTES;
        let data = data.get(data.len().saturating_sub(most)..).unwrap_or_default();
        let too_much = self.output.len().saturating_add(data.len()).saturating_sub(most);
        self.output.drain(..too_much.min(self.output.len()));
        self.output.extend_from_slice(data);
    }

    pub(super) fn logged(&mut self, level: LogLevel, message: &[u8]) {
        if !matches!(level, LogLevel::Error | LogLevel::Critical) {
            return;
        }
        let message = message.get(..MOST_OUTPUT_BYTES).unwrap_or(message);
        let message = String::from_utf8_lossy(message);
        let has_last_words = |text: &str| LAST_WORDS.iter().any(|words| text.contains(words));
        if has_last_words(&message) || !self.error.as_deref().is_some_and(has_last_words) {
            self.error = Some(message.into_owned());
        }
    }

    /// A guest begins to run.
    pub(super) fn begin(&mut self) {
        if self.calls.iter().any(Seen::is_refused) {
            while let Some(seen) = self.calls.pop_front() {
                self.put_aside(seen);
            }
        }
        self.calls.clear();
        self.calls_before = 0;
        self.output.clear();
        self.error = None;
    }

    /// What the guest said of its end.
    fn last_words(&self) -> Option<String> {
        let output = String::from_utf8_lossy(&self.output);
        let begins = |line: &&str| LAST_WORDS.iter().any(|words| line.contains(words));
        let from = output.lines().find(begins);
        let from = from.and_then(|line| output.find(line)).and_then(|at| output.get(at..));
        let text = match (from, &self.error) {
            (Some(text), _) => text,
            (None, Some(error)) => error,
            (None, None) => &output,
        };
        // What Rust says of environment variables helps nobody here.
        let lines = text.lines().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text.trim();
        (!text.is_empty()).then(|| clip_to(&text, MOST_OUTPUT_BYTES))
    }
}

impl World {
    /// Notes that the guest which runs has trapped.
    pub(crate) fn report_trap(&mut self, trap: &Trap) -> TrapReport {
        let scope = self.scope.clone();
        let callback = scope.as_ref().and_then(|scope| scope.callback);
        let guest = scope.as_ref().map(|scope| {
            let context = scope.callback.as_ref().map_or(0, Callback::context);
            self.guest_name(scope.vm, context)
        });
        let input = scope.as_ref().map_or_else(Vec::new, |scope| self.input(scope));
        let report = TrapReport {
            guest: guest.unwrap_or_else(|| "a guest".into()),
            callback: callback.map_or_else(|| "start".into(), |callback| callback.to_string()),
            request: scope.and_then(|scope| self.request_line(&scope)),
            message: trap.message.clone(),
            panic: self.recent.last_words(),
            backtrace: trap.backtrace.clone(),
            input,
            calls: self.recent.calls.iter().map(Seen::text).collect(),
            calls_before: self.recent.calls_before,
        };
        if self.recent.traps.len() < MOST_TOLD {
            self.recent.traps.push(report.clone());
        }
        report
    }

    /// What the callback that runs is about.
    fn input(&mut self, scope: &Scope) -> Vec<String> {
        let Some(callback) = scope.callback else { return Vec::new() };
        let (maps, buffers): (&[MapType], &[BufferType]) = match callback.kind() {
            CallbackKind::VmStart => (&[], &[BufferType::VmConfiguration]),
            CallbackKind::Configure => (&[], &[BufferType::PluginConfiguration]),
            CallbackKind::RequestHeaders => (&[MapType::RequestHeaders], &[]),
            CallbackKind::RequestBody => (&[], &[BufferType::HttpRequestBody]),
            CallbackKind::RequestTrailers => (&[MapType::RequestTrailers], &[]),
            CallbackKind::ResponseHeaders => (&[MapType::ResponseHeaders], &[]),
            CallbackKind::ResponseBody => (&[], &[BufferType::HttpResponseBody]),
            CallbackKind::ResponseTrailers => (&[MapType::ResponseTrailers], &[]),
            CallbackKind::DownstreamData => (&[], &[BufferType::DownstreamData]),
            CallbackKind::UpstreamData => (&[], &[BufferType::UpstreamData]),
            CallbackKind::HttpCallResponse => {
                (&[MapType::HttpCallResponseHeaders], &[BufferType::HttpCallResponseBody])
            }
            CallbackKind::GrpcReceive => (&[], &[BufferType::GrpcReceiveBuffer]),
            _ => (&[], &[]),
        };
        // The guest may have put another context in effect.
        let scope = Scope { effective: callback.context(), ..scope.clone() };
        let mut input = Vec::new();
        for &map in maps {
            input.push(format!("{map} = {}", clip(&self.header_pairs(&scope, map))));
        }
        for &buffer in buffers {
            let bytes = self.read_buffer(&scope, buffer, 0, u32::MAX);
            input.push(format!("{buffer} = {}", clip(&bytes)));
        }
        input
    }

    /// Method and path of the stream that the guest acts on.
    fn request_line(&self, scope: &Scope) -> Option<String> {
        let (stream, _) = self.at_stage(scope)?;
        if stream.connection.is_some() {
            return None;
        }
        let text = |name: &[u8]| stream.request.headers.first(name).unwrap_or_default();
        let (method, path) = (text(b":method").escape_ascii(), text(b":path").escape_ascii());
        Some(format!("{} {}", clip(&method), clip(&path)))
    }

    /// Notes that a guest held a stream which its client left.
    pub(crate) fn note_held(&mut self, held: String) {
        if self.recent.held.len() < MOST_TOLD {
            self.recent.held.push(held);
        }
    }

    /// Notes that a stream came to no end because a guest held it.
    pub(crate) fn note_endless(&mut self, held: String) {
        if self.recent.endless.len() < MOST_TOLD {
            self.recent.endless.push(held.clone());
        }
        self.note_held(held);
    }

    /// Takes the first traps since they were taken last, or what guests did was.
    pub(crate) fn take_traps(&mut self) -> Vec<TrapReport> {
        std::mem::take(&mut self.recent.traps)
    }

    /// Takes what guests did since it was taken last.
    pub(crate) fn take_account(&mut self) -> Account {
        self.recent.begin();
        let Recent { refused, refused_before, traps, untimely, held, endless, struck, .. } =
            std::mem::take(&mut self.recent);
        let refused = refused.iter().map(Seen::text).collect();
        Account { traps, refused, refused_before, untimely, held, endless, struck }
    }
}
