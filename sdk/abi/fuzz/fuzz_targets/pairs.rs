//! Any bytes as header pairs: what is read back must encode to a map that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_abi::pairs::{Pairs, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(pairs) = Pairs::parse(bytes) else { return };
    let lines: Vec<_> = pairs.iter().collect();
    assert_eq!(lines.len(), pairs.len());
    let encoded = encode(&lines).expect("what was read fits");
    let again = Pairs::parse(&encoded).expect("what was encoded is a map");
    assert!(again.iter().eq(lines));
});
