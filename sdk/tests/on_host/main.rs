//! The SDK on hosts of all kinds: friendly, hostile, and differing where the ABI lets them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod configured;
mod hostile;
mod metrics;
mod phases;
mod root;
mod roots;
mod shared_data;
mod state;
