//! Two filters in one module: the root id of a plugin says which it runs.

tollgate::export!("bundle" = {
    "hello" => example_hello::Hello,
    "tenants" => example_tenants::Tenants,
});
