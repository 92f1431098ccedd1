//! Whether a mesh would take an image: the rules of its fetcher, carried out here.
//!
//! Istio's agent, Envoy Gateway and Higress have the same code for it. What they do not judge is the
//! module beyond its first bytes; `tollgate check` does.
//!
//! Source: Istio, `pkg/wasm/imagefetcher.go` and `cache.go`; Envoy Gateway, `internal/wasm`; Higress'
//! fork of Istio.

use std::fmt;

use serde::Serialize;

use crate::MAX_MODULE_BYTES;
use crate::digest::Digest;
use crate::fetch::Fetched;
use crate::layout::{Layout, NotUnpacked};
use crate::media;

/// A mesh that fetches images itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mesh {
    /// Istio: the agent beside each proxy.
    Istio,
    /// Envoy Gateway: its controller.
    EnvoyGateway,
    /// Higress: as Istio.
    Higress,
}

impl Mesh {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Istio, Self::EnvoyGateway, Self::Higress];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Istio => "Istio",
            Self::EnvoyGateway => "Envoy Gateway",
            Self::Higress => "Higress",
        }
    }
}

/// What all of [`Mesh::ALL`] say of an image: the module that they would run.
///
/// # Errors
///
/// [`Refusal`], in the words that the fetcher logs.
pub fn verdict(image: &Fetched) -> Result<Vec<u8>, Refusal> {
    if let Some(pinned) = image.reference.digest().filter(|&pinned| *pinned != image.digest) {
        return Err(Refusal::IndexPinned { pinned: pinned.clone(), taken: image.digest.clone() });
    }
    let module = extract(image)?;
    if module.len() as u64 > MAX_MODULE_BYTES {
        return Err(Refusal::TooLarge { bytes: module.len() as u64 });
    }
    if module.len() < 8 || !module.starts_with(b"\0asm") {
        return Err(Refusal::NoWasm);
    }
    Ok(module)
}

fn extract(image: &Fetched) -> Result<Vec<u8>, Refusal> {
    if image.manifest.media_type.as_deref() == Some(media::DOCKER_MANIFEST) {
        return packed(image, Layout::DockerCompat, media::DOCKER_LAYER).map_err(Refusal::Docker);
    }
    let compat = match packed(image, Layout::OciCompat, media::OCI_LAYER) {
        Ok(module) => return Ok(module),
        Err(compat) => compat,
    };
    raw(image).map_err(|artifact| Refusal::Oci { compat, artifact })
}

fn packed(image: &Fetched, layout: Layout, expected: &'static str) -> Result<Vec<u8>, NotThis> {
    let last = image.manifest.layers.last().ok_or(NotThis::NoLayers)?;
    if last.media_type != expected {
        return Err(NotThis::MediaType { found: last.media_type.clone(), expected });
    }
    layout.unpack(image.layer(last)).map_err(NotThis::Layer)
}

fn raw(image: &Fetched) -> Result<Vec<u8>, NotThis> {
    let layers = &image.manifest.layers;
    if layers.len() != 2 {
        return Err(NotThis::LayerCount { found: layers.len() });
    }
    let module = layers.iter().find(|layer| layer.media_type == media::SOLO_MODULE);
    Ok(image.layer(module.ok_or(NotThis::NoModuleLayer)?).to_owned())
}

/// Why a mesh does not take an image.
#[derive(Debug)]
pub enum Refusal {
    /// The digest is that of a list, and is compared with that of the image taken from it.
    IndexPinned {
        /// The digest that was written.
        pinned: Digest,
        /// The digest that it is compared with.
        taken: Digest,
    },
    /// A manifest of Docker.
    Docker(NotThis),
    /// A manifest of OCI.
    Oci {
        /// Why it is not a container image with a module.
        compat: NotThis,
        /// Why it is not solo.io's artifact.
        artifact: NotThis,
    },
    /// The module is larger than is read.
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// What is there is no module.
    NoWasm,
}

/// Why an image is not of a variant.
#[derive(Debug)]
pub enum NotThis {
    /// It has no layers.
    NoLayers,
    /// The last layer is something else.
    MediaType {
        /// What it is.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// The layer has no module.
    Layer(NotUnpacked),
    /// It has not two layers.
    LayerCount {
        /// How many it has.
        found: usize,
    },
    /// None of its layers is a module.
    NoModuleLayer,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndexPinned { pinned, taken } => write!(
                f,
                "{pinned} is an index, and is compared with the image taken from it; pin {taken}"
            ),
            Self::Docker(why) => {
                write!(f, "could not extract the module from the docker image: {why}")
            }
            Self::Oci { compat, artifact } => write!(
                f,
                "could not parse as compat variant: {compat}; could not parse as oci variant: {artifact}"
            ),
            Self::TooLarge { bytes } => {
                write!(f, "the module of {bytes} bytes is above {MAX_MODULE_BYTES}")
            }
            Self::NoWasm => f.write_str("fetched Wasm binary is invalid"),
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for NotThis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLayers => f.write_str("number of layers must be greater than zero"),
            Self::MediaType { found, expected } => {
                write!(f, "invalid media type {found} (expect {expected})")
            }
            Self::Layer(why) => write!(f, "{why}"),
            Self::LayerCount { found } => write!(f, "number of layers must be 2 but got {found}"),
            Self::NoModuleLayer => {
                write!(f, "could not find the layer of type {}", media::SOLO_MODULE)
            }
        }
    }
}
