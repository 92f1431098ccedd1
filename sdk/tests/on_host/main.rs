//! The SDK on hosts of all kinds: friendly, hostile, and differing where the ABI lets them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bodies;
mod configured;
mod connections;
mod exchange;
mod hostile;
mod metrics;
mod phases;
mod root;
mod roots;
mod scripted;
mod shared_data;
mod state;
