//! Set-up and repository checks behind `cargo demo`, `cargo ci` and `cargo coverage`.
//!
//! Nothing here knows what a filter is: the work is done by cargo, rustup, pip and the `tollgate`
//! command; xtask installs what they need and calls them in order.

#![forbid(unsafe_code)]

mod ci;
mod coverage;
mod demo;
mod setup;

use std::process::ExitCode;

use anyhow::{Result, bail};
use coverage::Lines;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    std::env::set_current_dir(setup::root())?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ci"] => ci::run(),
        ["demo"] => demo::run(),
        ["coverage", package] => coverage::run(package, Lines::Counted),
        ["coverage", package, "--lines"] => coverage::run(package, Lines::Shown),
        _ => bail!("write `cargo ci`, `cargo demo` or `cargo coverage PACKAGE [--lines]`"),
    }
}
