//! Set-up and repository checks behind `cargo demo` and `cargo ci`.
//!
//! Nothing here knows what a filter is: the work is done by cargo, rustup, pip and the `tollgate`
//! command; xtask installs what they need and calls them in order.

#![forbid(unsafe_code)]

mod ci;
mod demo;
mod setup;

use std::process::ExitCode;

use anyhow::{Result, bail};

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
        _ => bail!("write `cargo ci` or `cargo demo`, without arguments"),
    }
}
