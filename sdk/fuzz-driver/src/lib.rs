//! Drives filters with arbitrary callbacks, on one thread, on a host that answers anything and may call
//! back while it is called; and holds them to the rules of a proxy.
//!
//! A case is a value, which a fuzzer or a test chooses: `sdk/fuzz` and `tests/short.rs`. Not shipped.

mod answers;
mod case;
mod driver;
mod filters;
mod modules;
mod policy;
mod rules;
mod wild;
mod world;

pub use case::{Case, End, Ending, Fault, Id, Module, Nth, RootId, Side, Size, Step};
pub use driver::run;
pub use policy::{Junk, Policy, Written};
pub use world::Tally;

#[doc(hidden)]
pub use arbitrary;
