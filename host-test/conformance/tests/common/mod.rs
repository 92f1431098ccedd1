//! The two hosts, the modules that they run, and the scenarios.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod observed;
pub(crate) mod toolchains;
mod varying;
mod wasi;

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tollgate_host::engine::Module;
use tollgate_host::proxy::StartError;
use tollgate_host::scenario::{FilterUse, Scenario};
use tollgate_host_envoy::{EnvoyHost, find_envoy};
use tollgate_host_wasmtime::{Limits, Wasmtime};
use tollgate_module::{Description, finish};

/// A module as it is named in scenarios, the library that it is linked from, and its package.
const MODULES: [(&str, &str, &str); 10] = [
    ("probe", "probe", "tollgate-conformance-probe"),
    ("probe-2", "probe", "tollgate-conformance-probe"),
    ("probe-3", "probe", "tollgate-conformance-probe"),
    ("probe-0-1-0", "probe_0_1_0", "tollgate-conformance-probe-0-1-0"),
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

/// Finds modules for the offline host, each compiled once. One that cannot be loaded is refused, as Envoy
/// does.
pub(crate) fn loader() -> impl Fn(&FilterUse) -> Result<Arc<dyn Module>, StartError> + Sync {
    let engine = Wasmtime::new(Limits::default(), None).unwrap();
    let loaded: Mutex<HashMap<PathBuf, Arc<dyn Module>>> = Mutex::default();
    move |filter| {
        let file = filter.source.file(modules());
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(&file) {
            return Ok(Arc::clone(module));
        }
        let bytes = fs::read(&file).map_err(|error| {
            StartError::Module(format!("{} is not built here: {error}", file.display()).into())
        })?;
        let module = engine.load(&bytes);
        let module = module.map_err(|error| StartError::Refused { words: error.to_string() })?;
        let module: Arc<dyn Module> = Arc::new(module);
        loaded.insert(file, Arc::clone(&module));
        Ok(module)
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
            let name_of = Some(name.to_owned());
            let about = Description { name: name_of, version, ..Description::default() };
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
    let packages = MODULES.map(|(_, _, package)| package);
    compile_filters(&root().join("Cargo.toml"), target, &["--lib", "--examples"], &packages);
    target.join(TARGET).join("filter")
}

/// Compiles packages of a workspace to WebAssembly.
fn compile_filters(manifest: &Path, target: &Path, kinds: &[&str], packages: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet"]).args(kinds);
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
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target);
    let status = cargo.current_dir(root()).status().unwrap();
    assert!(status.success(), "if the target is missing: `rustup target add {TARGET}`");
}
