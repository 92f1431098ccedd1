//! The modules that are measured, all built with one profile.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tollgate_module::{Description, finish};

const TARGET: &str = "wasm32-wasip1";

/// The profile that `tollgate build` uses.
const PROFILE: [&str; 6] = [
    "profile.filter.inherits=\"release\"",
    "profile.filter.opt-level=3",
    "profile.filter.lto=\"fat\"",
    "profile.filter.codegen-units=1",
    "profile.filter.panic=\"abort\"",
    "profile.filter.strip=\"debuginfo\"",
];

/// Files of modules.
pub(crate) struct Fixtures {
    /// The bare ABI.
    pub(crate) handwritten: PathBuf,
    /// The bare ABI, reading all lines.
    pub(crate) handwritten_map: PathBuf,
    /// Our SDK, finished.
    pub(crate) sdk: PathBuf,
    /// Our SDK with a chain of four in one module, finished.
    pub(crate) sdk_chain: PathBuf,
    /// The stock crate, as it is linked.
    pub(crate) stock: PathBuf,
    /// The stock crate, finished.
    pub(crate) stock_finished: PathBuf,
    /// Metrics on the stock crate, as it is linked.
    pub(crate) stock_metrics: PathBuf,
    /// Who may call what, on the stock crate, as it is linked.
    pub(crate) stock_mtls: PathBuf,
    /// The rate limit, finished.
    pub(crate) ratelimit: PathBuf,
    /// The metrics, finished.
    pub(crate) metrics: PathBuf,
    /// The filter `mtls`, finished.
    pub(crate) mtls: PathBuf,
}

impl Fixtures {
    /// Builds all of them; `root` is the folder of the repository.
    ///
    /// # Errors
    ///
    /// What cargo or the finishing says.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("benches/target"), PathBuf::from);
        let fixtures = [
            "handwritten",
            "handwritten-map",
            "sdk",
            "sdk-chain",
            "stock",
            "stock-metrics",
            "stock-mtls",
        ]
        .map(|name| format!("tollgate-bench-{name}"));
        compile(&root.join("benches"), &target, &fixtures)?;
        let filters = ["ratelimit", "metrics", "mtls"].map(|name| format!("tollgate-{name}-wasm"));
        compile(root, &target, &filters)?;

        // Not a temporary folder: it would stay behind when we are killed.
        let folder = target.join("bench-modules");
        std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let compiled = target.join(TARGET).join("filter");
        let linked = |library: &str| compiled.join(library).with_extension("wasm");
        let finished = |library: &str| -> Result<PathBuf> {
            let file = folder.join(library).with_extension("wasm");
            finish_file(&linked(library), &file)?;
            Ok(file)
        };
        Ok(Self {
            handwritten: linked("fixture_handwritten"),
            handwritten_map: linked("fixture_handwritten_map"),
            sdk: finished("fixture_sdk")?,
            sdk_chain: finished("fixture_sdk_chain")?,
            stock: linked("fixture_stock"),
            stock_finished: finished("fixture_stock")?,
            stock_metrics: linked("fixture_stock_metrics"),
            stock_mtls: linked("fixture_stock_mtls"),
            ratelimit: finished("ratelimit")?,
            metrics: finished("metrics")?,
            mtls: finished("mtls")?,
        })
    }
}

fn compile(workspace: &Path, target: &Path, packages: &[String]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--profile", "filter", "--target", TARGET]);
    command.arg("--manifest-path").arg(workspace.join("Cargo.toml"));
    command.arg("--target-dir").arg(target);
    command.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    command.args(packages.iter().flat_map(|package| ["--package", package.as_str()]));
    let status = command.status().context("cargo cannot be run")?;
    if !status.success() {
        bail!("cargo build failed; if the target is missing: `rustup target add {TARGET}`");
    }
    Ok(())
}

fn finish_file(linked: &Path, file: &Path) -> Result<()> {
    let bytes = std::fs::read(linked).with_context(|| format!("{}", linked.display()))?;
    let text = |text: &str| Some(text.to_owned());
    let description =
        Description { name: text("bench"), version: text("0.1.0"), ..Description::default() };
    let finished = finish(&bytes, &description).with_context(|| format!("{}", linked.display()))?;
    std::fs::write(file, finished).with_context(|| format!("{}", file.display()))
}
