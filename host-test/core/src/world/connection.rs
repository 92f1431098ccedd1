//! Connections of TCP as guests see them: bytes on their way, and what a guest may ask of the connection.
//!
//! As on Envoy, all filters look at the same bytes: what one of them holds, those before it see again
//! together with what comes after it.
//!
//! Source: Envoy, `source/extensions/common/wasm/context.cc` and
//! `source/common/network/filter_manager_impl.cc`; checked on Envoy 1.40.

use std::collections::{BTreeSet, VecDeque};

use tollgate_abi::BufferType;

use super::{Scope, World};

/// A connection, besides what it shares with streams of HTTP.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) from_client: Flow,
    pub(crate) from_upstream: Flow,
    /// What guests have asked for, in order; done when the callback that asked has returned.
    pub(crate) asked: VecDeque<Asked>,
}

/// One direction of a connection: what has come, and no filter has let go.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) bytes: Vec<u8>,
    /// No more will come.
    pub(crate) end: bool,
    /// The filters, by their places, that can see the bytes: in their callback, and from then on until a
    /// callback lets them go.
    pub(crate) seen_by: BTreeSet<usize>,
}

/// What a guest asks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// That what the client has sent goes on to the filters behind this one.
    GoOn { behind: usize },
    /// That the connection is closed.
    Close,
}

impl Connection {
    fn flow(&self, buffer: BufferType) -> Option<&Flow> {
        match buffer {
            BufferType::DownstreamData => Some(&self.from_client),
            BufferType::UpstreamData => Some(&self.from_upstream),
            BufferType::HttpRequestBody
            | BufferType::HttpResponseBody
            | BufferType::HttpCallResponseBody
            | BufferType::GrpcReceiveBuffer
            | BufferType::VmConfiguration
            | BufferType::PluginConfiguration
            | BufferType::CallData
            | BufferType::Unknown(_) => None,
        }
    }

    fn flow_mut(&mut self, buffer: BufferType) -> Option<&mut Flow> {
        match buffer {
            BufferType::DownstreamData => Some(&mut self.from_client),
            BufferType::UpstreamData => Some(&mut self.from_upstream),
            BufferType::HttpRequestBody
            | BufferType::HttpResponseBody
            | BufferType::HttpCallResponseBody
            | BufferType::GrpcReceiveBuffer
            | BufferType::VmConfiguration
            | BufferType::PluginConfiguration
            | BufferType::CallData
            | BufferType::Unknown(_) => None,
        }
    }
}

impl World {
    /// Bytes of a connection that the guest can see.
    pub(super) fn connection_bytes(&self, scope: &Scope, buffer: BufferType) -> Option<&[u8]> {
        let (stream, at) = self.stream_of(scope)?;
        let flow = self.streams.get(&stream)?.connection.as_ref()?.flow(buffer)?;
        flow.seen_by.contains(&at).then_some(flow.bytes.as_slice())
    }

    /// Bytes of a connection that the guest can change.
    pub(super) fn connection_bytes_mut(
        &mut self,
        scope: &Scope,
        buffer: BufferType,
    ) -> Option<&mut Vec<u8>> {
        let (stream, at) = self.stream_of(scope)?;
        let flow = self.streams.get_mut(&stream)?.connection.as_mut()?.flow_mut(buffer)?;
        flow.seen_by.contains(&at).then_some(&mut flow.bytes)
    }

    /// Notes that the guest asks to go on, or to close; on a stream of HTTP, which has no such sides, it is
    /// no error.
    pub(super) fn ask(&mut self, scope: &Scope, asked: fn(usize) -> Asked) {
        if let Some((stream, at)) = self.at_stage_mut(scope)
            && let Some(connection) = &mut stream.connection
        {
            connection.asked.push_back(asked(at));
        }
    }
}
