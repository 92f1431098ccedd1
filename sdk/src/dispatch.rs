//! From callbacks to the phases of a filter, on the contexts of the `proxy-wasm` crate.
//!
//! What of that crate can still panic, and when:
//!
//! - a callback for a context that does not exist, or a context created twice: no host does so;
//! - a TCP callback (`proxy_on_new_connection` and its like): a host that was told to use an HTTP
//!   filter for TCP. The finished module does not export them;
//! - a host that calls back while a host call of the same module is running.

use std::marker::PhantomData;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action as ProxyAction, ContextType};
use tollgate_abi::{BufferType, CallbackKind, StreamType};

use crate::filter::{Action, ConfigureError, Filter, OnLog, OnRequestHeaders, OnResponseHeaders};
use crate::live::{LoggedExchange, RequestHeaders, ResponseHeaders};
use crate::reply::{LocalReply, StatusCode};
use crate::root::Root;
use crate::{config, host, logging};

/// A filter for an engine that links it natively and needs no module.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// What `_initialize` of the module does: it makes the filter known to the dispatcher of this
    /// thread.
    pub register: fn(),
    /// The callbacks that the finished module exports.
    pub callbacks: fn() -> Vec<CallbackKind>,
}

/// [`OnRequestHeaders`], as a function.
pub type RequestHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut RequestHeaders) -> Action;
/// [`OnResponseHeaders`], as a function.
pub type ResponseHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut ResponseHeaders) -> Action;
/// [`OnLog`], as a function.
pub type LogHandler<F> = fn(&F, &mut <F as Filter>::Stream, &mut LoggedExchange);

/// A filter with its phases: a type that a macro makes, since only where the type of the filter is
/// known can it be asked for its traits.
pub trait Module: 'static {
    /// The filter.
    type Filter: Filter;
    /// Its phases.
    const HANDLERS: Handlers<Self::Filter>;
}

/// The phases of a filter.
pub struct Handlers<F: Filter> {
    /// [`OnRequestHeaders`].
    pub request_headers: Option<RequestHeadersHandler<F>>,
    /// [`OnResponseHeaders`].
    pub response_headers: Option<ResponseHeadersHandler<F>>,
    /// [`OnLog`].
    pub log: Option<LogHandler<F>>,
}

/// As many callbacks as a filter can have.
const MOST_CALLBACKS: usize = 6;

impl<F: Filter> Handlers<F> {
    /// The callbacks that every filter needs, and those of its phases.
    pub const fn callbacks(&self) -> [Option<CallbackKind>; MOST_CALLBACKS] {
        const fn when(implemented: bool, callback: CallbackKind) -> Option<CallbackKind> {
            if implemented { Some(callback) } else { None }
        }
        [
            Some(CallbackKind::ContextCreate),
            Some(CallbackKind::Configure),
            when(self.request_headers.is_some(), CallbackKind::RequestHeaders),
            when(self.response_headers.is_some(), CallbackKind::ResponseHeaders),
            when(self.log.is_some(), CallbackKind::Log),
            Some(CallbackKind::Delete),
        ]
    }

    /// The same phases, if there is one.
    ///
    /// # Panics
    ///
    /// While compiling, when there is none: such a filter would do nothing, and nobody would notice.
    #[must_use]
    pub const fn not_empty(self) -> Self {
        assert!(
            self.request_headers.is_some() || self.response_headers.is_some() || self.log.is_some(),
            "the filter has no phase; implement OnRequestHeaders, OnResponseHeaders or OnLog"
        );
        self
    }
}

/// Asks the type of a filter for its phases. A constant of `Probe` itself, which is there only if the
/// filter has the phase, comes before that of a trait.
pub struct Probe<F>(PhantomData<F>);

macro_rules! phases {
    ($( $phase:ident or $fallback:ident: $constant:ident = $handler:ident($method:ident); )*) => { $(
        impl<F: $phase> Probe<F> {
            /// The phase of this filter.
            pub const $constant: Option<$handler<F>> = Some(F::$method);
        }

        /// What [`Probe`] finds in a filter without the phase.
        pub trait $fallback<F: Filter> {
            /// No phase.
            const $constant: Option<$handler<F>> = None;
        }

        impl<F: Filter> $fallback<F> for Probe<F> {}
    )* };
}

phases! {
    OnRequestHeaders or NoRequestHeaders: REQUEST_HEADERS = RequestHeadersHandler(on_request_headers);
    OnResponseHeaders or NoResponseHeaders: RESPONSE_HEADERS = ResponseHeadersHandler(on_response_headers);
    OnLog or NoLog: LOG = LogHandler(on_log);
}

/// What `_initialize` of a module does.
pub fn initialize<M: Module>() {
    host::run_constructors();
    register::<M>();
}

/// The filter for an engine that links it natively.
pub const fn registration<M: Module>() -> Registration {
    Registration {
        register: register::<M>,
        callbacks: || M::HANDLERS.callbacks().into_iter().flatten().collect(),
    }
}

fn register<M: Module>() {
    logging::install(M::Filter::NAME);
    proxy_wasm::set_root_context(|_| Box::new(Worker::<M> { filter: None }));
}

/// The root context: one per worker and configuration.
struct Worker<M: Module> {
    /// `None` until a configuration has been taken.
    filter: Option<Rc<M::Filter>>,
}

impl<M: Module> Context for Worker<M> {}

impl<M: Module> RootContext for Worker<M> {
    fn on_configure(&mut self, size: usize) -> bool {
        logging::follow_host();
        match configure(size) {
            Ok(filter) => {
                self.filter = Some(Rc::new(filter));
                true
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::<M> { filter: self.filter.clone(), state: Default::default() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn configure<F: Filter>(size: usize) -> Result<F, ConfigureError> {
    let json = match u32::try_from(size).unwrap_or(u32::MAX) {
        0 => Vec::new(),
        size => host::buffer(BufferType::PluginConfiguration, 0, size)?,
    };
    F::configure(config::parse(&json)?, &Root::new())
}

/// The context of a stream.
struct Stream<M: Module> {
    filter: Option<Rc<M::Filter>>,
    state: <M::Filter as Filter>::Stream,
}

impl<M: Module> Context for Stream<M> {}

impl<M: Module> HttpContext for Stream<M> {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> ProxyAction {
        let Some(handler) = M::HANDLERS.request_headers else {
            return ProxyAction::Continue;
        };
        let action = match &self.filter {
            Some(filter) => {
                handler(filter, &mut self.state, &mut RequestHeaders::new(end_of_stream))
            }
            None => not_configured(),
        };
        carry_out(&action, StreamType::HttpRequest)
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> ProxyAction {
        let Some(handler) = M::HANDLERS.response_headers else {
            return ProxyAction::Continue;
        };
        let action = match &self.filter {
            Some(filter) => {
                handler(filter, &mut self.state, &mut ResponseHeaders::new(end_of_stream))
            }
            None => not_configured(),
        };
        carry_out(&action, StreamType::HttpResponse)
    }

    fn on_log(&mut self) {
        if let (Some(handler), Some(filter)) = (M::HANDLERS.log, &self.filter) {
            handler(filter, &mut self.state, &mut LoggedExchange::new());
        }
    }
}

/// Hosts send no streams before a configuration was taken. One that does must not find an open door.
fn not_configured() -> Action {
    let reply = LocalReply::new(StatusCode::SERVICE_UNAVAILABLE);
    Action::Reply(reply.with_details("tollgate_not_configured"))
}

fn carry_out(action: &Action, stream: StreamType) -> ProxyAction {
    match action {
        Action::Continue => ProxyAction::Continue,
        Action::Reply(reply) => {
            if let Err(error) = reply.send() {
                log::error!("the stream is closed, as its answer could not be sent: {error}");
                if let Err(error) = host::close_stream(stream) {
                    log::error!("the stream is held, as it could not be closed: {error}");
                }
            }
            ProxyAction::Pause
        }
    }
}
