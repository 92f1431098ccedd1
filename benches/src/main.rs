//! What a filter costs in Envoy: the SDK beside what one could use in its place.
//!
//! One Envoy with a listener for each variant serves a fixed number of requests of each in turn, round
//! after round; compared is the processor time of its process. What the variants are is in `variants`,
//! what the figures mean in the README.

mod arguments;
mod envoy;
mod fixtures;
mod load;
#[cfg(feature = "offline")]
mod offline;
mod report;
mod rounds;
mod variants;

use std::path::Path;

use anyhow::Result;
use tollgate_host_envoy::find_envoy;

use crate::arguments::Arguments;
use crate::envoy::Envoy;
use crate::fixtures::Fixtures;

fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binary = find_envoy(None, &root.join("target/envoy/venv"))?;
    let fixtures = Fixtures::build(&root)?;
    let variants = variants::all(&fixtures, arguments.only.as_deref());
    let request = load::Request::with_lines(arguments.lines);

    let envoy = Envoy::start(&binary, &variants)?;
    for variant in &variants {
        envoy.check(variant)?;
    }
    let rounds = rounds::measure(&envoy, &variants, &request, &arguments)?;
    report::print(&variants, &rounds, &request);
    drop(envoy);

    #[cfg(feature = "offline")]
    offline::print(&variants, &request)?;
    Ok(())
}
