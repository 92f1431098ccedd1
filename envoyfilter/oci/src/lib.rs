//! Filters as OCI images: build, push, pull, inspect and verify.
//!
//! [`Image::build`] makes the image that meshes take: the same module and annotations give the same
//! digest. [`Repository`] is the way to one repository of a registry; [`push`](Repository::push) leaves a
//! tag as it was until all that it names is stored. [`Repository::fetch`] reads what is there, in every
//! layout that is known ([`Layout`]), and [`verdict`] says whether a mesh would take it. Modules are bytes
//! here: nothing looks into them.

#![forbid(unsafe_code)]

mod authorization;
mod challenge;
mod credentials;
mod digest;
mod failure;
mod fetch;
mod image;
mod layout;
mod manifest;
pub mod media;
mod mesh;
mod push;
mod reference;
mod repository;
mod retry;
mod transport;

pub use credentials::{Credential, CredentialError, Environment, Login};
pub use digest::{Digest, InvalidDigest};
pub use failure::Failure;
pub use fetch::Fetched;
pub use image::{Blob, Image, InvalidAnnotation};
pub use layout::{Layout, NotUnpacked};
pub use manifest::{Descriptor, Document, Index, InvalidManifest, Manifest, Platform};
pub use mesh::{Mesh, NotThis, Refusal, verdict};
pub use push::MovedTags;
pub use reference::{InvalidReference, Reference};
pub use repository::{Access, Event, Repository};
pub use retry::Retry;
pub use transport::{PlainHttp, Transport, TransportError};

/// The most bytes of a module that are read, packed or not: as many as Istio's agent reads.
///
/// Source: `ISTIO_WASM_MAX_BINARY_SIZE_BYTES` of istio-agent.
pub const MAX_MODULE_BYTES: u64 = 256 << 20;

/// The most bytes of a manifest that are read.
///
/// Source: the OCI distribution specification asks registries to take at least as many.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
