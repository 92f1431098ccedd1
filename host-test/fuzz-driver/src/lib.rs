//! Drives the offline host with guests that do anything: modules made of arbitrary code and bytes, on
//! wasmtime, and arbitrary host calls without an engine. Whatever they do, the host neither panics nor
//! hangs, refuses with reasons, keeps its bounds, and does the same again.
//!
//! A case is a value, which a fuzzer or a test chooses: `host-test/fuzz` and `tests/short.rs`. Not shipped.

mod calls;
mod modules;
mod play;

pub use calls::{CallsCase, run_calls};
pub use modules::{ModuleCase, run_module};
pub use play::Tally;

#[doc(hidden)]
pub use arbitrary;
