//! `cargo coverage PACKAGE`: which code of a filter its tests run, the scenarios among them.
//!
//! In its tests a filter is linked into the program, through the null engine, so the compiler can count
//! what runs. All is built in a folder of its own, since counting is in every crate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::setup::{cargo, output, root, succeed};

/// Tests a package, and tells for each of its files, or for each line, how often it ran.
///
/// # Errors
///
/// What cannot be installed, built or run; also when a test fails.
pub(crate) fn run(package: &str, lines: Lines) -> Result<ExitCode> {
    let tools = tools()?;
    let folder = root().join("target/coverage");
    let counts = folder.join("counts");
    // Those of another run tell of other programs.
    let _none = fs::remove_dir_all(&counts);
    let programs = test(package, &folder, &counts)?;
    let merged = counts.join("merged.profdata");
    let files = fs::read_dir(&counts)?.map(|entry| Ok(entry?.path()));
    let files = files.collect::<Result<Vec<PathBuf>>>()?;
    succeed(
        Command::new(tools.join("llvm-profdata"))
            .args(["merge", "-sparse", "-o"])
            .arg(&merged)
            .args(files),
    )?;
    let mut report = Command::new(tools.join("llvm-cov"));
    report.arg(match lines {
        Lines::Counted => "report",
        Lines::Shown => "show",
    });
    let [first, others @ ..] = programs.as_slice() else { bail!("{package} has no tests") };
    report.arg("--instr-profile").arg(&merged).arg(first);
    for program in others {
        report.arg("--object").arg(program);
    }
    succeed(report.arg(source(package)?))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a report has each line or their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// A row for each file.
    Counted,
    /// Each line, with how often it ran.
    Shown,
}

/// The programs of LLVM that come with the toolchain; rustup adds them if need be.
fn tools() -> Result<PathBuf> {
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let folder = Path::new(libraries.trim()).with_file_name("bin");
    if !folder.join("llvm-cov").is_file() {
        eprintln!("adding the component llvm-tools");
        succeed(Command::new("rustup").args(["component", "add", "llvm-tools"]))?;
    }
    Ok(folder)
}

/// Runs the tests of a package with counting, and gives their programs.
fn test(package: &str, folder: &Path, counts: &Path) -> Result<Vec<PathBuf>> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let machine = version.lines().find_map(|line| line.strip_prefix("host: "));
    let machine = machine.context("rustc does not tell the machine that it compiles for")?;
    let command = |more: &[&str]| {
        let mut command = cargo();
        // A target, though it is this machine: then macros and build scripts count nothing.
        command.args(["test", "--package", package, "--target", machine, "--tests"]).args(more);
        command.env("RUSTFLAGS", "-C instrument-coverage").env("CARGO_TARGET_DIR", folder);
        command.env("LLVM_PROFILE_FILE", counts.join("%p-%m.profraw"));
        command.stderr(Stdio::inherit());
        command
    };
    let built = output(&mut command(&["--no-run", "--message-format", "json"]))?;
    succeed(&mut command(&[]))?;
    let programs = built.lines().filter_map(|line| serde_json::from_str::<Built>(line).ok());
    Ok(programs.filter_map(|built| built.executable).collect())
}

/// What cargo tells of a thing that it built, as far as it matters here.
#[derive(Deserialize)]
struct Built {
    executable: Option<PathBuf>,
}

/// The folder of a package's source.
fn source(package: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&output(&mut command)?)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let own = packages.into_iter().flatten().find(|own| own["name"] == package);
    let Some(manifest) = own.and_then(|own| own["manifest_path"].as_str()) else {
        bail!("{package} is not a package of this workspace");
    };
    Ok(Path::new(manifest).with_file_name("src"))
}
