//! The two hosts, the modules that they run, and the scenarios.

pub(crate) mod observed;
mod varying;
mod wasi;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use tollgate_host::engine::Module;
use tollgate_host::proxy::StartError;
use tollgate_host::scenario::{FilterSource, FilterUse, Scenario};
use tollgate_host_envoy::{EnvoyHost, find_envoy};
use tollgate_host_wasmtime::{Limits, Wasmtime};
use tollgate_module::{Description, finish};

/// A module as it is named in scenarios, the library that it is linked from, and its package.
const MODULES: [(&str, &str, &str); 9] = [
    ("probe", "probe", "tollgate-conformance-probe"),
    ("probe-2", "probe", "tollgate-conformance-probe"),
    ("probe-3", "probe", "tollgate-conformance-probe"),
    ("ratelimit", "ratelimit", "tollgate-ratelimit-wasm"),
    ("whole", "examples/whole", "tollgate-conformance-filters"),
    ("whole_resizing", "examples/whole_resizing", "tollgate-conformance-filters"),
    ("chunks", "examples/chunks", "tollgate-conformance-filters"),
    ("chunks_resizing", "examples/chunks_resizing", "tollgate-conformance-filters"),
    ("maps", "examples/maps", "tollgate-conformance-filters"),
];

/// The guest that calls what WASI only answers.
const WASI: &str = "wasi";

const TARGET: &str = "wasm32-wasip1";

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A host over a real Envoy. Without one there is none, which is said aloud, and is a failure where `CI`
/// is `true`.
pub(crate) fn envoy() -> Option<EnvoyHost> {
    match find_envoy(None, &root().join("target/envoy/venv")) {
        Ok(envoy) => Some(EnvoyHost::new(envoy, modules().to_owned())),
        Err(error) => {
            assert!(env::var("CI").as_deref() != Ok("true"), "{error}");
            say(&format!("skipped a test with a real Envoy: {error}"));
            None
        }
    }
}

/// Writes a line past the harness, which keeps to itself what a test that passes prints.
pub(crate) fn say(line: &str) {
    let mut stderr = io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

/// Finds modules for the offline host, each compiled once.
pub(crate) fn loader() -> impl Fn(&FilterUse) -> Result<Arc<dyn Module>, StartError> + Sync {
    let engine = Wasmtime::new(Limits::default(), None).unwrap();
    let load = |name: &str| {
        let source = FilterSource::BuiltIn(name.to_owned());
        let bytes = fs::read(source.file(modules())).unwrap();
        let module: Arc<dyn Module> = Arc::new(engine.load(&bytes).unwrap());
        (source, module)
    };
    let loaded: Vec<(FilterSource, Arc<dyn Module>)> =
        MODULES.iter().map(|(name, _, _)| *name).chain([WASI]).map(load).collect();
    move |filter| match loaded.iter().find(|(source, _)| *source == filter.source) {
        Some((_, module)) => Ok(Arc::clone(module)),
        None => Err(StartError::Module(format!("{:?} is not built here", filter.source).into())),
    }
}

/// Every scenario below a folder, with its path in it but for the ending, in order.
pub(crate) fn scenarios(folder: &Path) -> Vec<(String, Scenario)> {
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = scenarios_below(&path, &name);
            scenarios.extend(below);
        } else {
            let scenario = Scenario::read(&path);
            let scenario = scenario.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            scenarios.push((name, scenario));
        }
    }
    scenarios.sort_by(|(one, _), (other, _)| one.cmp(other));
    scenarios
}

fn scenarios_below(folder: &Path, name: &str) -> impl Iterator<Item = (String, Scenario)> {
    scenarios(folder)
        .into_iter()
        .map(move |(below, scenario)| (format!("{name}/{below}"), scenario))
}

/// The folder of the modules, built once for all tests of the program and finished as they ship.
///
/// Filters of one module run in one VM: the probes of a chain are modules that differ in their names, so
/// that each can have its own.
fn modules() -> &'static Path {
    static MODULES_BUILT: OnceLock<PathBuf> = OnceLock::new();
    MODULES_BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
        fs::create_dir_all(&folder).unwrap();
        let compiled = compile();
        for (name, library, _) in MODULES {
            let linked = fs::read(compiled.join(library).with_extension("wasm")).unwrap();
            let version = Some(env!("CARGO_PKG_VERSION").to_owned());
            let about = Description { name: Some(name.to_owned()), version, schema: None };
            let module = finish(&linked, &about).unwrap();
            fs::write(folder.join(name).with_extension("wasm"), module).unwrap();
        }
        fs::write(folder.join(WASI).with_extension("wasm"), wasi::module()).unwrap();
        folder
    })
}

/// Compiles the packages as `tollgate build` does; gives the folder of what was linked.
fn compile() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--lib", "--examples"]);
    cargo.args(["--profile", "filter", "--target", TARGET]);
    for setting in [
        "profile.filter.inherits=\"release\"",
        "profile.filter.lto=\"fat\"",
        "profile.filter.codegen-units=1",
        "profile.filter.panic=\"abort\"",
        "profile.filter.strip=\"debuginfo\"",
    ] {
        cargo.args(["--config", setting]);
    }
    for (_, _, package) in MODULES {
        cargo.args(["--package", package]);
    }
    cargo.arg("--target-dir").arg(target).current_dir(root());
    let status = cargo.status().unwrap();
    assert!(status.success(), "if the target is missing: `rustup target add {TARGET}`");
    target.join(TARGET).join("filter")
}
