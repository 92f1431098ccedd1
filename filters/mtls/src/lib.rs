//! mTLS identity for Envoy: who is calling, and may they.
//!
//! [`identity`] says who calls, from a certificate, a waypoint or a proxy before, and [`policy`] what a caller
//! may do; both are pure. [`Mtls`] asks the proxy and carries the decision out for requests, [`MtlsTcp`] for
//! connections of TCP.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod identity;
pub mod policy;
pub mod time;

mod filter;
mod guard;
mod tcp;

pub use filter::Mtls;
pub use tcp::{Admission, MtlsTcp};
