//! Buffers: bodies and configurations.

use tollgate_abi::{Answer, BufferType, Callback, Reply, Status};

use super::stream::Direction;
use super::{Scope, World};

impl World {
    pub(super) fn read_buffer(
        &mut self,
        scope: &Scope,
        buffer: BufferType,
        start: u32,
        max_size: u32,
    ) -> Reply {
        self.notice_empty_buffer(scope, buffer);
        let bytes = match self.buffer(scope, buffer) {
            Ok(bytes) => bytes,
            Err(refusal) => return refusal,
        };
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let max_size = usize::try_from(max_size).unwrap_or(usize::MAX);
        // As on Envoy: a start behind the end is no error.
        let part = bytes.get(start..).unwrap_or_default();
        let part = part.get(..max_size).unwrap_or(part);
        Reply::Done(Answer::Bytes(part.to_vec()))
    }

    pub(super) fn write_buffer(
        &mut self,
        scope: &Scope,
        buffer: BufferType,
        start: u32,
        size: u32,
        value: &[u8],
    ) -> Reply {
        if let Err(trap) =
            self.keep_for_stream(scope, self.grows_by(scope, buffer, start, size, value))
        {
            return trap;
        }
        if let Some(message) = self.delivered_message(scope, buffer) {
            return replace(message, start, size, value);
        }
        if let Some(bytes) = self.connection_bytes_mut(scope, buffer) {
            return replace(bytes, start, size, value);
        }
        if let Err(refusal) = self.buffer(scope, buffer) {
            return refusal;
        }
        let Some(direction) = direction_of(buffer) else {
            return match buffer {
                // What can be changed of a connection was changed above.
                BufferType::DownstreamData | BufferType::UpstreamData => not_now(buffer, scope),
                _ => {
                    let why = format!("{buffer} is never to be changed");
                    Reply::refused(Status::BadArgument, why)
                }
            };
        };
        let Some((stream, at)) = self.at_stage_mut(scope) else {
            return not_now(buffer, scope);
        };
        let body =
            stream.stages.get_mut(at).and_then(|stage| stage.lane_mut(direction).body.as_mut());
        let Some(body) = body else {
            return not_now(buffer, scope);
        };
        replace(body, start, size, value)
    }

    /// By how many bytes a change would make a buffer longer.
    fn grows_by(
        &self,
        scope: &Scope,
        buffer: BufferType,
        start: u32,
        size: u32,
        value: &[u8],
    ) -> usize {
        let length = self.buffer(scope, buffer).map_or(0, <[u8]>::len);
        let goes = if start == 0 { length.min(usize::try_from(size).unwrap_or(length)) } else { 0 };
        value.len().saturating_sub(goes)
    }

    pub(super) fn buffer_status(&mut self, scope: &Scope, buffer: BufferType) -> Reply {
        self.notice_empty_buffer(scope, buffer);
        match self.buffer(scope, buffer) {
            Ok(bytes) => Reply::Done(Answer::Buffer { size: bytes.len(), flags: 0 }),
            Err(refusal) => refusal,
        }
    }

    /// The configuration by the function of 0.1.0. As on Envoy: it is empty but while the VM starts or the
    /// plugin is configured.
    pub(super) fn configuration(&mut self, scope: &Scope) -> Reply {
        let is_timely =
            matches!(&scope.callback, Some(Callback::VmStart { .. } | Callback::Configure { .. }));
        if !is_timely {
            let phase = scope.phase();
            self.notice_untimely(format!(
                "the configuration is empty in {phase}, and there in proxy_on_vm_start and \
                 proxy_on_configure"
            ));
        }
        let plugin = self.plugin_of(scope).filter(|_| is_timely);
        Reply::Done(Answer::Bytes(plugin.map_or(Vec::new(), |plugin| plugin.configuration.clone())))
    }

    /// Notes that a buffer is empty only because of when it is read.
    fn notice_empty_buffer(&mut self, scope: &Scope, buffer: BufferType) {
        let is_there = match buffer {
            BufferType::HttpRequestBody | BufferType::HttpResponseBody => {
                direction_of(buffer).is_some_and(|direction| self.has_body(scope, direction))
            }
            BufferType::DownstreamData | BufferType::UpstreamData => {
                self.connection_bytes(scope, buffer).is_some()
            }
            BufferType::GrpcReceiveBuffer => self.delivered_buffer(scope, buffer).is_some(),
            // They are refused, or the same at all times.
            BufferType::HttpCallResponseBody
            | BufferType::VmConfiguration
            | BufferType::PluginConfiguration
            | BufferType::CallData
            | BufferType::Unknown(_) => true,
        };
        if !is_there {
            let phase = scope.phase();
            let home = home_of(buffer);
            self.notice_untimely(format!(
                "{buffer} is empty in {phase}, and there in {home} and while it holds it"
            ));
        }
    }

    /// Whether the guest sees all that there is of a body, if that is nothing.
    fn has_body(&self, scope: &Scope, direction: Direction) -> bool {
        let Some((_, stage)) = self.at_stage(scope) else { return false };
        let lane = stage.lane(direction);
        let is_in_trailers = matches!(
            (&scope.callback, direction),
            (Some(Callback::RequestTrailers { .. }), Direction::Request)
                | (Some(Callback::ResponseTrailers { .. }), Direction::Response)
        );
        let has_none = !lane.body_came && (lane.end_held || is_in_trailers);
        lane.body.is_some() || has_none
    }

    fn buffer(&self, scope: &Scope, buffer: BufferType) -> Result<&[u8], Reply> {
        if let Some(bytes) = self.delivered_buffer(scope, buffer) {
            return Ok(bytes);
        }
        match buffer {
            BufferType::HttpRequestBody | BufferType::HttpResponseBody => {
                let direction = direction_of(buffer).ok_or_else(|| no_buffer(buffer, scope))?;
                // As on Envoy: out of its phase a body is empty, without an error.
                let stage = self.at_stage(scope).map(|(_, stage)| stage);
                Ok(stage
                    .and_then(|stage| stage.lane(direction).body.as_deref())
                    .unwrap_or_default())
            }
            BufferType::PluginConfiguration => match &scope.callback {
                Some(Callback::Configure { .. }) => Ok(self
                    .plugin_of(scope)
                    .map_or(&[][..], |plugin| plugin.configuration.as_slice())),
                Some(_) | None => Err(no_buffer(buffer, scope)),
            },
            // As on Envoy: at any time.
            BufferType::VmConfiguration => Ok(self
                .plugin_of(scope)
                .map_or(&[][..], |plugin| plugin.vm_configuration.as_slice())),
            BufferType::DownstreamData | BufferType::UpstreamData => {
                Ok(self.connection_bytes(scope, buffer).unwrap_or_default())
            }
            BufferType::GrpcReceiveBuffer | BufferType::CallData => Ok(&[]),
            BufferType::HttpCallResponseBody => Err(no_buffer(buffer, scope)),
            BufferType::Unknown(buffer) => Err(Reply::refused(
                Status::BadArgument,
                format!("{buffer} is not a kind of buffer"),
            )),
        }
    }
}

/// Replaces a part of a buffer, as far as Envoy does.
fn replace(body: &mut Vec<u8>, start: u32, size: u32, value: &[u8]) -> Reply {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let length = body.len();
    if start == 0 {
        body.splice(..size.min(length), value.iter().copied());
    } else if start >= length {
        body.extend_from_slice(value);
    } else {
        let why = format!(
            "bytes from {start} on, of {length}, cannot be replaced: a change starts at 0 or at the end"
        );
        return Reply::refused(Status::BadArgument, why);
    }
    Reply::OK
}

fn direction_of(buffer: BufferType) -> Option<Direction> {
    match buffer {
        BufferType::HttpRequestBody => Some(Direction::Request),
        BufferType::HttpResponseBody => Some(Direction::Response),
        BufferType::DownstreamData
        | BufferType::UpstreamData
        | BufferType::HttpCallResponseBody
        | BufferType::GrpcReceiveBuffer
        | BufferType::VmConfiguration
        | BufferType::PluginConfiguration
        | BufferType::CallData
        | BufferType::Unknown(_) => None,
    }
}

fn no_buffer(buffer: BufferType, scope: &Scope) -> Reply {
    let phase = scope.phase();
    let why = format!("{buffer} is not available in {phase}, only in {}", home_of(buffer));
    Reply::untimely(Status::NotFound, why)
}

fn not_now(buffer: BufferType, scope: &Scope) -> Reply {
    let phase = scope.phase();
    let why = format!(
        "{buffer} cannot be changed in {phase}, but in {} and while it holds it",
        home_of(buffer)
    );
    Reply::untimely(Status::BadArgument, why)
}

/// The callback in which a buffer has something in it.
fn home_of(buffer: BufferType) -> &'static str {
    match buffer {
        BufferType::HttpRequestBody => "proxy_on_request_body",
        BufferType::HttpResponseBody => "proxy_on_response_body",
        BufferType::DownstreamData => "proxy_on_downstream_data",
        BufferType::UpstreamData => "proxy_on_upstream_data",
        BufferType::HttpCallResponseBody => "proxy_on_http_call_response",
        BufferType::GrpcReceiveBuffer => "proxy_on_grpc_receive",
        BufferType::VmConfiguration => "proxy_on_vm_start",
        BufferType::PluginConfiguration => "proxy_on_configure",
        BufferType::CallData | BufferType::Unknown(_) => "no callback",
    }
}
