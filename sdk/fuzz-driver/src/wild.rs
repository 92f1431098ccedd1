//! Any callback with any numbers.

use tollgate::{Callback, CallbackKind};

pub(crate) fn wild_callback(
    kind: CallbackKind,
    context: u32,
    first: u32,
    second: usize,
    flag: bool,
) -> Callback {
    let (token, size, end_of_stream, count) = (first, second, flag, second);
    match kind {
        CallbackKind::ContextCreate => Callback::ContextCreate { context, parent: first },
        CallbackKind::VmStart => Callback::VmStart { context, configuration_size: size },
        CallbackKind::Configure => Callback::Configure { context, configuration_size: size },
        CallbackKind::Tick => Callback::Tick { context },
        CallbackKind::QueueReady => Callback::QueueReady { context, queue: first },
        CallbackKind::NewConnection => Callback::NewConnection { context },
        CallbackKind::DownstreamData => Callback::DownstreamData { context, size, end_of_stream },
        CallbackKind::DownstreamConnectionClose => {
            Callback::DownstreamConnectionClose { context, peer: first }
        }
        CallbackKind::UpstreamData => Callback::UpstreamData { context, size, end_of_stream },
        CallbackKind::UpstreamConnectionClose => {
            Callback::UpstreamConnectionClose { context, peer: first }
        }
        CallbackKind::RequestHeaders => Callback::RequestHeaders { context, count, end_of_stream },
        CallbackKind::RequestBody => Callback::RequestBody { context, size, end_of_stream },
        CallbackKind::RequestTrailers => Callback::RequestTrailers { context, count },
        CallbackKind::ResponseHeaders => {
            Callback::ResponseHeaders { context, count, end_of_stream }
        }
        CallbackKind::ResponseBody => Callback::ResponseBody { context, size, end_of_stream },
        CallbackKind::ResponseTrailers => Callback::ResponseTrailers { context, count },
        CallbackKind::HttpCallResponse => Callback::HttpCallResponse {
            context,
            token,
            headers: usize::from(flag),
            body_size: size,
            trailers: usize::from(flag),
        },
        CallbackKind::GrpcReceiveInitialMetadata => {
            Callback::GrpcReceiveInitialMetadata { context, token, count: 1 }
        }
        CallbackKind::GrpcReceive => Callback::GrpcReceive { context, token, size },
        CallbackKind::GrpcReceiveTrailingMetadata => {
            Callback::GrpcReceiveTrailingMetadata { context, token, count: 1 }
        }
        CallbackKind::GrpcClose => Callback::GrpcClose { context, token, status: first },
        CallbackKind::ForeignFunction => {
            Callback::ForeignFunction { context, function: first, arguments_size: size }
        }
        CallbackKind::Done => Callback::Done { context },
        CallbackKind::Log => Callback::Log { context },
        CallbackKind::Delete => Callback::Delete { context },
    }
}
