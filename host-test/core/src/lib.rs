//! The engine-free Proxy-Wasm host.
//!
//! Its state is a value, [`World`](world::World): a host call comes in as a
//! [`Call`](tollgate_abi::Call), the answer goes out as a [`Reply`](tollgate_abi::Reply). It does no
//! I/O and knows no clock but its own. An engine runs the guests ([`engine`]), the driver carries
//! requests through them in virtual time ([`offline`]), scenarios say what is expected ([`scenario`])
//! and the runner judges ([`run`]), the same for every proxy ([`proxy`]). Suites of Service Extensions
//! are played on the same state without a proxy ([`suite`]). A test drives filters by hand with
//! [`testing`].

#![forbid(unsafe_code)]

pub mod account;
mod chance;
pub mod clip;
pub mod deployed;
pub mod engine;
pub mod grpc;
pub mod limits;
pub mod offline;
pub mod profile;
pub mod proxy;
pub mod recording;
pub mod report;
pub mod run;
pub mod scenario;
pub mod suite;
pub mod testing;
pub mod tls;
pub mod transcript;
pub mod world;
pub mod yaml;
