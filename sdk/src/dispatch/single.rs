//! One filter as a plugin: its phases are the traits that it implements.

use std::marker::PhantomData;
use std::rc::Rc;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Phases, Plugin};
use crate::config::Document;
use crate::exchange::{Bodies, Lent, OnExchange, Request};
use crate::filter::{
    ConfigureError, Filter, InBackground, OnLog, OnRequestHeaders, OnResponseHeaders, Outcome,
};
use crate::live::{LoggedExchange, RequestHeaders, ResponseHeaders};
use crate::root::Root;
use crate::runtime::{Exchange, Handler};

/// [`OnRequestHeaders`], as a function.
pub type RequestHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut RequestHeaders) -> Outcome;
/// [`OnResponseHeaders`], as a function.
pub type ResponseHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut ResponseHeaders) -> Outcome;
/// [`OnLog`], as a function.
pub type LogHandler<F> = fn(&F, &mut <F as Filter>::Stream, &mut LoggedExchange);

/// [`OnExchange`], as a function that takes all that the handler needs, with what it has to do with
/// bodies.
pub type ExchangeHandler<F> = (fn(Rc<F>, Lent<<F as Filter>::Stream>, Request) -> Handler, Bodies);
/// [`InBackground`], as a function.
pub type BackgroundHandler<F> = fn(Rc<F>) -> Handler;

/// A filter whose phases are known: a type that a macro makes, since only where the type of the filter
/// is known can it be asked for its traits.
pub trait Handled: 'static {
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
    /// [`OnExchange`].
    pub exchange: Option<ExchangeHandler<F>>,
    /// [`InBackground`].
    pub background: Option<BackgroundHandler<F>>,
}

impl<F: Filter> Handlers<F> {
    /// The same phases, if they can be those of a filter.
    ///
    /// # Panics
    ///
    /// While compiling: when there is none, for such a filter would do nothing, and nobody would
    /// notice; and when two would decide about the same headers.
    #[must_use]
    pub const fn checked(self) -> Self {
        let headers = self.request_headers.is_some() || self.response_headers.is_some();
        assert!(
            headers || self.log.is_some() || self.exchange.is_some() || self.background.is_some(),
            "the filter has no phase; implement OnRequestHeaders, OnExchange or another"
        );
        assert!(
            !(headers && self.exchange.is_some()),
            "the filter follows exchanges; what OnRequestHeaders and OnResponseHeaders do belongs \
             into on_exchange"
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

impl<F: OnExchange> Probe<F> {
    /// The phase of this filter.
    pub const EXCHANGE: Option<ExchangeHandler<F>> = Some((follow::<F>, F::BODIES));
}

/// What [`Probe`] finds in a filter without the phase.
pub trait NoExchange<F: Filter> {
    /// No phase.
    const EXCHANGE: Option<ExchangeHandler<F>> = None;
}

impl<F: Filter> NoExchange<F> for Probe<F> {}

fn follow<F: OnExchange>(filter: Rc<F>, mut stream: Lent<F::Stream>, request: Request) -> Handler {
    Box::pin(async move { filter.on_exchange(stream.state(), request).await })
}

impl<F: InBackground> Probe<F> {
    /// The phase of this filter.
    pub const BACKGROUND: Option<BackgroundHandler<F>> = Some(begin::<F>);
}

/// What [`Probe`] finds in a filter without the phase.
pub trait NoBackground<F: Filter> {
    /// No phase.
    const BACKGROUND: Option<BackgroundHandler<F>> = None;
}

impl<F: Filter> NoBackground<F> for Probe<F> {}

fn begin<F: InBackground>(filter: Rc<F>) -> Handler {
    Box::pin(async move {
        filter.in_background().await;
        Ok(())
    })
}

/// A filter, configured.
pub struct Single<H: Handled>(Rc<H::Filter>);

impl<H: Handled> Clone for Single<H> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<H: Handled> Plugin for Single<H> {
    const PHASES: Phases = Phases {
        request_headers: H::HANDLERS.request_headers.is_some(),
        response_headers: H::HANDLERS.response_headers.is_some(),
        log: H::HANDLERS.log.is_some(),
        exchange: match H::HANDLERS.exchange {
            Some((_, bodies)) => Some(bodies),
            None => None,
        },
        background: H::HANDLERS.background.is_some(),
    };
    type Stream = <H::Filter as Filter>::Stream;

    fn configure(config: &Document, root: &Root) -> Result<Self, ConfigureError> {
        H::Filter::configure(config.read()?, root).map(|filter| Self(Rc::new(filter)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        <H::Filter as Filter>::Config::json_schema(generator)
    }

    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome {
        const { H::HANDLERS.request_headers }.map_or(Ok(()), |on| on(&self.0, stream, request))
    }

    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        const { H::HANDLERS.response_headers }.map_or(Ok(()), |on| on(&self.0, stream, response))
    }

    fn follow(&self, exchange: Rc<Exchange>, request: Request) -> Option<Handler> {
        let (follow, _) = const { H::HANDLERS.exchange }?;
        Some(follow(Rc::clone(&self.0), Lent::new(Self::Stream::default(), exchange), request))
    }

    fn regain(&self, stream: &mut Self::Stream, exchange: &Exchange) {
        if let Some(state) = exchange.take_state() {
            *stream = state;
        }
    }

    fn in_background(&self) -> Option<Handler> {
        const { H::HANDLERS.background }.map(|begin| begin(Rc::clone(&self.0)))
    }

    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange) {
        if let Some(on) = const { H::HANDLERS.log } {
            on(&self.0, stream, exchange);
        }
    }
}
