//! The SDK on hosts of all kinds: friendly, hostile, and differing where the ABI lets them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod attributes;
mod bodies;
mod chains;
mod configured;
mod connections;
mod exchange;
mod foreign;
mod hostile;
mod metrics;
mod phases;
mod queues;
mod root;
mod roots;
mod scripted;
mod shared_data;
mod state;
mod tasks;
