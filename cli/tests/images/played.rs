//! Images where a filter is named: in scenarios, on the command line, and in place of what is deployed.

use std::fs;

use tollgate_host_envoy::find_envoy;

use crate::common::root;
use crate::registry::{Mode, Registry};
use crate::{Files, command, printed, refused, said};

#[test]
fn an_image_is_a_filter_wherever_one_is_named() {
    let Some(registry) = Registry::start(Mode::Basic) else { return };
    let (files, at) = (Files::new(), registry.address());
    let tag = format!("{at}/filters/guard:1.0.0");
    let login = ["--username", "alice", "--password-stdin"];
    let as_alice = |arguments: &[&str]| {
        let mut command = command(&[arguments, &login[..]].concat());
        command.env("TOLLGATE_CACHE", files.path("cache")).write_stdin("secret");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    as_alice(&["push", &files.module(1), &tag]);
    as_alice(&["push", &files.module(2), &format!("{at}/filters/next:1.0.0")]);

    fs::create_dir(files.path("scenarios")).unwrap();
    let write = |name: &str, filter: &str, steps: &str| {
        let file = files.path("scenarios").join(name);
        let text =
            format!("name: {name}\nfilters: [ {{ filter: '{filter}' }} ]\nsteps: [ {steps} ]\n");
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let request = "{ request: {}, expect: { response: { status: 200 } } }";
    let next = format!(
        "{{ configure: {{ filter: guard, module: 'oci://{at}/filters/next:1.0.0' }} }}, {request}"
    );
    let scenario = write("image.yaml", &format!("oci://{tag}"), &format!("{request}, {next}"));
    let other = write("other.yaml", &format!("oci://{tag}"), request);
    let folder = files.path("");
    assert!(as_alice(&["test", folder.to_str().unwrap()]).contains("2 passed"));
    if find_envoy(None, &root().join("target/envoy/venv")).is_ok() {
        assert!(as_alice(&["test", &scenario, &other, "--on", "envoy"]).contains("2 passed"));
    }
    assert!(as_alice(&["trace", &scenario]).contains("  guard@0 "));
    let image = format!("oci://{tag}");
    assert!(as_alice(&["bench", &image, "--time", "0.1"]).contains(&image));
    let plugin = files.path("plugin.yaml");
    let text =
        format!("kind: WasmPlugin\nmetadata: {{ name: guard }}\nspec: {{ url: '{image}' }}\n");
    fs::write(&plugin, text).unwrap();
    let module = format!("guard={image}");
    let from = ["--from", plugin.to_str().unwrap(), "--module", &module];
    assert!(as_alice(&[&["check"][..], &from].concat()).contains("Envoy 1.40     loads it"));
    assert!(as_alice(&[&["test", &other][..], &from].concat()).contains("1 passed"));

    let words = refused(&["test", &other], 2);
    assert!(words.contains(&tag) && words.contains("wants a login"), "{words}");
    let unnamed = write("unnamed.yaml", "oci://no image", request);
    let words = refused(&["test", &unnamed], 2);
    assert!(words.contains("no image"), "{words}");
    // What only lists pulls nothing.
    assert!(printed(&["test", &other, "--list"]).contains("other.yaml"));
}
