//! Metrics for Envoy: what happened to each request, in a bounded number of series.
//!
//! [`config`] parses a policy; [`measure`] says what is measured and under which name, [`label`] by what it is
//! told apart, [`istio`] how Istio tells it apart; [`outcome`] judges how a request went, [`flags`] names
//! what the proxy noted of it, [`grpc`] counts messages, [`ledger`] keeps the budget of all workers.
//! [`Metrics`] reads what is needed when a request is over, and counts it once; [`TcpMetrics`] does so for
//! connections of TCP, with the same policy. What proxies, Prometheus and
//! Grafana have to be told is made of the same policy by [`render`].

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod config;
pub mod flags;
pub mod grpc;
pub mod istio;
pub mod label;
pub mod ledger;
pub mod measure;
pub mod outcome;
pub mod render;

mod family;
mod filter;
mod meter;
mod observed;
mod open;
mod reporting;
mod tcp;

pub use filter::Metrics;
pub use tcp::TcpMetrics;
