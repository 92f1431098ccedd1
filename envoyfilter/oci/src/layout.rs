//! How a module lies in an image: every layout that tools have written.

use std::fmt;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::Serialize;

use crate::MAX_MODULE_BYTES;
use crate::image::FILE;
use crate::manifest::{Descriptor, Manifest};
use crate::media;

/// A way to put a module into an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// A container image of OCI whose last layer has `plugin.wasm`: Tollgate's, buildah's, Higress'.
    OciCompat,
    /// A container image of Docker whose last layer has `plugin.wasm`: `docker build`'s.
    DockerCompat,
    /// An artifact of solo.io, which Istio calls the variant "oci": the module is a layer as it is.
    SoloArtifact,
    /// The CNCF's artifact, of `wkg` and others: one layer, the module as it is.
    CncfArtifact,
    /// An artifact of `wasm-to-oci`: one layer, the module as it is.
    WasmToOci,
}

impl Layout {
    /// The layout of an image with the layer that has the module; `None` for an image of something else.
    ///
    /// Source: Istio, `pkg/wasm/imagefetcher.go`, for the first three; crate `oci-wasm` for the CNCF's;
    /// `wasm-to-oci`, `pkg/oci`.
    pub fn of(manifest: &Manifest) -> Option<(Self, &Descriptor)> {
        let packed = manifest.layers.last().and_then(|last| match last.media_type.as_str() {
            media::OCI_LAYER => Some((Self::OciCompat, last)),
            media::DOCKER_LAYER => Some((Self::DockerCompat, last)),
            _ => None,
        });
        packed.or_else(|| {
            manifest.layers.iter().find_map(|layer| match layer.media_type.as_str() {
                media::SOLO_MODULE => Some((Self::SoloArtifact, layer)),
                media::CNCF_MODULE => Some((Self::CncfArtifact, layer)),
                media::WASM_TO_OCI_MODULE => Some((Self::WasmToOci, layer)),
                _ => None,
            })
        })
    }

    /// The module in its layer.
    ///
    /// # Errors
    ///
    /// [`NotUnpacked`] for a layer that is not what the layout says.
    pub fn unpack(self, layer: &[u8]) -> Result<Vec<u8>, NotUnpacked> {
        match self {
            Self::OciCompat | Self::DockerCompat => unpack(layer),
            Self::SoloArtifact | Self::CncfArtifact | Self::WasmToOci => Ok(layer.to_owned()),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OciCompat => "compat (a container image of OCI)",
            Self::DockerCompat => "compat (a container image of Docker)",
            Self::SoloArtifact => "Wasm artifact of solo.io, Istio's variant \"oci\"",
            Self::CncfArtifact => "Wasm artifact of the CNCF",
            Self::WasmToOci => "artifact of wasm-to-oci",
        })
    }
}

/// The first file named `plugin.wasm`, in whatever folder, as Istio looks for it.
fn unpack(layer: &[u8]) -> Result<Vec<u8>, NotUnpacked> {
    // Headers of the archive count too; they are far smaller than a module.
    let mut archive = tar::Archive::new(MultiGzDecoder::new(layer).take(MAX_MODULE_BYTES * 2));
    for entry in archive.entries().map_err(NotUnpacked::Archive)? {
        let entry = entry.map_err(NotUnpacked::Archive)?;
        let is_module =
            entry.path().is_ok_and(|path| path.file_name() == Path::new(FILE).file_name());
        if !is_module {
            continue;
        }
        if entry.size() > MAX_MODULE_BYTES {
            return Err(NotUnpacked::TooLarge { bytes: entry.size() });
        }
        let size = entry.size();
        let mut module = Vec::new();
        entry.take(size).read_to_end(&mut module).map_err(NotUnpacked::Archive)?;
        if module.len() as u64 != size {
            return Err(NotUnpacked::Archive(std::io::ErrorKind::UnexpectedEof.into()));
        }
        return Ok(module);
    }
    Err(NotUnpacked::NoModule)
}

/// Why a layer has no module.
#[derive(Debug)]
pub enum NotUnpacked {
    /// It is no gzip, or no archive in it.
    Archive(std::io::Error),
    /// The archive has no file `plugin.wasm`.
    NoModule,
    /// The module is larger than [`MAX_MODULE_BYTES`].
    TooLarge {
        /// Its size.
        bytes: u64,
    },
}

impl fmt::Display for NotUnpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "failed to parse layer as tar.gz: {error}"),
            Self::NoModule => write!(f, "{FILE} not found in the archive"),
            Self::TooLarge { bytes } => {
                write!(f, "{FILE} of {bytes} bytes is above {MAX_MODULE_BYTES}")
            }
        }
    }
}

impl std::error::Error for NotUnpacked {}
