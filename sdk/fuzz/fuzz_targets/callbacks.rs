//! Any callbacks on a host that answers anything: the filters live, and keep to the rules of the host.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_fuzz_driver::{Case, run};

fuzz_target!(|case: Case| {
    if let Err(violation) = run(&case) {
        panic!("{violation}");
    }
});
