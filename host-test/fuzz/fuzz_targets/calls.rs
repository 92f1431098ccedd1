//! Any host calls in any callbacks: the host answers with reasons, in its bounds, and twice the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_host_fuzz_driver::{CallsCase, run_calls};

fuzz_target!(|case: CallsCase| {
    if let Err(wrong) = run_calls(&case) {
        panic!("{wrong}");
    }
});
