//! From callbacks to plugins: which root and which stream a callback is for.
//!
//! A VM may hold several plugins: a proxy puts those with the same module into one, and while it
//! replaces a configuration, the old and the new one stand side by side. What a plugin is stands in
//! `plugin`, what a filter does with a callback in `single`.
//!
//! No state is borrowed while a filter runs, so that a host may call back in the middle of a host call.

pub(crate) mod bodies;
mod chain;
mod contexts;
mod ends;
mod one_of;
mod plugin;
pub(crate) mod single;

use tollgate_abi::{BufferType, Callback, CallbackKind, HeadersAction, StreamType};

use self::bodies::{Part, Passage};
pub use self::chain::{Chain, End};
use self::contexts::{Roots, Streams};
pub(crate) use self::ends::reset;
use self::ends::{Unserved, close, settle};
pub use self::one_of::{First, Next, Nothing, OneOf, Rooted};
pub(crate) use self::plugin::Configuration;
pub use self::plugin::{Phases, Plugin, callbacks, needs};
use crate::body::{BodyView, Limits};
use crate::config::Document;
use crate::filter::{ConfigureError, Outcome};
use crate::live::{
    LoggedExchange, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
use crate::metrics::StatsTags;
use crate::root::Root;
use crate::runtime::{self, Direction, Flow, Piece, send};
use crate::window::Window;
use crate::{callout, host, logging, state};

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
    /// What is kept on this thread: for tests that nothing is once all contexts are gone.
    #[doc(hidden)]
    pub kept: fn() -> Kept,
}

/// What a VM keeps, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Roots that are configured.
    pub roots: usize,
    /// Streams whose state or whose root is remembered.
    pub streams: usize,
    /// Tasks, with those that are to be polled.
    pub tasks: usize,
    /// Roots with timers.
    pub timers: usize,
    /// Calls whose answers are awaited.
    pub calls: usize,
    /// Tasks that wait for messages.
    pub waits: usize,
}

/// A module: where its instance is. A type that a macro makes, since a static cannot be generic.
pub trait Module: 'static {
    /// What log lines begin with.
    const NAME: &'static str;
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
    logging::install(M::NAME);
}

/// The filter for an engine that links it natively.
pub const fn registration<M: Module>() -> Registration {
    Registration {
        start: start::<M>,
        call: call::<M>,
        callbacks: || callbacks::<M::Plugin>().into_iter().flatten().collect(),
        kept: || M::with(Instance::kept),
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
    /// An instance before its first callback.
    pub const fn new() -> Self {
        Self { roots: Roots::new(), streams: Streams::new() }
    }

    fn kept(&self) -> Kept {
        Kept {
            roots: self.roots.len(),
            streams: self.streams.len(),
            tasks: runtime::kept(),
            timers: runtime::kept_timers(),
            calls: callout::kept(),
            waits: state::kept_waits(),
        }
    }

    #[inline]
    #[expect(clippy::too_many_lines, reason = "one arm for each callback")]
    fn call(&self, callback: Callback) -> u32 {
        if P::PHASES.flows
            && let Some(returned) = self.call_flow(callback)
        {
            return returned;
        }
        if P::PHASES.has_tasks()
            && let Some(returned) = Self::call_tasks(callback)
        {
            return returned;
        }
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
            Callback::RequestBody { context, size, end_of_stream } if P::PHASES.request_body => {
                let part = Part { window: Window::all(size), is_last: end_of_stream };
                let outcome =
                    self.in_stream(context, |plugin, stream| plugin.on_request_body(stream, part));
                settle(outcome, |reply| send(&reply, StreamType::HttpRequest))
            }
            Callback::RequestTrailers { context, .. } if P::PHASES.request_trailers => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.before_request_trailers(stream, None)?;
                    plugin.on_request_trailers(stream, &mut RequestTrailers::new(true))
                });
                carry_out(outcome, StreamType::HttpRequest)
            }
            Callback::ResponseHeaders { context, end_of_stream, .. } => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_response_headers(stream, &mut ResponseHeaders::new(end_of_stream))
                });
                carry_out(outcome, StreamType::HttpResponse)
            }
            Callback::ResponseBody { context, size, end_of_stream } if P::PHASES.response_body => {
                let part = Part { window: Window::all(size), is_last: end_of_stream };
                let outcome =
                    self.in_stream(context, |plugin, stream| plugin.on_response_body(stream, part));
                settle(outcome, |end| reset(&end))
            }
            Callback::ResponseTrailers { context, .. } if P::PHASES.response_trailers => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.before_response_trailers(stream, None)?;
                    plugin.on_response_trailers(stream, &mut ResponseTrailers::new(true))
                });
                settle(outcome.map(|()| Passage::Open(0)), |end| reset(&end))
            }
            Callback::NewConnection { context } if P::PHASES.connection => {
                let outcome = self.in_stream(context, Plugin::on_connection);
                settle(outcome.map(|()| Passage::Open(0)), |end| close(&end))
            }
            Callback::DownstreamData { context, size, end_of_stream }
                if P::PHASES.downstream_data =>
            {
                let outcome = self.in_stream(context, |plugin, stream| {
                    let mut data =
                        BodyView::chunk(Window::all(size), end_of_stream, Limits::Resize);
                    plugin.on_downstream_data(stream, &mut data)
                });
                settle(outcome.map(|()| Passage::Open(0)), |end| close(&end))
            }
            Callback::UpstreamData { context, size, end_of_stream } if P::PHASES.upstream_data => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    let mut data =
                        BodyView::chunk(Window::all(size), end_of_stream, Limits::Resize);
                    plugin.on_upstream_data(stream, &mut data)
                });
                settle(outcome.map(|()| Passage::Open(0)), |end| close(&end))
            }
            Callback::DownstreamConnectionClose { context, peer } if P::PHASES.downstream_close => {
                self.note(context, |plugin, stream| {
                    plugin.on_downstream_close(stream, peer.into());
                })
            }
            Callback::UpstreamConnectionClose { context, peer } if P::PHASES.upstream_close => self
                .note(context, |plugin, stream| {
                    plugin.on_upstream_close(stream, peer.into());
                }),
            Callback::Log { context } => self.note(context, |plugin, stream| {
                plugin.on_log(stream, &mut LoggedExchange::new());
            }),
            Callback::Delete { context } => {
                if P::PHASES.flows || P::PHASES.has_tasks() {
                    runtime::ended(context);
                }
                self.streams.ended(context);
                self.roots.ended(context);
                0
            }
            Callback::VmStart { .. } | Callback::Done { .. } => 1,
            // Also phases that the plugin has not: they cost a module nothing.
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

    /// Runs a callback of a stream that goes from filter to filter, and gives what it returned.
    fn call_flow(&self, callback: Callback) -> Option<u32> {
        use Direction::{Request, Response};

        let context = callback.context();
        let (direction, piece) = match callback {
            Callback::RequestHeaders { end_of_stream, .. } => {
                return Some(runtime::begin(self.flow(context)?, end_of_stream));
            }
            Callback::RequestBody { size, end_of_stream, .. } => {
                (Request, Piece::Body { size, end_of_stream })
            }
            Callback::RequestTrailers { .. } => (Request, Piece::Trailers),
            Callback::ResponseHeaders { end_of_stream, .. } => {
                (Response, Piece::Headers { end_of_stream })
            }
            Callback::ResponseBody { size, end_of_stream, .. } => {
                (Response, Piece::Body { size, end_of_stream })
            }
            Callback::ResponseTrailers { .. } => (Response, Piece::Trailers),
            Callback::Log { .. } => {
                match runtime::over(context) {
                    Some(flow) => flow.log(),
                    // The request never came here.
                    None => self.flow(context)?.log(),
                }
                return Some(0);
            }
            _ => return None,
        };
        runtime::arrived(context, direction, piece)
            .or_else(|| self.flowing(context).map(|_| HeadersAction::Continue.into()))
    }

    /// Runs a callback of a plugin that has tasks, as far as it is theirs: gives what it returned.
    fn call_tasks(callback: Callback) -> Option<u32> {
        match callback {
            Callback::Tick { context } => runtime::tick(context),
            Callback::QueueReady { context, queue } if P::PHASES.messages => {
                state::ready(context, queue);
            }
            Callback::HttpCallResponse { token, headers, body_size, trailers, .. } => {
                callout::answered(token, headers, body_size, trailers);
            }
            Callback::GrpcReceiveInitialMetadata { token, .. } => callout::initial_metadata(token),
            Callback::GrpcReceive { token, size, .. } => callout::message(token, size),
            Callback::GrpcReceiveTrailingMetadata { token, .. } => {
                callout::trailing_metadata(token);
            }
            Callback::GrpcClose { token, status, .. } => callout::closed(token, status),
            _ => return None,
        }
        runtime::run(callback.context());
        Some(0)
    }

    /// Whether the configuration was taken.
    fn configure(&self, root: u32, size: usize) -> bool {
        logging::follow_host();
        match configured::<P>(size) {
            Ok(plugin) => {
                let background = plugin.in_background();
                self.roots.configured(root, plugin);
                if P::PHASES.background {
                    runtime::end_in_background(root);
                }
                if let Some(background) = background {
                    runtime::begin_in_background(root, background);
                }
                true
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    /// The root of a stream that goes from filter to filter, with its plugin.
    fn flowing(&self, context: u32) -> Option<(u32, P)> {
        self.streams.root_of(context, &self.roots).filter(|(_, plugin)| plugin.phases().flows)
    }

    /// A stream at its beginning.
    fn flow(&self, context: u32) -> Option<Flow> {
        let (root, plugin) = self.flowing(context)?;
        Some(Flow::new(context, root, plugin.links()))
    }

    fn in_stream<T, E: From<Unserved>>(
        &self,
        context: u32,
        run: impl FnOnce(&P, &mut P::Stream) -> Result<T, E>,
    ) -> Result<T, E> {
        let plugin = self.streams.root_of(context, &self.roots);
        // Hosts send no streams before a configuration was taken. One that does must not find an open
        // door.
        let Some((_, plugin)) = plugin else { return Err(Unserved::NotConfigured.into()) };
        if !P::KEEPS_STREAMS {
            return run(&plugin, &mut P::Stream::default());
        }
        // A host that calls back during a host call finds no state for this stream.
        let Some(mut stream) = self.streams.take(context) else {
            return Err(Unserved::CalledDuringACall.into());
        };
        let outcome = run(&plugin, &mut stream);
        self.streams.put_back(context, stream);
        outcome
    }

    /// Runs what decides nothing: there is nobody left to answer, and no stream to close.
    fn note(&self, context: u32, run: impl FnOnce(&P, &mut P::Stream)) -> u32 {
        let _: Result<(), Unserved> = self.in_stream(context, |plugin, stream| {
            run(plugin, stream);
            Ok(())
        });
        0
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
    P::configure(&Document::parse(&json)?, &Root::new(StatsTags::NONE))
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
