//! The Proxy-Wasm ABI as data, shared by guest and host.
//!
//! One table of host functions ([`host_functions!`]), one of callbacks ([`callbacks!`]); a host call
//! as an owned value ([`Call`]) with its answer ([`Reply`]); the enumerations and the byte formats
//! that cross the border. Nothing here runs a guest, keeps state or depends on another crate, and no
//! decoder panics on any bytes.

#![forbid(unsafe_code)]
#![warn(clippy::as_conversions, clippy::arithmetic_side_effects)]

mod call;
mod callback;
mod enums;
mod exports;
mod field;
mod functions;
mod memory;
mod reply;
mod served;
mod versions;
mod wasi;

pub mod pairs;
pub mod property;

pub use call::Call;
pub use callback::{Callback, CallbackKind, CallbackWords, Returns};
pub use enums::{
    BodyAction, BufferType, HeadersAction, LogLevel, MapType, MetricType, PeerType, Status,
    StreamType, TrailersAction,
};
pub use exports::{Arity, Export, has_marker_prefix};
pub use field::{Destination, Fault, Gathered, Serialized, Word, Words};
pub use functions::Function;
pub use memory::{Memory, PointerWidth};
pub use reply::{Answer, Delivered, Reply, WrongAnswer};
pub use served::{Served, Shim};
pub use versions::{AbiVersion, Versions};
pub use wasi::Stub;
