//! Canary routing for Envoy: which variant of a service a request gets, and why.
//!
//! The decision is pure: [`config`] parses a policy, [`condition`] reads requests, [`key`] says whom an
//! assignment is for, [`bucket`] deals shares, and [`decision`] goes through it all in one written order.
//! [`Canary`] takes off what clients may not say, and writes the result where routes look for it.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod bucket;
pub mod condition;
pub mod config;
pub mod decision;
pub mod key;

mod filter;
mod scrub;

pub use filter::Canary;
