//! A filter at one stream, whatever its type.

use std::rc::Rc;

use super::{Exchange, Handler};
use crate::dispatch::Phases;
use crate::dispatch::bodies::{Part, Passage};
use crate::ending::ResetStream;
use crate::exchange::Request;
use crate::filter::Outcome;
use crate::live::{LoggedExchange, RequestHeaders, ResponseHeaders};
use crate::reply::LocalReply;
use crate::window::Window;

/// A filter at one stream, with what it keeps of it.
pub trait Link {
    /// The callbacks that it takes part in.
    fn phases(&self) -> Phases;

    /// The request headers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Outcome;

    /// A part of the request body is there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_body(&mut self, part: Part) -> Result<Passage, LocalReply>;

    /// The request trailers are there, and what was held of the body is whole: gives how many bytes of it
    /// go on.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_trailers(&mut self, held: Window) -> Result<usize, LocalReply>;

    /// The response headers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_response_headers(&mut self, response: &mut ResponseHeaders) -> Outcome;

    /// A part of the response body is there.
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the response must not go on.
    fn on_response_body(&mut self, part: Part) -> Result<Passage, ResetStream>;

    /// The response trailers are there, and what was held of the body is whole: gives how many bytes of it
    /// go on.
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the response must not end well.
    fn on_response_trailers(&mut self, held: Window) -> Result<usize, ResetStream>;

    /// The handler that follows the exchange, if the filter has one.
    fn follow(&self, exchange: Rc<Exchange>, request: Request) -> Option<Handler>;

    /// The stream is over. What its handler has left with the exchange is the filter's again.
    fn on_log(&mut self, of: &Exchange, exchange: &mut LoggedExchange);
}
