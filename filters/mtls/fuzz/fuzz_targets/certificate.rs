//! Any bytes as a certificate in DER: refused, or read as another reader reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_mtls_fuzz::checks;

fuzz_target!(|bytes: &[u8]| {
    checks::certificate(bytes);
});
