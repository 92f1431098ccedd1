//! The world as a suite of Service Extensions shows it to its guest: one phase at a time.
//!
//! The header map is one per phase, sorted, without regard to case, and has one value per name. A body is
//! what its callback brings, and a reply is taken only where headers are. What belongs to a proxy around
//! the stream is not there: callouts, metrics, streams to be continued. What is the same everywhere, such
//! as shared data, is answered as always.
//!
//! Source: `plugins/test/framework.cc` of GoogleCloudPlatform/service-extensions.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate_abi::pairs::{self, Pairs};
use tollgate_abi::{Answer, BufferType, Call, Callback, MapType, Reply, Serialized, Status};

use super::clock::nanoseconds;
use super::{LocalReply, Scope, World};
use crate::scenario::HeaderLine;

/// What a guest of a suite finds.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// The headers of the phase.
    pub(crate) headers: SortedHeaders,
    /// The body that the callback brings.
    pub(crate) body: Vec<u8>,
    /// The reply that the guest has sent.
    pub(crate) reply: Option<LocalReply>,
    /// Properties of the stream, by paths with dots.
    pub(crate) properties: Vec<(Vec<u8>, Vec<u8>)>,
    /// What all clocks show.
    pub(crate) time: Duration,
}

/// Headers in the order of their names without regard to case; each name has one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SortedHeaders(BTreeMap<Vec<u8>, HeaderLine>);

impl SortedHeaders {
    /// The headers with their names as they were first written.
    pub(crate) fn lines(&self) -> Vec<HeaderLine> {
        self.0.values().cloned().collect()
    }

    /// Adds a value: after a comma, unless there is none yet.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        let old = self.slot(name);
        if !old.is_empty() {
            old.extend_from_slice(b", ");
        }
        old.extend_from_slice(value);
    }

    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        *self.slot(name) = value.to_vec();
    }

    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.get(&name.to_ascii_lowercase()).map(|(_, value)| value.as_slice())
    }

    fn remove(&mut self, name: &[u8]) {
        self.0.remove(&name.to_ascii_lowercase());
    }

    fn slot(&mut self, name: &[u8]) -> &mut Vec<u8> {
        let new = || (name.to_vec(), Vec::new());
        &mut self.0.entry(name.to_ascii_lowercase()).or_insert_with(new).1
    }
}

impl World {
    /// What a guest of a suite gets in place of what a proxy answers; nothing when it is the same.
    #[expect(clippy::too_many_lines, reason = "a table: each call stands in it")]
    pub(super) fn answer_staged(&mut self, scope: &Scope, call: &Call) -> Option<Reply> {
        let staged = self.staged.as_mut()?;
        let now = nanoseconds(staged.time);
        Some(match call {
            Call::GetCurrentTime {} | Call::ClockTimeGet { clock: 0 | 1, .. } => {
                Reply::Done(Answer::U64(now))
            }
            Call::GetProperty { path } => self.staged_property(scope, path),
            Call::GetHeaderMapValue { map, name } => match staged_headers(staged, scope, *map) {
                Err(refusal) => refusal,
                Ok(headers) => match headers.value(name) {
                    Some(value) => Reply::Done(Answer::Bytes(value.to_vec())),
                    None => Reply::refused(Status::NotFound, "no such header"),
                },
            },
            Call::GetHeaderMapPairs { map } => match staged_headers(staged, scope, *map) {
                Err(refusal) => refusal,
                Ok(headers) => match pairs::encode(&headers.lines()) {
                    Ok(bytes) => Reply::Done(Answer::Pairs(Serialized(bytes))),
                    Err(error) => Reply::refused(Status::InternalFailure, error.to_string()),
                },
            },
            Call::GetHeaderMapSize { map } => match staged_headers(staged, scope, *map) {
                Err(refusal) => refusal,
                // As there: the number of headers, not of bytes.
                Ok(headers) => Reply::Done(Answer::Size(headers.lines().len())),
            },
            Call::AddHeaderMapValue { map, name, value } => {
                change(staged, scope, *map, |headers| headers.add(name, value))
            }
            Call::ReplaceHeaderMapValue { map, name, value } => {
                change(staged, scope, *map, |headers| headers.set(name, value))
            }
            Call::RemoveHeaderMapValue { map, name } => {
                change(staged, scope, *map, |headers| headers.remove(name))
            }
            Call::SetHeaderMapPairs { map, pairs } => change(staged, scope, *map, |headers| {
                *headers = SortedHeaders::default();
                for (name, value) in Pairs::parse(&pairs.0).iter().flat_map(Pairs::iter) {
                    headers.add(name, value);
                }
            }),
            Call::GetBufferBytes { buffer, start, max_size } => {
                self.staged_buffer(scope, *buffer, |bytes| part(bytes, *start, *max_size))
            }
            Call::GetConfiguration {} => {
                self.staged_buffer(scope, BufferType::PluginConfiguration, |bytes| {
                    Reply::Done(Answer::Bytes(bytes.to_vec()))
                })
            }
            Call::GetBufferStatus { buffer } => self.staged_buffer(scope, *buffer, |bytes| {
                Reply::Done(Answer::Buffer { size: bytes.len(), flags: 0 })
            }),
            Call::SetBufferBytes { buffer, start, size, value } => {
                if !has_body(scope, *buffer) {
                    return Some(no_buffer(scope, *buffer));
                }
                let (start, size) = (index(*start), index(*size));
                let start = start.min(staged.body.len());
                let end = start.saturating_add(size).min(staged.body.len());
                staged.body.splice(start..end, value.iter().copied());
                Reply::OK
            }
            Call::SendLocalResponse { status_code, details, body, headers, grpc_status } => {
                if map_of(scope).is_none() {
                    let what = "a suite takes a reply only in a callback of headers";
                    return Some(Reply::refused(Status::BadArgument, what));
                }
                let headers = Pairs::parse(&headers.0);
                let headers = headers.iter().flat_map(Pairs::iter);
                staged.reply = Some(LocalReply {
                    status: *status_code,
                    details: details.clone(),
                    headers: headers.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
                    body: body.clone(),
                    grpc_status: Some(*grpc_status),
                });
                Reply::OK
            }
            Call::HttpCall { .. }
            | Call::GrpcCall { .. }
            | Call::GrpcStream { .. }
            | Call::GrpcSend { .. }
            | Call::GrpcCancel { .. }
            | Call::GrpcClose { .. }
            | Call::GetStatus {}
            | Call::SetProperty { .. }
            | Call::DefineMetric { .. }
            | Call::IncrementMetric { .. }
            | Call::RecordMetric { .. }
            | Call::GetMetric { .. }
            | Call::ContinueStream { .. }
            | Call::CloseStream { .. }
            | Call::ContinueRequest {}
            | Call::ContinueResponse {}
            | Call::ClearRouteCache {} => {
                Reply::refused(Status::Unimplemented, "a suite has no proxy that could do it")
            }
            Call::Log { .. }
            | Call::GetLogLevel {}
            | Call::GetSharedData { .. }
            | Call::SetSharedData { .. }
            | Call::RegisterSharedQueue { .. }
            | Call::ResolveSharedQueue { .. }
            | Call::EnqueueSharedQueue { .. }
            | Call::DequeueSharedQueue { .. }
            | Call::SetTickPeriod { .. }
            | Call::SetEffectiveContext { .. }
            | Call::Done {}
            | Call::CallForeignFunction { .. }
            | Call::FdWrite { .. }
            | Call::FdPwrite { .. }
            | Call::RandomGet { .. }
            | Call::ClockTimeGet { .. }
            | Call::ClockResGet { .. }
            | Call::EnvironSizesGet {}
            | Call::EnvironGet {}
            | Call::ArgsSizesGet {}
            | Call::ArgsGet {}
            | Call::ProcExit { .. } => return None,
        })
    }

    fn staged_property(&self, scope: &Scope, path: &[u8]) -> Reply {
        // As there: whether guests ask with NUL or with dots between the segments is the same.
        let segments = path.split(|&byte| byte == 0).filter(|segment| !segment.is_empty());
        let path = segments.collect::<Vec<_>>().join(&b'.');
        // SDKs ask for these before there is a stream.
        let plugin = match path.as_slice() {
            b"plugin_name" => self.plugin_of(scope).map(|plugin| plugin.name.clone().into_bytes()),
            b"plugin_root_id" => {
                self.plugin_of(scope).map(|plugin| plugin.root_id.clone().into_bytes())
            }
            b"plugin_vm_id" => self.plugin_of(scope).map(|plugin| plugin.vm_id.clone()),
            _ => None,
        };
        let in_stream = self.stream_of(scope).is_some();
        let told = self.staged.iter().filter(|_| in_stream);
        let mut told = told.flat_map(|staged| &staged.properties);
        match told.find(|(told, _)| *told == path).map(|(_, value)| value.clone()).or(plugin) {
            Some(value) => Reply::Done(Answer::Bytes(value)),
            None => Reply::refused(Status::NotFound, "the test has no such property"),
        }
    }

    fn staged_buffer(
        &self,
        scope: &Scope,
        buffer: BufferType,
        read: impl FnOnce(&[u8]) -> Reply,
    ) -> Reply {
        let bytes = if matches!(buffer, BufferType::PluginConfiguration) {
            // As there: at any time.
            self.plugin_of(scope).map(|plugin| plugin.configuration.as_slice())
        } else {
            let staged = self.staged.as_ref().filter(|_| has_body(scope, buffer));
            staged.map(|staged| staged.body.as_slice())
        };
        bytes.map_or_else(|| no_buffer(scope, buffer), read)
    }
}

/// The map of the headers that the callback brings.
fn map_of(scope: &Scope) -> Option<MapType> {
    match scope.callback? {
        Callback::RequestHeaders { .. } => Some(MapType::RequestHeaders),
        Callback::ResponseHeaders { .. } => Some(MapType::ResponseHeaders),
        _ => None,
    }
}

fn staged_headers<'a>(
    staged: &'a mut Staged,
    scope: &Scope,
    map: MapType,
) -> Result<&'a mut SortedHeaders, Reply> {
    if map_of(scope) == Some(map) {
        return Ok(&mut staged.headers);
    }
    let phase = phase(scope);
    let why = format!("{map} are not available in {phase}, only in their own callback");
    Err(Reply::refused(Status::BadArgument, why))
}

fn change(
    staged: &mut Staged,
    scope: &Scope,
    map: MapType,
    change: impl FnOnce(&mut SortedHeaders),
) -> Reply {
    match staged_headers(staged, scope, map) {
        Err(refusal) => refusal,
        Ok(headers) => {
            change(headers);
            Reply::OK
        }
    }
}

fn has_body(scope: &Scope, buffer: BufferType) -> bool {
    matches!(
        (scope.callback, buffer),
        (Some(Callback::RequestBody { .. }), BufferType::HttpRequestBody)
            | (Some(Callback::ResponseBody { .. }), BufferType::HttpResponseBody)
    )
}

fn no_buffer(scope: &Scope, buffer: BufferType) -> Reply {
    let phase = phase(scope);
    Reply::refused(Status::NotFound, format!("{buffer} is not available in {phase}"))
}

fn phase(scope: &Scope) -> &'static str {
    scope.callback.map_or("the start function", |callback| callback.kind().name())
}

fn part(bytes: &[u8], start: u32, max_size: u32) -> Reply {
    if start.checked_add(max_size).is_none() {
        let why = format!("{start} + {max_size} does not fit 32 bits");
        return Reply::refused(Status::BadArgument, why);
    }
    let part = bytes.get(index(start)..).unwrap_or_default();
    let part = part.get(..index(max_size)).unwrap_or(part);
    Reply::Done(Answer::Bytes(part.to_vec()))
}

fn index(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}
