//! A rate limit for Envoy that all workers of a proxy share.
//!
//! The decision is pure: [`config`] parses a policy, [`key`] names whom a request counts against,
//! [`table`] keeps what every key has spent in records of fixed size, [`gcra`] decides against a
//! [`quota`] about a [`cost`], and [`answer`] says what clients are told. [`RateLimit`] reads and writes
//! those records, and answers the client.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod answer;
pub mod config;
pub mod cost;
pub mod gcra;
pub mod key;
pub mod quota;
pub mod table;

mod filter;
mod global;
mod local;
mod refusal;
mod rls;
mod rules;
mod store;

pub use filter::RateLimit;
pub use global::GlobalRateLimit;
