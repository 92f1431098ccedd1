//! Holds the offline host to a real Envoy, behaviour by behaviour.
//!
//! There is nothing here but tests: the cases are scenarios in `cases`, their guest is in `probe`, and
//! `tests/agreement.rs` plays each case on both hosts and compares all that can be seen.

#![forbid(unsafe_code)]
