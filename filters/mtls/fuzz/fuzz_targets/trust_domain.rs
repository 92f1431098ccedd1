//! Any bytes as the trust domain of a policy: taken or refused as by another reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_mtls_fuzz::checks;

fuzz_target!(|bytes: &[u8]| {
    checks::trust_domain(bytes);
});
