//! Media types of manifests, configurations and layers, by who made them up.

/// A manifest of OCI.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A list of manifests of OCI.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of a container image of OCI.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A packed layer of OCI.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A manifest of Docker.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A list of manifests of Docker.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A packed layer of Docker.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// A module in an artifact of solo.io, which Istio calls the variant "oci".
pub const SOLO_MODULE: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// A module in an artifact of `wasm-to-oci`, which Spin and Krustlet used too.
pub const WASM_TO_OCI_MODULE: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// A module in the CNCF's artifact.
pub const CNCF_MODULE: &str = "application/wasm";
/// The configuration of the CNCF's artifact.
pub const CNCF_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// All manifests that are read, as an `Accept` header.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
