//! One header in, one out: greets the user that a request names.

use tollgate::config::NoConfig;
use tollgate::{ConfigureError, Filter, OnRequestHeaders, Outcome, RequestHeaders, Root};

/// The filter, which keeps nothing.
#[derive(Debug)]
pub struct Hello;

impl Filter for Hello {
    const NAME: &'static str = "hello";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self)
    }
}

impl OnRequestHeaders for Hello {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        if let Some(user) = request.first("x-user")? {
            request.set("x-hello", [b"hello ", user.as_slice()].concat())?;
        }
        Ok(())
    }
}
