//! A chain of filters on the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tollgate_host::scenario::{FilterSource, FilterUse};
use tollgate_module::Module;

use crate::filters::{BuiltIns, read_configuration};

/// The filters of a chain, with the configuration of the n-th in the n-th file.
///
/// # Errors
///
/// More files than filters, and what cannot be read.
pub(crate) fn chain(
    filters: &[String],
    configs: &[PathBuf],
    built_ins: &BuiltIns,
) -> Result<Vec<FilterUse>> {
    refuse_surplus(configs, filters.len())?;
    let filters = filters.iter().enumerate();
    filters
        .map(|(index, filter)| link(filter, configs.get(index).map(PathBuf::as_path), built_ins))
        .collect()
}

/// One filter of a chain, as its module says that it has to be used.
///
/// # Errors
///
/// What cannot be read.
pub(crate) fn link(filter: &str, config: Option<&Path>, built_ins: &BuiltIns) -> Result<FilterUse> {
    let source = FilterSource::parse(filter)?;
    let config = config.map(read_configuration).transpose()?;
    let (file, bytes) = built_ins.read(&source)?;
    let module = Module::read(&bytes).with_context(|| format!("{}", file.display()))?;
    let metadata = module.metadata().with_context(|| format!("{}", file.display()))?;
    let needs = metadata.map(|metadata| metadata.needs).unwrap_or_default();
    Ok(FilterUse {
        allow_on_headers_stop_iteration: needs
            .iter()
            .any(|need| need == "allow_on_headers_stop_iteration"),
        ..FilterUse::new(source, config.unwrap_or_default())
    })
}

/// Refuses configurations that are for no filter.
///
/// # Errors
///
/// When there are more than `filters`.
pub(crate) fn refuse_surplus(configs: &[PathBuf], filters: usize) -> Result<()> {
    let count = configs.len();
    if count > filters {
        bail!("--config stands {count} times for {filters} filters; the n-th is for the n-th");
    }
    Ok(())
}
