//! `cargo demo`: build the filters, then the tour.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup::{add_target, cargo, succeed};

/// Runs the demo; its last line is `demo: N scenarios, N passed`.
///
/// # Errors
///
/// What cannot be installed or built.
pub(crate) fn run() -> Result<ExitCode> {
    add_target("wasm32-wasip1")?;
    // The first build compiles the engine; its progress is cargo's own.
    succeed(cargo().args(["build", "--package", "tollgate-cli"]))?;
    succeed(cargo().args(["tollgate", "build"]))?;
    let mut demo = cargo();
    demo.args(["tollgate", "demo"]);
    let status = demo.status().context("the tour cannot be run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
