//! A filter module as an artefact: what it imports and exports, and how it is finished after linking.
//!
//! [`Module::read`] looks into a module without running it, and [`Module::check`] says why a host
//! would not load it, as Envoy judges it. [`finish`] cuts a linked module down to what its filter
//! implements and records [`Metadata`] in it. Neither panics on any bytes. Nothing here reads files,
//! runs a guest, or decides which hosts to please.

#![forbid(unsafe_code)]

mod check;
mod cut;
mod envoy;
mod finish;
mod invalid;
mod metadata;
mod module;
mod printable;
mod sections;
mod signature;

pub use check::Problem;
pub use finish::{Description, FinishError, finish};
pub use invalid::{Guise, InvalidModule};
pub use metadata::{InvalidMetadata, Metadata, StatsTag};
pub use module::{CustomSection, Export, Extern, Import, MemoryLimits, Module};
pub use signature::{Signature, ValueType};
