//! Reading an image: its manifest, and of its layers those that could have a module.

use std::collections::BTreeMap;

use ureq::http::{Method, StatusCode};

use crate::digest::Digest;
use crate::failure::Failure;
use crate::layout::{Layout, NotUnpacked};
use crate::manifest::{Descriptor, Document, Index, Manifest};
use crate::media;
use crate::reference::Reference;
use crate::repository::Repository;
use crate::{MAX_MANIFEST_BYTES, MAX_MODULE_BYTES};

/// An image as it was read: every byte has the digest that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What was asked for.
    pub reference: Reference,
    /// The index that the image was taken from, with its digest.
    pub index: Option<(Digest, Index)>,
    /// The digest of the image's manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The layers that could have a module.
    layers: BTreeMap<Digest, Vec<u8>>,
}

impl Fetched {
    /// How the module lies in the image; `None` for an image of something else.
    pub fn layout(&self) -> Option<Layout> {
        Layout::of(&self.manifest).map(|(layout, _)| layout)
    }

    /// The module; `None` for an image of something else.
    ///
    /// # Errors
    ///
    /// [`NotUnpacked`] for a layer that is not what the layout says.
    pub fn module(&self) -> Option<Result<Vec<u8>, NotUnpacked>> {
        let (layout, layer) = Layout::of(&self.manifest)?;
        Some(layout.unpack(self.layer(layer)))
    }

    /// The bytes of a layer that could have a module; none for another.
    pub(crate) fn layer(&self, layer: &Descriptor) -> &[u8] {
        self.layers.get(&layer.digest).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Repository<'_> {
    /// Reads the image that the repository was opened for. Of an index it takes the one that meshes take.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn fetch(&mut self) -> Result<Fetched, Failure> {
        let reference = self.reference().clone();
        let (digest, document) = self.document(reference.selector(), reference.digest())?;
        let (index, digest, manifest) = match document {
            Document::Image(manifest) => (None, digest, manifest),
            Document::Index(index) => {
                let child = index.for_mesh().ok_or_else(|| no_image(&index))?.digest.clone();
                match self.document(child.as_str(), Some(&child))? {
                    (child, Document::Image(manifest)) => (Some((digest, index)), child, manifest),
                    (_, Document::Index(inner)) => return Err(no_image(&inner)),
                }
            }
        };
        let mut layers = BTreeMap::new();
        let last = manifest.layers.last().filter(|layer| is_packed(layer));
        let raw = manifest.layers.iter().filter(|layer| is_raw(layer));
        for layer in last.into_iter().chain(raw) {
            layers.insert(layer.digest.clone(), self.blob(layer, MAX_MODULE_BYTES)?);
        }
        Ok(Fetched { reference, index, digest, manifest, layers })
    }

    /// A manifest, which has the digest that is expected, or else the one that the registry says.
    fn document(
        &mut self,
        selector: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Document), Failure> {
        let answer = self.retrying(|this| {
            let url = this.url(&format!("manifests/{selector}"));
            let accept = [("accept", media::ACCEPTED)];
            let answer = this.request(&Method::GET, &url, &accept, &[], MAX_MANIFEST_BYTES)?;
            match answer.status {
                StatusCode::OK => Ok(answer),
                StatusCode::NOT_FOUND => {
                    Err(Failure::Missing { reference: this.reference().clone() })
                }
                _ => Err(answer.into_failure()),
            }
        })?;
        let found = Digest::of(&answer.body);
        let said = answer.header("docker-content-digest").and_then(|said| said.parse().ok());
        if let Some(expected) = expected.or(said.as_ref()).filter(|&expected| *expected != found) {
            return Err(Failure::WrongDigest {
                what: format!("{}, {selector}", self.reference().repository()),
                expected: expected.clone(),
                found: found.to_string(),
            });
        }
        Ok((found, Document::read(&answer.body, answer.header("content-type"))?))
    }
}

fn is_packed(layer: &Descriptor) -> bool {
    matches!(layer.media_type.as_str(), media::OCI_LAYER | media::DOCKER_LAYER)
}

fn is_raw(layer: &Descriptor) -> bool {
    let kinds = [media::SOLO_MODULE, media::CNCF_MODULE, media::WASM_TO_OCI_MODULE];
    kinds.contains(&layer.media_type.as_str())
}

fn no_image(index: &Index) -> Failure {
    let platforms = index.manifests.iter().filter_map(|child| child.platform.as_ref());
    let platforms = platforms.map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Failure::NoImage { platforms }
}
