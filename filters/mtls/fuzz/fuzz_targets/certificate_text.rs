//! Any bytes as a certificate in PEM: refused, or decoded as another reader decodes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_mtls_fuzz::checks;

fuzz_target!(|bytes: &[u8]| {
    checks::certificate_text(bytes);
});
