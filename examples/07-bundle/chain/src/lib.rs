//! Two filters as one, which the proxy calls once for both.

tollgate::export!("edge" = [example_tenants::Tenants, example_hello::Hello]);
