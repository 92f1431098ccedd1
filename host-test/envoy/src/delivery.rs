//! How the filters of a scenario come into the chain of Envoy.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tollgate_host::proxy::StartError;
use tollgate_host::scenario::{FilterUse, Scenario, Traffic};

use crate::bootstrap::Plugin;

/// How filters come into the chain.
pub trait Delivery: fmt::Debug + Send + Sync {
    /// The entries of the chain for the filters of `scenario`, in their order; the files of their modules are
    /// `modules`. An entry with a `config_discovery` from a file refers to one that is written here, into `folder`
    /// or elsewhere, in JSON.
    ///
    /// # Errors
    ///
    /// [`StartError`] when there is no way to tell Envoy of them.
    fn chain(
        &self,
        scenario: &Scenario,
        modules: &[PathBuf],
        folder: &Path,
    ) -> Result<Vec<Value>, StartError>;
}

/// Each filter stands in the chain itself.
#[derive(Debug)]
pub(crate) struct InPlace;

impl Delivery for InPlace {
    fn chain(
        &self,
        scenario: &Scenario,
        modules: &[PathBuf],
        _folder: &Path,
    ) -> Result<Vec<Value>, StartError> {
        let entry = |(filter, module): (&FilterUse, &PathBuf)| {
            wasm_filter(filter, module, scenario.traffic)
        };
        let entries = scenario.filters.iter().zip(modules).map(entry);
        entries
            .collect::<Result<_, _>>()
            .map_err(|error: NotText| StartError::Host(Box::new(error)))
    }
}

/// The filter of a module as Envoy is told of it, for a listener of such traffic.
///
/// # Errors
///
/// [`NotText`] when its configuration is not UTF-8.
pub fn wasm_filter(filter: &FilterUse, module: &Path, traffic: Traffic) -> Result<Value, NotText> {
    let name = filter.name.as_str();
    let text = |bytes| str::from_utf8(bytes).map_err(|_| NotText { filter: name.into() });
    let plugin = Plugin {
        name,
        root_id: &filter.root_id,
        vm_id: &filter.vm_id,
        vm_configuration: text(&filter.vm_config)?,
        environment: &filter.environment,
        module,
        configuration: text(&filter.config)?,
        allow_on_headers_stop_iteration: filter.allow_on_headers_stop_iteration,
        allowed_capabilities: &filter.allowed_capabilities,
        failure_policy: filter.failure_policy,
    };
    Ok(plugin.to_json(traffic))
}

/// A configuration is not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotText {
    /// The plugin.
    pub filter: String,
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filter } = self;
        write!(f, "the configuration of {filter} is not UTF-8, which Envoy does not take")
    }
}

impl std::error::Error for NotText {}
