//! From callbacks to plugins: which root and which stream a callback is for.
//!
//! A VM may hold several plugins: a proxy puts those with the same module into one, and while it
//! replaces a configuration, the old and the new one stand side by side. What a plugin does with a
//! callback is in `single`.
//!
//! No state is borrowed while a filter runs, so that a host may call back in the middle of a host call.

mod contexts;
mod single;

use std::rc::Rc;

use tollgate_abi::{BufferType, Callback, CallbackKind, HeadersAction, StreamType};

use self::contexts::{Roots, Streams};
pub use self::single::{
    Handled, Handlers, LogHandler, NoLog, NoRequestHeaders, NoResponseHeaders, Probe,
    RequestHeadersHandler, ResponseHeadersHandler, Single,
};
use crate::filter::{ConfigureError, Outcome};
use crate::live::{LoggedExchange, RequestHeaders, ResponseHeaders};
use crate::reply::{LocalReply, StatusCode};
use crate::root::Root;
use crate::{host, logging};

/// A filter for an engine that links it natively and needs no module.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// What `_initialize` of the module does.
    pub start: fn(),
    /// Runs a callback, and gives what it returned; 0 for nothing. The filter's state is that of the
    /// thread.
    pub call: fn(Callback) -> u32,
    /// The callbacks that the finished module exports.
    pub callbacks: fn() -> Vec<CallbackKind>,
}

/// What runs under a root context: a filter with its configuration.
pub trait Plugin: Sized + 'static {
    /// What log lines begin with.
    const NAME: &'static str;
    /// The callbacks of streams that it takes part in.
    const PHASES: Phases;
    /// What is kept per stream.
    type Stream: Default + 'static;

    /// Makes the plugin of a worker.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] when there is none with this configuration.
    fn configure(json: &[u8], root: &Root) -> Result<Self, ConfigureError>;

    /// The request headers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome;

    /// The response headers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome;

    /// The stream is over.
    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange);
}

/// The callbacks of streams that a plugin takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// Request headers.
    pub request_headers: bool,
    /// Response headers.
    pub response_headers: bool,
    /// The end, for the log.
    pub log: bool,
}

/// As many callbacks as a plugin can have.
const MOST_CALLBACKS: usize = 6;

/// The callbacks that a module with this plugin has to export.
pub const fn callbacks<P: Plugin>() -> [Option<CallbackKind>; MOST_CALLBACKS] {
    const fn when(wanted: bool, callback: CallbackKind) -> Option<CallbackKind> {
        if wanted { Some(callback) } else { None }
    }
    let phases = P::PHASES;
    [
        Some(CallbackKind::ContextCreate),
        Some(CallbackKind::Configure),
        when(phases.request_headers, CallbackKind::RequestHeaders),
        when(phases.response_headers, CallbackKind::ResponseHeaders),
        when(phases.log, CallbackKind::Log),
        when(Instance::<P>::KEEPS_STREAMS, CallbackKind::Delete),
    ]
}

/// A module: where its instance is. A type that a macro makes, since a static cannot be generic.
pub trait Module: 'static {
    /// What it runs.
    type Plugin: Plugin;

    /// Lends the instance of this thread.
    fn with<T>(run: impl FnOnce(&Instance<Self::Plugin>) -> T) -> T;
}

/// What `_initialize` of a module does.
pub fn initialize<M: Module>() {
    host::run_constructors();
    start::<M>();
}

fn start<M: Module>() {
    logging::install(M::Plugin::NAME);
}

/// The filter for an engine that links it natively.
pub const fn registration<M: Module>() -> Registration {
    Registration {
        start: start::<M>,
        call: call::<M>,
        callbacks: || callbacks::<M::Plugin>().into_iter().flatten().collect(),
    }
}

/// Runs a callback, and gives what it returned; 0 for nothing.
pub fn call<M: Module>(callback: Callback) -> u32 {
    M::with(|instance| instance.call(callback))
}

/// The state of a module in one VM.
pub struct Instance<P: Plugin> {
    roots: Roots<P>,
    streams: Streams<P>,
}

impl<P: Plugin> Instance<P> {
    /// Whether something is kept per stream, from its first callback to `proxy_on_delete`.
    const KEEPS_STREAMS: bool = size_of::<P::Stream>() > 0 || std::mem::needs_drop::<P::Stream>();

    /// An instance before its first callback.
    pub const fn new() -> Self {
        Self { roots: Roots::new(), streams: Streams::new() }
    }

    #[inline]
    fn call(&self, callback: Callback) -> u32 {
        match callback {
            Callback::ContextCreate { context, parent } => {
                if parent != 0 {
                    self.streams.began(context, parent, &self.roots);
                }
                0
            }
            Callback::Configure { context, configuration_size } => {
                self.configure(context, configuration_size).into()
            }
            Callback::RequestHeaders { context, end_of_stream, .. } => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_request_headers(stream, &mut RequestHeaders::new(end_of_stream))
                });
                carry_out(outcome, StreamType::HttpRequest)
            }
            Callback::ResponseHeaders { context, end_of_stream, .. } => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_response_headers(stream, &mut ResponseHeaders::new(end_of_stream))
                });
                carry_out(outcome, StreamType::HttpResponse)
            }
            Callback::Log { context } => {
                // There is nobody left to answer.
                let _ = self.in_stream(context, |plugin, stream| {
                    plugin.on_log(stream, &mut LoggedExchange::new());
                    Ok(())
                });
                0
            }
            Callback::Delete { context } => {
                self.streams.ended(context);
                self.roots.ended(context);
                0
            }
            Callback::VmStart { .. } | Callback::Done { .. } => 1,
            Callback::Tick { .. }
            | Callback::QueueReady { .. }
            | Callback::NewConnection { .. }
            | Callback::DownstreamData { .. }
            | Callback::DownstreamConnectionClose { .. }
            | Callback::UpstreamData { .. }
            | Callback::UpstreamConnectionClose { .. }
            | Callback::RequestBody { .. }
            | Callback::RequestTrailers { .. }
            | Callback::ResponseBody { .. }
            | Callback::ResponseTrailers { .. }
            | Callback::HttpCallResponse { .. }
            | Callback::GrpcReceiveInitialMetadata { .. }
            | Callback::GrpcReceive { .. }
            | Callback::GrpcReceiveTrailingMetadata { .. }
            | Callback::GrpcClose { .. }
            | Callback::ForeignFunction { .. } => 0,
        }
    }

    /// Whether the configuration was taken.
    fn configure(&self, root: u32, size: usize) -> bool {
        logging::follow_host();
        match configured(size) {
            Ok(plugin) => {
                self.roots.configured(root, Rc::new(plugin));
                true
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    fn in_stream(&self, context: u32, run: impl FnOnce(&P, &mut P::Stream) -> Outcome) -> Outcome {
        let plugin = self.streams.root_of(context, &self.roots);
        // Hosts send no streams before a configuration was taken. One that does must not find an open
        // door.
        let Some(plugin) = plugin else { return Err(unavailable("tollgate_not_configured")) };
        if !Self::KEEPS_STREAMS {
            return run(&plugin, &mut P::Stream::default());
        }
        // A host that calls back during a host call finds no state for this stream.
        let Some(mut stream) = self.streams.take(context) else {
            return Err(unavailable("tollgate_called_during_a_call"));
        };
        let outcome = run(&plugin, &mut stream);
        self.streams.put_back(context, stream);
        outcome
    }
}

impl<P: Plugin> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

fn configured<P: Plugin>(size: usize) -> Result<P, ConfigureError> {
    let json = match u32::try_from(size).unwrap_or(u32::MAX) {
        0 => Vec::new(),
        size => host::buffer(BufferType::PluginConfiguration, 0, size)?,
    };
    P::configure(&json, &Root::new())
}

fn unavailable(details: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::SERVICE_UNAVAILABLE).with_details(details)
}

fn carry_out(outcome: Outcome, stream: StreamType) -> u32 {
    let action = match outcome {
        Ok(()) => HeadersAction::Continue,
        Err(reply) => {
            send(&reply, stream);
            HeadersAction::StopIteration
        }
    };
    action.into()
}

#[cold]
fn send(reply: &LocalReply, stream: StreamType) {
    if let Err(error) = reply.send() {
        log::error!("the stream is closed, as its answer could not be sent: {error}");
        if let Err(error) = host::close_stream(stream) {
            log::error!("the stream is held, as it could not be closed: {error}");
        }
    }
}
