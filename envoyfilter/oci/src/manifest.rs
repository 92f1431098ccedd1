//! Manifests and lists of them, as far as a module in an image needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::media;

/// What a manifest says of a blob, or an index of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The platform that it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A platform of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it.
    pub architecture: String,
    /// As Go names it.
    pub os: String,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// What it is; manifests of OCI need not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Words about the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Manifests by platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u8,
    /// What it is; indexes of OCI need not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The manifest that meshes take, whatever machine they run on: the first for `linux/amd64`; one that
    /// names no platform counts as such.
    ///
    /// Source: go-containerregistry, `pkg/v1/remote`, with its default platform.
    pub fn for_mesh(&self) -> Option<&Descriptor> {
        let is_taken =
            |platform: &Platform| platform.os == "linux" && platform.architecture == "amd64";
        self.manifests.iter().find(|child| child.platform.as_ref().is_none_or(is_taken))
    }
}

/// What a registry has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// An image.
    Image(Manifest),
    /// Several.
    Index(Index),
}

impl Document {
    /// Reads it; `content_type` is what the registry calls it, and decides where it does not say itself.
    ///
    /// # Errors
    ///
    /// [`InvalidManifest`].
    pub fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Self, InvalidManifest> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            schema_version: u64,
            media_type: Option<String>,
        }
        let kind: Kind = serde_json::from_slice(bytes)?;
        if kind.schema_version != 2 {
            return Err(InvalidManifest::Schema { version: kind.schema_version });
        }
        let media_type = kind.media_type.as_deref().or(content_type).unwrap_or(media::OCI_MANIFEST);
        match media_type {
            media::OCI_INDEX | media::DOCKER_LIST => {
                Ok(Self::Index(serde_json::from_slice(bytes)?))
            }
            media::OCI_MANIFEST | media::DOCKER_MANIFEST => {
                Ok(Self::Image(serde_json::from_slice(bytes)?))
            }
            other => Err(InvalidManifest::MediaType { media_type: other.to_owned() }),
        }
    }
}

/// Bytes that are no manifest that could have a module.
#[derive(Debug)]
pub enum InvalidManifest {
    /// No JSON, or a field is missing or wrong.
    Json(serde_json::Error),
    /// Of another version of the format: 1 is Docker's before 2016.
    Schema {
        /// The version.
        version: u64,
    },
    /// Something else than an image or an index.
    MediaType {
        /// What it calls itself.
        media_type: String,
    },
}

impl fmt::Display for InvalidManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "the manifest cannot be read: {error}"),
            Self::Schema { version } => {
                write!(f, "schemaVersion {version} of the manifest is not 2; push the image anew")
            }
            Self::MediaType { media_type } => {
                write!(f, "mediaType {media_type:?} is neither an image nor an index")
            }
        }
    }
}

impl std::error::Error for InvalidManifest {}

impl From<serde_json::Error> for InvalidManifest {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}
