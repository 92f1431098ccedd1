//! `tollgate pull`: the module out of an image.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tollgate_oci::{Digest, Reference};

use crate::images::{RegistryOptions, module};
use crate::{Outcome, print};

/// Arguments of `tollgate pull`.
#[derive(Args)]
pub(crate) struct Pull {
    /// The image; `latest` without a tag or a digest.
    #[arg(value_name = "REPO[:TAG][@DIGEST]")]
    image: Reference,
    /// Where to write the module; without it, a file named as the repository, here.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    registries: RegistryOptions,
}

impl Pull {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or written; an image without a module.
    pub(crate) fn run(self) -> Result<Outcome> {
        let image = self.registries.read()?.fetch(&self.image)?;
        let module = module(&image)?;
        let last = self.image.name().rsplit('/').next().unwrap_or_default();
        let file = self.out.unwrap_or_else(|| PathBuf::from(format!("{last}.wasm")));
        std::fs::write(&file, &module).with_context(|| format!("{}", file.display()))?;
        eprintln!("{}: {} bytes, {}", file.display(), module.len(), Digest::of(&module));
        print(&self.image.pinned(&image.digest).to_string())?;
        Ok(Outcome::Done)
    }
}
