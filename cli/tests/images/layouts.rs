//! Images as other tools write them: which layout they are, and whether meshes take them.

use std::io::{Read, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::proxy::{Message, exchange};
use crate::registry::{Mode, Registry};
use crate::{Files, command, module, printed, refused, run};

pub(crate) const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const SOLO_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

pub(crate) fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    gzip(&archive.into_inner().unwrap())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// The two halves of an archive.
fn unpacked(layer: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut front = Vec::new();
    flate2::read::GzDecoder::new(layer).read_to_end(&mut front).unwrap();
    let back = front.split_off(front.len() / 2);
    (front, back)
}

/// Stores what other tools would have stored.
pub(crate) struct Store {
    pub(crate) registry: Registry,
}

impl Store {
    fn put(&self, path: &str, media_type: &str, body: &[u8]) {
        let host = self.registry.address();
        let head = format!("PUT {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {media_type}\r\n");
        let answer = exchange(&host, &Message { head, body: body.to_owned() }).unwrap();
        let words = String::from_utf8_lossy(&answer.body);
        assert!(answer.line().contains("201"), "{path}: {} {words}", answer.head);
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let host = self.registry.address();
        let head = format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: {host}\r\n");
        let answer = exchange(&host, &Message { head, body: Vec::new() }).unwrap();
        let location = answer.header("location").unwrap();
        let path = location.strip_prefix(&format!("http://{host}")).unwrap();
        let digest = digest(bytes);
        self.put(&format!("{path}&digest={digest}"), "application/octet-stream", bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Gives the descriptor of the manifest.
    pub(crate) fn image(
        &self,
        tag: &str,
        media_type: &str,
        config: &str,
        layers: &[(&str, &[u8])],
    ) -> Value {
        let layers: Vec<Value> =
            layers.iter().map(|(media_type, bytes)| self.blob(media_type, bytes)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self.blob(config, b"{}"),
            "layers": layers,
        });
        self.manifest(tag, media_type, &manifest)
    }

    pub(crate) fn manifest(&self, tag: &str, media_type: &str, manifest: &Value) -> Value {
        let bytes = serde_json::to_vec(manifest).unwrap();
        self.put(&format!("/v2/a/manifests/{tag}"), media_type, &bytes);
        json!({ "mediaType": media_type, "digest": digest(&bytes), "size": bytes.len() })
    }

    pub(crate) fn reference(&self, tag: &str) -> String {
        format!("{}/a:{tag}", self.registry.address())
    }

    /// Judges an image; an empty refusal is none.
    #[track_caller]
    fn check(&self, tag: &str, layout: &Value, refusal: &str) {
        let image = self.reference(tag);
        let output = run(&["verify", &image, "--format", "json"]);
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verdict["layout"], *layout, "{tag}");
        for mesh in verdict["meshes"].as_array().unwrap() {
            let words = mesh["refusal"].as_str().unwrap_or_default();
            assert_eq!(mesh["takes"], refusal.is_empty(), "{tag}: {words}");
            assert!(words.contains(refusal), "{tag}: {words}");
        }
        assert_eq!(output.status.code(), Some(i32::from(!refusal.is_empty())), "{tag}");
    }
}

#[test]
fn layouts_of_all_tools_are_known_and_judged_as_meshes_do() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    let store = Store { registry };
    let module = module(3);
    let compat = packed(&[("a/plugin.wasm", &module)]);
    let container = "application/vnd.docker.container.image.v1+json";
    let solo_config = "application/vnd.module.wasm.config.v1+json";
    let unknown = "application/vnd.unknown.config.v1+json";

    // `docker build`, with a layer of something else below.
    let below = packed(&[("etc/os-release", b"ID=none")]);
    store.image("docker", DOCKER, container, &[(DOCKER_LAYER, &below), (DOCKER_LAYER, &compat)]);
    // buildah.
    store.image(
        "buildah",
        OCI,
        "application/vnd.oci.image.config.v1+json",
        &[(OCI_LAYER, &compat)],
    );
    // Higress: oras with words about the plugin before it.
    let words = ("application/vnd.module.wasm.doc.v1+markdown", b"# words".as_slice());
    store.image("higress", OCI, unknown, &[words, (OCI_LAYER, &compat)]);
    // wasme, and oras as solo.io wrote it.
    let config = (solo_config, b"{}".as_slice());
    store.image(
        "solo",
        OCI,
        "application/vnd.oci.image.config.v1+json",
        &[config, (SOLO_LAYER, &module)],
    );
    // wkg, and others of the CNCF's artifact.
    let cncf = ("application/wasm", module.as_slice());
    store.image("cncf", OCI, "application/vnd.wasm.config.v0+json", &[cncf]);
    let to_oci = ("application/vnd.wasm.content.layer.v1+wasm", module.as_slice());
    store.image("wasm-to-oci", OCI, "application/vnd.wasm.config.v1+json", &[to_oci]);

    // What packs in parallel writes several members, which count as one.
    // OCI's manifests need not say what they are.
    let silent = json!({
        "schemaVersion": 2,
        "config": store.blob(unknown, b"{}"),
        "layers": [store.blob(OCI_LAYER, &compat)],
    });
    store.manifest("silent", OCI, &silent);
    let (front, back) = unpacked(&compat);
    let members = [gzip(&front), gzip(&back)].concat();
    store.image("members", OCI, unknown, &[(OCI_LAYER, &members)]);

    for (tag, layout) in [
        ("members", "oci-compat"),
        ("silent", "oci-compat"),
        ("docker", "docker-compat"),
        ("buildah", "oci-compat"),
        ("higress", "oci-compat"),
        ("solo", "solo-artifact"),
    ] {
        store.check(tag, &json!(layout), "");
    }
    let one = "could not parse as oci variant: number of layers must be 2 but got 1";
    store.check("cncf", &json!("cncf-artifact"), one);
    let media_type = "invalid media type application/vnd.wasm.content.layer.v1+wasm";
    store.check("wasm-to-oci", &json!("wasm-to-oci"), media_type);

    let files = Files::new();
    let out = files.path("pulled.wasm");
    for tag in ["members", "docker", "buildah", "higress", "solo", "cncf", "wasm-to-oci"] {
        printed(&["pull", &store.reference(tag), "--out", out.to_str().unwrap()]);
        assert_eq!(std::fs::read(&out).unwrap(), module, "{tag}");
    }
    let pull =
        |tag: &str| refused(&["pull", &store.reference(tag), "--out", out.to_str().unwrap()], 2);

    // What has no module, or not where it is looked for.
    store.image("first", OCI, unknown, &[(OCI_LAYER, &compat), words]);
    store.check("first", &Value::Null, "invalid media type application/vnd.module.wasm.doc");
    assert!(pull("first").contains("no module in it"));
    store.image("other-file", OCI, unknown, &[(OCI_LAYER, &packed(&[("filter.wasm", &module)]))]);
    store.check("other-file", &json!("oci-compat"), "plugin.wasm not found in the archive");
    assert!(pull("other-file").contains("plugin.wasm not found"));
    store.image("no-archive", OCI, unknown, &[(OCI_LAYER, b"none")]);
    store.check("no-archive", &json!("oci-compat"), "failed to parse layer as tar.gz");
    store.image("zstd", OCI, unknown, &[("application/vnd.oci.image.layer.v1.tar+zstd", b"none")]);
    store.check(
        "zstd",
        &Value::Null,
        "invalid media type application/vnd.oci.image.layer.v1.tar+zstd",
    );
    let plain_tar = "application/vnd.oci.image.layer.v1.tar";
    store.image("plain-tar", OCI, unknown, &[(plain_tar, b"none")]);
    store.check("plain-tar", &Value::Null, &format!("invalid media type {plain_tar} (expect"));
    store.image("none", OCI, unknown, &[]);
    store.check("none", &Value::Null, "number of layers must be greater than zero");
    store.image("other-layer", DOCKER, container, &[(OCI_LAYER, &compat)]);
    store.check("other-layer", &json!("oci-compat"), &format!("invalid media type {OCI_LAYER}"));
    store.image("two", OCI, unknown, &[words, config]);
    store.check("two", &Value::Null, "could not find the layer of type");
    store.image("no-wasm", OCI, unknown, &[(OCI_LAYER, &packed(&[("plugin.wasm", b"\0asm")]))]);
    assert!(refused(&["verify", &store.reference("no-wasm")], 2).contains("its module"));
    store.image("three", OCI, unknown, &[words, (SOLO_LAYER, &module), config]);
    store.check("three", &json!("solo-artifact"), "number of layers must be 2 but got 3");
}

#[test]
fn of_an_index_meshes_take_one_image_and_compare_its_digest() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    let store = Store { registry };
    let compat = |number: u32| packed(&[("plugin.wasm", &module(number))]);
    let config = "application/vnd.oci.image.config.v1+json";
    let mut arm = store.image("arm", OCI, config, &[(OCI_LAYER, &compat(1))]);
    let mut amd = store.image("amd", OCI, config, &[(OCI_LAYER, &compat(2))]);
    arm["platform"] = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
    amd["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let index = |children: &[&Value]| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
    let both = store.manifest("both", INDEX, &index(&[&arm, &amd]));
    store.manifest("arm-only", INDEX, &index(&[&arm]));
    // The CNCF's form beside the other is left to others.
    let (cncf, cncf_config) = (module(3), "application/vnd.wasm.config.v0+json");
    let mut wasm = store.image("wasm", OCI, cncf_config, &[("application/wasm", &cncf)]);
    wasm["platform"] = json!({ "os": "wasip1", "architecture": "wasm" });
    store.manifest("both-forms", INDEX, &index(&[&wasm, &amd]));
    store.check("both-forms", &json!("oci-compat"), "");
    // One that names no platform is for all.
    let mut any = amd.clone();
    any.as_object_mut().unwrap().remove("platform");
    store.manifest("any", INDEX, &index(&[&arm, &any]));
    store.check("any", &json!("oci-compat"), "");

    store.check("both", &json!("oci-compat"), "");
    let image = store.reference("both");
    let found: Value =
        serde_json::from_str(&printed(&["inspect", &image, "--format", "json"])).unwrap();
    assert_eq!((&found["digest"], &found["index"]), (&amd["digest"], &both["digest"]));

    // Pinned by the digest that `docker` shows, it is always refused.
    let pinned = format!("{}/a@{}", store.registry.address(), both["digest"].as_str().unwrap());
    let output = command(&["verify", &pinned]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("pin {}", amd["digest"].as_str().unwrap())), "{text}");
    let words = refused(&["verify", &store.reference("arm-only")], 2);
    assert!(words.contains("linux/amd64, which meshes take everywhere: linux/arm64"), "{words}");
}
