//! Any bytes as the path of a request: ambiguous, or with one reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_mtls_fuzz::checks;

fuzz_target!(|bytes: &[u8]| {
    checks::path(bytes);
});
