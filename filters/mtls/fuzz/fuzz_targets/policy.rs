//! Any bytes as a policy: taken, or refused with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_mtls_fuzz::checks;

fuzz_target!(|bytes: &[u8]| {
    checks::policy(bytes);
});
