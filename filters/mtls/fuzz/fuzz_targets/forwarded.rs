//! Any bytes as a line of x-forwarded-client-cert: refused, or read in one way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_mtls_fuzz::checks;

fuzz_target!(|bytes: &[u8]| {
    checks::forwarded(bytes);
});
