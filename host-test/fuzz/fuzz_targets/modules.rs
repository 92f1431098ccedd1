//! Modules of any code and of changed bytes: the host answers with reasons, in its bounds, and twice the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_host_fuzz_driver::{ModuleCase, run_module};

fuzz_target!(|case: ModuleCase| {
    if let Err(wrong) = run_module(&case) {
        panic!("{wrong}");
    }
});
