//! Runs scenarios on a real Envoy process.
//!
//! [`find_envoy`] finds the binary; [`EnvoyHost`] starts one Envoy for each scenario, with a client
//! connection to each of its workers and an upstream behind it. What a scenario expects is judged
//! elsewhere, the same as offline. Everything listens on the loopback interface, on ports that the
//! operating system picks, so that scenarios may run side by side.

#![forbid(unsafe_code)]

mod admin;
mod bootstrap;
mod client;
mod clock;
mod cluster;
mod delivery;
mod dialogue;
mod discovery;
mod find;
mod host;
mod launch;
mod log;
mod message;
mod process;
mod proxy;
mod shared;
mod tcp;
mod tls;
mod upstream;

pub use delivery::{Delivery, NotText, wasm_filter};
pub use find::{EnvoyNotFound, VARIABLE, find_envoy};
pub use host::EnvoyHost;
pub use process::Supervised;
pub use tls::Identities;
