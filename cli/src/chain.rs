//! A chain of filters: on the command line, or in a file that deploys it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tollgate_host::scenario::{FilterSource, FilterUse, Traffic};
use tollgate_module::Module;

use crate::deployed::From;
use crate::filters::{BuiltIns, read_configuration};

/// What says which filters make up a chain, and can be asked again.
pub(crate) enum Chain {
    /// The command line: filters, and the configuration of the n-th in the n-th file.
    Named { filters: Vec<String>, configs: Vec<PathBuf> },
    /// A file that deploys them.
    Deployed(From),
}

impl Chain {
    /// The filters in order; each of those on the command line is read for itself.
    ///
    /// # Errors
    ///
    /// More configurations than filters, and what is wrong with a file that deploys them.
    pub(crate) fn read(&self, built_ins: &BuiltIns) -> Result<Vec<Result<FilterUse>>> {
        match self {
            Self::Named { filters, configs } => links(filters, configs, built_ins),
            Self::Deployed(from) => {
                Ok(from.filters(Traffic::Http)?.unwrap_or_default().into_iter().map(Ok).collect())
            }
        }
    }

    /// The files that say it, besides modules.
    pub(crate) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Named { configs, .. } => configs,
            Self::Deployed(from) => from.resource.as_slice(),
        }
    }

    /// A filter as its user calls it: as on the command line, else by the name of its plugin.
    pub(crate) fn called(&self, place: usize, filter: &FilterUse) -> String {
        match self {
            Self::Named { filters, .. } => filters.get(place).cloned(),
            Self::Deployed(_) => None,
        }
        .unwrap_or_else(|| filter.name.clone())
    }
}

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
    links(filters, configs, built_ins)?.into_iter().collect()
}

fn links(
    filters: &[String],
    configs: &[PathBuf],
    built_ins: &BuiltIns,
) -> Result<Vec<Result<FilterUse>>> {
    refuse_surplus(configs, filters.len())?;
    let filters = filters.iter().enumerate();
    let config = |index: usize| configs.get(index).map(PathBuf::as_path);
    Ok(filters.map(|(index, filter)| link(filter, config(index), built_ins)).collect())
}

/// One filter of a chain, as its module says that it has to be used.
///
/// # Errors
///
/// What cannot be read.
fn link(filter: &str, config: Option<&Path>, built_ins: &BuiltIns) -> Result<FilterUse> {
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
