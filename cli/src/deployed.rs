//! Filters from the files that deploy them: `--from`, `--chain`, `--plugin` and `--module`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use tollgate_host::deployed::{DeployedError, Pick, Picked};
use tollgate_host::scenario::{FilterSource, FilterUse, Traffic};

/// Which filters of which file.
#[derive(Args, Clone, Debug)]
pub(crate) struct From {
    /// Filters as this file deploys them: Envoy's bootstrap, listener or filter, Istio's `EnvoyFilter` or
    /// `WasmPlugin`.
    #[arg(id = "from", long, value_name = "FILE")]
    pub(crate) resource: Option<PathBuf>,
    /// The chain that is meant, where the file has several that are not alike: a context of Istio, as
    /// GATEWAY, or a listener of Envoy.
    #[arg(long, value_name = "NAME")]
    chain: Option<String>,
    /// The one filter that is meant, by its name there.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The module of a filter, in place of the one that the file names.
    #[arg(long = "module", value_name = "NAME=FILE.wasm", value_parser = module)]
    module: Vec<(String, FilterSource)>,
}

impl From {
    /// The filters for HTTP or for TCP, in the order of their chain; nothing without `--from`. What the file
    /// configures and no host plays goes to standard error.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, with its place.
    pub(crate) fn filters(&self, traffic: Traffic) -> Result<Option<Vec<FilterUse>>> {
        let Some(file) = &self.resource else {
            self.refuse_without_file()?;
            return Ok(None);
        };
        let pick = Pick {
            chain: self.chain.clone(),
            traffic,
            plugin: self.plugin.clone(),
            modules: self.module.iter().cloned().collect(),
        };
        let picked = Picked::read(file, &pick).with_context(|| format!("{}", file.display()))?;
        for left in &picked.left {
            eprintln!("note: {}: {left}", file.display());
        }
        Ok(Some(picked.filters))
    }

    /// Refuses a choice from no file: said here, as clap asks for nothing that conflicts with what is there.
    ///
    /// # Errors
    ///
    /// When there is one.
    pub(crate) fn refuse_without_file(&self) -> Result<()> {
        let chooses = self.chain.is_some() || self.plugin.is_some() || !self.module.is_empty();
        if self.resource.is_none() && chooses {
            bail!("--chain, --plugin and --module choose from a file; name it with --from");
        }
        Ok(())
    }

    /// The only filter, for HTTP if there is one, else for TCP; nothing without `--from`.
    ///
    /// # Errors
    ///
    /// As [`Self::filters`], and when there are several.
    pub(crate) fn filter(&self) -> Result<Option<FilterUse>> {
        let filters = self.filters(Traffic::Http).or_else(|error| {
            let is_elsewhere = matches!(
                error.downcast_ref(),
                Some(DeployedError::None { .. } | DeployedError::Unknown { .. })
            );
            let filters = is_elsewhere.then(|| self.filters(Traffic::Tcp).ok()).flatten();
            filters.ok_or(error)
        });
        let Some(mut filters) = filters? else { return Ok(None) };
        if filters.len() > 1 {
            let names: Vec<&str> = filters.iter().map(|filter| filter.name.as_str()).collect();
            bail!(
                "{} filters are deployed: {}; choose one with --plugin",
                names.len(),
                names.join(", ")
            );
        }
        Ok(filters.pop())
    }
}

fn module(text: &str) -> Result<(String, FilterSource), String> {
    let (name, source) = text.split_once('=').ok_or("write NAME=FILE.wasm")?;
    let source = FilterSource::parse(source).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), source))
}
