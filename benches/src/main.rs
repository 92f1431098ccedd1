//! What a filter costs in Envoy: the SDK beside what one could use in its place.
//!
//! One Envoy with a listener for each variant serves a fixed number of requests of each in turn, round
//! after round; compared is the processor time of its process. What the variants are is in `variants`,
//! what the figures mean in the README.

mod arguments;
mod fixtures;
mod identity;
#[cfg(feature = "offline")]
mod offline;
mod report;
mod request;
mod variants;

use std::path::Path;

use anyhow::{Result, ensure};
use tollgate_host_bench::{Client, Envoy, Listener, Request};
use tollgate_host_envoy::find_envoy;

use crate::arguments::{Arguments, Set};
use crate::fixtures::Fixtures;
use crate::variants::Variant;

fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binary = find_envoy(None, &root.join("target/envoy/venv"))?;
    let fixtures = Fixtures::build(&root)?;
    let all = match arguments.set {
        Set::Plain => variants::all(&fixtures),
        Set::Tls => identity::all(&fixtures)?,
    };
    let variants = variants::named(all, arguments.only.as_deref());
    let lines = request::lines(arguments.lines);
    let requests = [Request::get("/orders", &lines)];

    let listeners: Vec<Listener> = variants.iter().map(Variant::listener).collect();
    let envoy = Envoy::start(&binary, &listeners)?;
    let mut clients = Vec::new();
    for variant in &variants {
        variant.check(&envoy)?;
        clients.push(Client::connect(envoy.listener(variant.name)?, &requests)?);
    }
    let rounds = envoy.measure(&mut clients, arguments.measuring)?;
    for (variant, client) in variants.iter().zip(&clients) {
        let answers = client.answers();
        ensure!(answers.keys().eq([&200]), "{} does not always pass: {answers:?}", variant.name);
    }
    report::print(&variants, rounds, lines.len());
    drop(envoy);

    #[cfg(feature = "offline")]
    offline::print(&variants, &lines)?;
    Ok(())
}
