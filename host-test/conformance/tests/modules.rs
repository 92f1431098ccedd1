//! Modules of every shape, and of several compilers: the offline host loads those that a real Envoy loads,
//! and what comes of a request is the same; it refuses the others, in words that Envoy says too.
//!
//! Needs an Envoy, as `agreement.rs` does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::observed::{Observed, difference, observe};
use common::toolchains::{self, is_ci};
use common::{envoy, loader, say};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{ProxyHost, StartError};
use tollgate_host::scenario::{HostName, Scenario};

/// Fewer shapes than these would leave some out.
const FEWEST_SHAPES: usize = 45;

/// A module by its file, and the words with which Envoy refuses it.
struct Shape {
    name: String,
    file: PathBuf,
    refused: Option<String>,
}

/// Modules written by hand: `modules/*.wat`. One that Envoy refuses says `;; refused: …`.
fn shapes() -> Vec<Shape> {
    const REFUSED: &str = ";; refused: ";
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shapes");
    fs::create_dir_all(&built).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("modules");
    let mut shapes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_none_or(|ending| ending != "wat") {
            continue;
        }
        let text = fs::read_to_string(&source).unwrap();
        let name = source.file_stem().unwrap().to_str().unwrap().to_owned();
        let file = built.join(&name).with_extension("wasm");
        fs::write(&file, wat::parse_str(&text).expect(&name)).unwrap();
        let refused = text.lines().find_map(|line| line.strip_prefix(REFUSED)).map(str::to_owned);
        shapes.push(Shape { name, file, refused });
    }
    shapes.sort_by(|one, other| one.name.cmp(&other.name));
    shapes
}

/// One request through the module, which has a configuration and an environment.
fn scenario(shape: &Shape) -> Scenario {
    let Shape { name, file, refused } = shape;
    let steps = match refused {
        Some(words) => format!("refused: '{words}'"),
        None => "\
steps:
  - request: { method: POST, path: /p, headers: [ [x-probe, one], [x-user, alice] ], body: two }
    upstream: { headers: [ [x-from, upstream] ], body: three }"
            .into(),
    };
    let file = file.display();
    let text = format!(
        "name: {name}\n\
         filters: [ {{ filter: {file}, name: plugin, config: conf, environment: {{ TOLLGATE: on }} }} ]\n\
         {steps}\n"
    );
    Scenario::parse(&text).expect(&text)
}

/// What is not the same on both hosts.
fn compare(shape: &Shape, offline: &dyn ProxyHost, envoy: &dyn ProxyHost) -> Option<String> {
    let scenario = scenario(shape);
    let name = &shape.name;
    let Some(words) = &shape.refused else {
        let [offline, envoy] = [offline, envoy].map(|host| all(&observe(&scenario, host)));
        return difference(&offline, &envoy).map(|difference| format!("{name}:\n{difference}"));
    };
    let mistakes = [offline, envoy].map(|host| match host.start(&scenario) {
        Err(StartError::Refused { words: said }) if said.contains(words) => None,
        Err(error) => Some(format!("{name}, {}: not `{words}`, but:\n{error}", host.name())),
        Ok(_) => Some(format!("{name}, {}: started", host.name())),
    });
    let mistakes: Vec<String> = mistakes.into_iter().flatten().collect();
    (!mistakes.is_empty()).then(|| mistakes.join("\n"))
}

fn all(observed: &Observed) -> Vec<String> {
    [observed.started.clone(), observed.all()].concat()
}

/// Compares on both hosts; gives how many are loaded, and how many refused.
fn agree(shapes: &[Shape]) -> Option<(usize, usize)> {
    let envoy = envoy()?;
    let loader = loader();
    let offline = Offline::new(HostName::Wasmtime, &loader);
    let mistakes: Vec<String> =
        shapes.iter().filter_map(|shape| compare(shape, &offline, &envoy)).collect();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n\n"));
    let refused = shapes.iter().filter(|shape| shape.refused.is_some()).count();
    Some((shapes.len() - refused, refused))
}

#[test]
fn every_shape_of_a_module_is_loaded_or_refused_as_envoy_does() {
    let shapes = shapes();
    assert!(shapes.len() >= FEWEST_SHAPES, "{} shapes are too few", shapes.len());
    let Some((loaded, refused)) = agree(&shapes) else { return };
    say(&format!("{loaded} shapes of modules loaded and {refused} refused on both hosts"));
}

#[test]
fn modules_of_other_compilers_do_the_same_on_both_hosts() {
    let mut shapes = Vec::new();
    for made in toolchains::make() {
        match made.file {
            Ok(file) => shapes.push(Shape {
                name: made.name.into(),
                file,
                refused: made.refused.map(str::to_owned),
            }),
            Err(missing) => {
                assert!(!is_ci(), "{}: {missing}", made.name);
                say(&format!("skipped the module {}: {missing}", made.name));
            }
        }
    }
    let Some((loaded, refused)) = agree(&shapes) else { return };
    say(&format!("{loaded} modules of compilers loaded and {refused} refused on both hosts"));
}

/// What is said of a module without running it is the same verdict.
#[test]
fn what_is_read_of_a_module_tells_whether_envoy_loads_it() {
    for shape in shapes() {
        let bytes = fs::read(&shape.file).unwrap();
        let problems = tollgate_module::Module::read(&bytes).expect(&shape.name).check();
        let said: Vec<String> =
            problems.iter().filter_map(tollgate_module::Problem::refusal).collect();
        match &shape.refused {
            None => assert_eq!(said, [""; 0], "{}", shape.name),
            // What runs is not known before it has run.
            Some(words) if words.starts_with("Function: ") || words == "restricted_callback" => {}
            Some(_) if shape.name == "start-section-traps" => {}
            Some(words) => {
                assert!(said.iter().any(|said| said.contains(words)), "{}: {said:?}", shape.name);
            }
        }
    }
}
