//! `tollgate render` of a policy whose filter is an image: pulled, judged, and pinned.

use std::fs;
use std::process::Output;

use serde_json::json;

use crate::layouts::{INDEX, OCI, OCI_LAYER, Store, packed};
use crate::registry::{Mode, Registry};
use crate::{Files, command, digest_of, module, said};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Runs a command on a policy, as alice.
fn ran(files: &Files, arguments: &[&str], policy: &str) -> Output {
    let file = files.path("policy.yaml");
    fs::write(&file, policy).unwrap();
    let mut command = command(arguments);
    if !policy.is_empty() {
        command.arg(&file);
    }
    command.env("TOLLGATE_REGISTRY_USERNAME", "alice").env("TOLLGATE_REGISTRY_PASSWORD", "secret");
    command.env("TOLLGATE_CACHE", files.path("cache")).output().unwrap()
}

/// What is rendered of a policy, and what is said on the way; the code when that is not 0.
fn render(files: &Files, policy: &str, target: &str) -> Result<(String, String), (i32, String)> {
    let output = ran(files, &["render", "--target", target], policy);
    match output.status.code() {
        Some(0) => Ok((printed(&output), said(&output))),
        code => Err((code.unwrap(), said(&output))),
    }
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn policy(image: &str, more: &str) -> String {
    format!("filter: oci://{image}\nname: guard\nnamespace: shop\n{more}\n")
}

#[test]
fn an_image_is_pinned_by_the_digest_that_meshes_compare_with() {
    let Some(registry) = Registry::start(Mode::Basic) else { return };
    let (files, at) = (Files::new(), registry.address());
    let tag = format!("{at}/filters/guard:1.0.0");
    let mut push = command(&["push", &files.module(1), &tag, "--username", "alice"]);
    let push = push.arg("--password-stdin").write_stdin("secret").output().unwrap();
    let pinned = String::from_utf8(push.stdout).unwrap().trim().to_owned();
    let hex = digest_of(&pinned).strip_prefix("sha256:").unwrap();

    for image in [&tag, &pinned, &format!("{tag}@{}", digest_of(&pinned))] {
        let (rendered, words) = render(&files, &policy(image, ""), "istio").unwrap();
        assert!(rendered.contains(&format!("uri: oci://{pinned}\n")), "{rendered}");
        // In the reference, in sha256, and in what makes the agent pull again.
        assert_eq!(rendered.matches(hex).count(), 3, "{rendered}");
        assert_eq!(words, "");
    }
    let gateway = "apply: { to: gateway, targets: [ { kind: Gateway, name: web } ] }";
    let (rendered, _) = render(&files, &policy(&tag, gateway), "envoy-gateway").unwrap();
    assert!(rendered.contains(&format!("url: {tag}\n")) && rendered.contains(hex), "{rendered}");
    // A tag that is followed is judged, and stays one.
    let followed =
        format!("module: {{ image: {{ reference: 'oci://{tag}', pull_policy: always }} }}");
    let (rendered, words) = render(&files, &policy(&tag, &followed), "istio").unwrap();
    assert!(rendered.contains(&format!("uri: oci://{tag}\n")), "{rendered}");
    assert!(words.contains("is not pinned"), "{words}");

    // What else takes a policy, or a module.
    let explained = ran(&files, &["explain"], &policy(&tag, ""));
    assert!(explained.status.success(), "{}", said(&explained));
    let checked = printed(&ran(&files, &["check", &format!("oci://{tag}")], ""));
    assert!(checked.starts_with(&format!("{pinned}.wasm\n")), "{checked}");
    assert!(checked.contains("Envoy 1.40     loads it"), "{checked}");

    let absent = format!("{at}/filters/absent:1.0.0");
    let (code, words) = render(&files, &policy(&absent, ""), "istio").unwrap_err();
    assert!(code == 2 && words.contains("there is no such image"), "{words}");
    let other = "module: { image: { reference: 'oci://AT/filters/guard:2.0.0' } }";
    let other = policy(&tag, &other.replace("AT", &at));
    let (code, words) = render(&files, &other, "istio").unwrap_err();
    assert!(code == 2 && words.contains("line 4 column 31: module.image.reference"), "{words}");
}

#[test]
fn an_image_is_judged_as_its_mesh_would() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    let (store, files) = (Store { registry }, Files::new());
    let compat = |bytes: &[u8]| packed(&[("plugin.wasm", bytes)]);
    let mut child = store.image("child", OCI, CONFIG, &[(OCI_LAYER, &compat(&module(1)))]);
    child["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [child] });
    let index = store.manifest("index", INDEX, &index);
    let [child, index] = [child, index].map(|it| it["digest"].as_str().unwrap().to_owned());
    let repository = format!("{}/a", store.registry.address());

    // Pinned by the digest of an index, Istio's agent would refuse it.
    let (rendered, words) =
        render(&files, &policy(&format!("{repository}@{index}"), ""), "istio").unwrap();
    assert!(words.contains(&format!("{index} is an index")), "{words}");
    assert!(rendered.contains(&format!("uri: oci://{repository}@{child}\n")), "{rendered}");
    assert!(!rendered.contains(index.strip_prefix("sha256:").unwrap()), "{rendered}");
    let (rendered, words) =
        render(&files, &policy(&store.reference("index"), ""), "istio-wasmplugin").unwrap();
    assert!(rendered.contains(child.strip_prefix("sha256:").unwrap()), "{rendered}");
    assert!(!words.contains("index"), "{words}");

    // The CNCF's artifact has a module, and no mesh takes it.
    store.image("cncf", OCI, CONFIG, &[("application/wasm", &module(1))]);
    let cncf = store.reference("cncf");
    let (code, words) = render(&files, &policy(&cncf, ""), "istio").unwrap_err();
    assert!(code == 1 && words.contains("no mesh takes oci://"), "{words}");
    assert!(words.contains("could not parse as compat variant"), "{words}");
    let (rendered, _) = render(&files, &policy(&cncf, "module: inline"), "istio").unwrap();
    assert!(rendered.contains("inline_bytes: "), "{rendered}");

    // One that Envoy would not load.
    let broken = wat::parse_str(r#"(module (import "env" "nothing" (func)))"#).unwrap();
    store.image("broken", OCI, CONFIG, &[(OCI_LAYER, &compat(&broken))]);
    let (code, words) =
        render(&files, &policy(&store.reference("broken"), ""), "istio").unwrap_err();
    assert!(code == 2 && words.contains("nothing") && words.contains("a@sha256:"), "{words}");
    store.image("none", OCI, CONFIG, &[(OCI_LAYER, &packed(&[("other.wasm", &module(1))]))]);
    let (code, words) = render(&files, &policy(&store.reference("none"), ""), "istio").unwrap_err();
    assert!(code == 2 && words.contains("plugin.wasm not found"), "{words}");
}
