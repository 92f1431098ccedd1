//! Lets requests of known tenants pass, and tells them from all others by the header `x-tenant`.

#![forbid(unsafe_code)]

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::config::AtLeastOne;
use tollgate::{
    ConfigureError, Counter, Filter, LocalReply, OnRequestHeaders, Outcome, RequestHeaders, Root,
    StatusCode,
};

/// The configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The tenants whose requests pass.
    tenants: AtLeastOne<String>,
}

/// The filter of a worker.
#[derive(Debug)]
pub struct Tenants {
    tenants: Vec<String>,
    refused: Counter,
}

impl Filter for Tenants {
    const NAME: &'static str = "{{name}}";
    type Config = Config;
    type Stream = ();

    fn configure(config: Config, root: &Root) -> Result<Self, ConfigureError> {
        let refused = root.counter("{{crate}}_refused");
        Ok(Self {
            tenants: config.tenants.into_vec(),
            refused,
        })
    }
}

impl OnRequestHeaders for Tenants {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        // A client may send the header twice; then nobody knows which line the upstream believes.
        match request.read()?.exactly_one("x-tenant") {
            Ok(tenant) if self.tenants.iter().any(|known| known.as_bytes() == tenant) => Ok(()),
            Ok(_) | Err(_) => {
                self.refused.increment();
                Err(LocalReply::new(StatusCode::FORBIDDEN).with_body("unknown tenant\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate::registration;
    use tollgate::testing::{Fault, Proxy};
    use tollgate::{Function, Status};

    use super::*;

    fn start() -> Proxy {
        let filter = Proxy::with(registration!(Tenants)).config(r#"{ "tenants": ["a"] }"#);
        filter.workers(2).start().unwrap()
    }

    #[test]
    fn a_known_tenant_passes() {
        let exchange = start()
            .get("/orders")
            .header("x-tenant", "a")
            .send()
            .unwrap();
        assert_eq!(exchange.status(), Some(200), "{exchange}");
        assert_eq!(exchange.upstream().unwrap().path(), "/orders");
    }

    #[test]
    fn an_unknown_tenant_is_refused_and_counted_on_every_worker() {
        let mut proxy = start();
        for refused in 1..=4 {
            let exchange = proxy.get("/orders").header("x-tenant", "b").send().unwrap();
            assert_eq!(exchange.status(), Some(403), "{exchange}");
            assert!(exchange.upstream().is_none(), "{exchange}");
            assert_eq!(proxy.metric("{{crate}}_refused"), Some(refused));
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_does_not_pass() {
        let fault = Fault::every(Function::GetHeaderMapPairs, Status::InternalFailure);
        let exchange = start()
            .get("/")
            .header("x-tenant", "a")
            .fault(fault)
            .send()
            .unwrap();
        assert_eq!(exchange.status(), Some(503), "{exchange}");
    }

    #[test]
    fn a_configuration_without_tenants_is_refused() {
        let filter = Proxy::with(registration!(Tenants)).config(r#"{ "tenants": [] }"#);
        let refused = filter.start().unwrap_err().to_string();
        assert!(refused.contains("tenants: an empty list"), "{refused}");
    }
}
