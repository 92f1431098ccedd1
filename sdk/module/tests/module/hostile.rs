//! Bytes that mean harm: whatever they are, reading, checking and finishing end in a value.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tollgate_module::{Description, FinishError, Module, finish};

use crate::fixture::{FILTER, wasm};

/// Does everything that can be done with bytes.
fn harmless(bytes: &[u8]) {
    if let Ok(module) = Module::read(bytes) {
        for problem in module.check() {
            assert!(!problem.to_string().contains('\n'));
        }
        let _ = module.metadata();
    }
    match finish(bytes, &Description::default()) {
        Ok(finished) => {
            assert_eq!(finish(&finished, &Description::default()), Ok(finished));
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            assert!(!matches!(error, FinishError::Bug { .. }), "{error}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_harmless(bytes in vec(any::<u8>(), 0..512)) {
        harmless(&bytes);
    }

    #[test]
    fn arbitrary_sections_are_harmless(
        sections in vec((0_u8..14, vec(0_u8..=0x80, 0..24)), 0..8)
    ) {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        for (id, content) in sections {
            bytes.extend([id, u8::try_from(content.len()).unwrap_or(0)]);
            bytes.extend(content);
        }
        harmless(&bytes);
    }

    #[test]
    fn a_mutated_module_is_harmless(
        mutations in vec((any::<Index>(), any::<u8>()), 1..6),
        end in prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)],
    ) {
        let mut bytes = wasm(FILTER);
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        harmless(&bytes);
    }
}

#[test]
fn deeply_nested_code_is_harmless() {
    let depth = 100_000;
    let (open, close) = ("block ".repeat(depth), "end ".repeat(depth));
    let nested = format!("(func {open} {close})");
    harmless(&wasm(&FILTER.replace(
        "(func (export \"on_my_own\"))",
        &format!("{nested} (func (export \"on_my_own\"))"),
    )));
}
