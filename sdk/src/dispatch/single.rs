//! One filter as a plugin: its phases are the traits that it implements.

use std::marker::PhantomData;

use super::{Phases, Plugin};
use crate::config;
use crate::filter::{ConfigureError, Filter, OnLog, OnRequestHeaders, OnResponseHeaders, Outcome};
use crate::live::{LoggedExchange, RequestHeaders, ResponseHeaders};
use crate::root::Root;

/// [`OnRequestHeaders`], as a function.
pub type RequestHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut RequestHeaders) -> Outcome;
/// [`OnResponseHeaders`], as a function.
pub type ResponseHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut ResponseHeaders) -> Outcome;
/// [`OnLog`], as a function.
pub type LogHandler<F> = fn(&F, &mut <F as Filter>::Stream, &mut LoggedExchange);

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
}

impl<F: Filter> Handlers<F> {
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

/// A filter, configured.
pub struct Single<H: Handled>(H::Filter);

impl<H: Handled> Plugin for Single<H> {
    const NAME: &'static str = H::Filter::NAME;
    const PHASES: Phases = Phases {
        request_headers: H::HANDLERS.request_headers.is_some(),
        response_headers: H::HANDLERS.response_headers.is_some(),
        log: H::HANDLERS.log.is_some(),
    };
    type Stream = <H::Filter as Filter>::Stream;

    fn configure(json: &[u8], root: &Root) -> Result<Self, ConfigureError> {
        H::Filter::configure(config::parse(json)?, root).map(Self)
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

    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange) {
        if let Some(on) = const { H::HANDLERS.log } {
            on(&self.0, stream, exchange);
        }
    }
}
