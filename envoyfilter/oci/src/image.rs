//! The image that all meshes take: Istio's variant "compat", one packed layer with `plugin.wasm`.
//!
//! Nothing of the time, the machine or the user goes into it: the same module and annotations give the
//! same digest, with the same release of Tollgate.
//!
//! Source: solo-io/wasm, `spec/spec-compat.md`; Istio, `pkg/wasm/imagefetcher.go`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use flate2::{Compression, GzBuilder};
use serde::Serialize;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::media;

/// The file that meshes look for.
pub(crate) const FILE: &str = "plugin.wasm";

/// Says which variant the image is.
const VARIANT: (&str, &str) = ("module.wasm.image/variant", "compat");

/// In a gzip header: of no operating system that is known.
const NO_SYSTEM: u8 = 255;

/// Bytes with what a manifest says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What the manifest says.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        Self { descriptor, bytes }
    }
}

/// An image, ready to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    blobs: [Blob; 2],
    manifest: Blob,
}

/// The configuration of a container image, as far as one without a container has to have it.
#[derive(Serialize)]
struct Configuration<'a> {
    architecture: &'a str,
    config: BTreeMap<&'a str, &'a str>,
    os: &'a str,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'a str,
    diff_ids: [Digest; 1],
}

impl Image {
    /// Makes the image of a module.
    ///
    /// # Errors
    ///
    /// [`InvalidAnnotation`] for a key that is empty or Tollgate's own.
    pub fn build(
        module: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, InvalidAnnotation> {
        let (variant, compat) = VARIANT;
        if let Some(key) = annotations.keys().find(|key| key.is_empty() || *key == variant) {
            return Err(InvalidAnnotation { key: key.clone() });
        }
        let archive = archive(module);
        let configuration = Configuration {
            architecture: "amd64",
            config: BTreeMap::new(),
            os: "linux",
            rootfs: RootFs { r#type: "layers", diff_ids: [Digest::of(&archive)] },
        };
        let layer = Blob::new(media::OCI_LAYER, packed(&archive));
        let config = Blob::new(media::OCI_CONFIG, json(&configuration));
        let mut annotations = annotations.clone();
        annotations.insert(variant.to_owned(), compat.to_owned());
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::OCI_MANIFEST.to_owned()),
            config: config.descriptor.clone(),
            layers: vec![layer.descriptor.clone()],
            annotations,
        };
        let manifest = Blob::new(media::OCI_MANIFEST, json(&manifest));
        Ok(Self { blobs: [config, layer], manifest })
    }

    /// What the manifest needs, to be stored before it.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The manifest.
    pub fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// The digest that names the image.
    pub fn digest(&self) -> &Digest {
        &self.manifest.descriptor.digest
    }
}

/// One file, without owner or time.
fn archive(module: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::new());
    written(archive.append_data(&mut header, FILE, module));
    written(archive.into_inner())
}

fn packed(archive: &[u8]) -> Vec<u8> {
    let gzip = GzBuilder::new().mtime(0).operating_system(NO_SYSTEM);
    let mut gzip = gzip.write(Vec::new(), Compression::best());
    written(gzip.write_all(archive));
    written(gzip.finish())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    written(serde_json::to_vec(value).map_err(Into::into))
}

/// What is written into memory, which takes everything.
fn written<T>(result: std::io::Result<T>) -> T {
    #[expect(clippy::expect_used, reason = "memory is no file: writing to it does not fail")]
    result.expect("memory takes every byte")
}

/// An annotation that cannot be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAnnotation {
    key: String,
}

impl fmt::Display for InvalidAnnotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str("an annotation has an empty key"),
            key => write!(f, "annotation {key:?} is given by the layout; leave it out"),
        }
    }
}

impl std::error::Error for InvalidAnnotation {}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_same_module_has_the_same_digest_on_every_machine() {
        let image = Image::build(b"\0asm\x01\0\0\0", &annotations(&[])).unwrap();
        let manifest = String::from_utf8(image.manifest().bytes.clone()).unwrap();
        assert_eq!(manifest, include_str!("compat-manifest.json").trim_end());
        let digest = "sha256:8a3f96de51c96fa2330ddf1f7fc53b7d5721e3dfa0fc9a8d9a7ed14c57b0bac5";
        assert_eq!(image.digest().as_str(), digest);
    }

    #[test]
    fn annotations_are_sorted_and_part_of_the_digest() {
        let build = |pairs: &[(&str, &str)]| Image::build(b"a", &annotations(pairs)).unwrap();
        let (one, two) = (build(&[("a", "1"), ("z", "2")]), build(&[("z", "2"), ("a", "1")]));
        assert_eq!(one, two);
        assert_ne!(one.digest(), build(&[("a", "1")]).digest());
    }

    #[test]
    fn the_layout_says_itself_what_it_is() {
        for key in ["", "module.wasm.image/variant"] {
            assert!(Image::build(b"a", &annotations(&[(key, "x")])).is_err(), "{key}");
        }
    }
}
