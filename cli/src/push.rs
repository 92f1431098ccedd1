//! `tollgate push`: a module as an image in registries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use tollgate_host::scenario::FilterSource;
use tollgate_module::Module;
use tollgate_oci::{Access, Image, MovedTags, Reference};

use crate::filters::{BuiltIns, DeclaredImports};
use crate::loading::Loading;
use crate::{Outcome, print};

/// Arguments of `tollgate push`.
#[derive(Args)]
pub(crate) struct Push {
    /// The module: a file, the name of a built-in filter, or an image `oci://…`.
    #[arg(value_name = "MODULE")]
    module: String,
    /// Where to store it; without a tag it is found by its digest alone.
    #[arg(value_name = "REPO[:TAG]", required = true)]
    destinations: Vec<Reference>,
    /// Words about the image, such as `org.opencontainers.image.source=https://…`. May be given several
    /// times; title and version are those of the module.
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Let a tag that is a version stand for another image than before.
    #[arg(long)]
    force: bool,
    /// Print the manifest and the names, and store nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    imports: DeclaredImports,
    #[command(flatten)]
    built_ins: BuiltIns,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Push {
    /// Runs the command: a module that no proxy would load is not stored.
    ///
    /// # Errors
    ///
    /// What cannot be read or stored.
    pub(crate) fn run(self) -> Result<Outcome> {
        if let Some(pinned) = self.destinations.iter().find(|to| to.digest().is_some()) {
            bail!("{pinned}: the digest is what comes of the module; leave it out");
        }
        let (file, bytes) = self.built_ins.read(&FilterSource::parse(&self.module)?)?;
        let module = Module::read(&bytes).with_context(|| format!("{}", file.display()))?;
        let loading = Loading::of(&module, &self.imports.all());
        if !loading.is_loaded {
            eprintln!("{}: {}", file.display(), loading.refusals.join("; "));
            return Ok(Outcome::Failed);
        }
        let image = Image::build(&bytes, &annotations(&file, &module, self.annotations)?)?;
        let pinned: BTreeSet<String> =
            self.destinations.iter().map(|to| to.pinned(image.digest()).to_string()).collect();
        if self.dry_run {
            print(&String::from_utf8_lossy(&image.manifest().bytes))?;
        } else {
            let moved = if self.force { MovedTags::Forced } else { MovedTags::Refused };
            let registries = self.built_ins.registries()?;
            let ways = self.destinations.iter().map(|to| registries.transport(to));
            let ways = ways.collect::<Result<Vec<_>>>()?;
            let all = || self.destinations.iter().zip(&ways);
            // One that has to be refused keeps the others from being stored.
            for (to, way) in all() {
                registries
                    .repository(to, Access::Push, way)
                    .refuse_to_move(image.digest(), moved)?;
            }
            for (to, way) in all() {
                let mut repository = registries.repository(to, Access::Push, way);
                repository.push(&image, moved).with_context(|| to.to_string())?;
            }
        }
        print(&pinned.into_iter().collect::<Vec<_>>().join("\n"))?;
        Ok(Outcome::Done)
    }
}

/// What the module says of itself, and what was given, which wins.
fn annotations(
    file: &Path,
    module: &Module,
    given: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>> {
    let metadata = module.metadata().with_context(|| format!("{}", file.display()))?;
    let told = metadata.into_iter().flat_map(|metadata| {
        let key = |name: &str| format!("org.opencontainers.image.{name}");
        [(key("title"), metadata.name), (key("version"), metadata.version)]
    });
    Ok(told.chain(given).collect())
}
