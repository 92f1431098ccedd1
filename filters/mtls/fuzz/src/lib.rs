//! The checks of the parsers' tests, for the fuzzer.

#[path = "../../tests/parsers/checks.rs"]
pub mod checks;
