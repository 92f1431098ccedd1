//! A filter of the chain, and where its module comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tollgate_abi::{AbiVersion, Export, Function, Stub};

use super::value::Span;

/// A filter in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterUse {
    /// Where its module comes from.
    pub source: FilterSource,
    /// Name of the plugin; by default the filter's.
    pub name: String,
    /// Root id of the plugin.
    pub root_id: String,
    /// Id of the VM: filters of one module with the same one share a VM, and all with it their data.
    pub vm_id: String,
    /// Bytes that the VM gets as its configuration: JSON, or text as written.
    pub vm_config: Vec<u8>,
    /// Environment variables of the VM.
    pub environment: BTreeMap<String, String>,
    /// Bytes that the filter gets as its configuration: JSON, or text as written.
    pub config: Vec<u8>,
    /// Whether headers that it holds are held alone, so that the body comes to it.
    pub allow_on_headers_stop_iteration: bool,
    /// The only host functions that the VM may call and callbacks that it gets, by name; as in Envoy, all
    /// when there are none.
    pub allowed_capabilities: BTreeSet<String>,
    /// What becomes of streams once its guest has trapped.
    pub failure_policy: FailurePolicy,
}

/// What becomes of the streams of a worker that begin once the filter's guest has trapped there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// They are answered with 503, or closed.
    #[default]
    Closed,
    /// They go past the filter.
    Open,
    /// The first one that begins once the backoff has passed gets a new guest.
    Reload {
        /// The least time from when the guest was made, or was last tried to be made anew.
        backoff: Duration,
    },
}

impl FailurePolicy {
    /// The backoff of who does not say another.
    pub const BACKOFF: Duration = Duration::from_secs(1);

    /// A new guest after a backoff.
    ///
    /// # Errors
    ///
    /// A backoff with which Envoy 1.40 crashes.
    pub fn reload(backoff: Duration) -> Result<Self, String> {
        const LEAST: Duration = Duration::from_millis(2);
        if backoff < LEAST {
            return Err(format!(
                "{backoff:?} is below the least backoff, {LEAST:?}: with less Envoy 1.40 divides by zero"
            ));
        }
        Ok(Self::Reload { backoff })
    }
}

/// Where the module of a filter comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilterSource {
    /// A filter of ours, by name.
    BuiltIn(String),
    /// A file.
    File(PathBuf),
    /// An image in a registry, `oci://` and its name. Hosts pull nothing: its module is in
    /// [`Self::file`] once somebody else has.
    Image(String),
}

impl FilterSource {
    /// Reads what stands behind `filter:`: what begins with `oci://` is an image, and with a slash or the
    /// ending `.wasm` it is a path.
    ///
    /// # Errors
    ///
    /// [`InvalidFilterSource`] when it is empty, or none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidFilterSource> {
        let path = Path::new(text);
        if text.is_empty() {
            Err(InvalidFilterSource::Empty)
        } else if text.starts_with("oci://") {
            Ok(Self::Image(text.to_owned()))
        } else if text.contains('/') || path.extension().is_some_and(|ending| ending == "wasm") {
            Ok(Self::File(path.to_owned()))
        } else if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            Ok(Self::BuiltIn(text.to_owned()))
        } else {
            Err(InvalidFilterSource::Neither { text: text.to_owned() })
        }
    }

    /// The same, with a file relative to `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::File(file) => Self::File(folder.join(file)),
            Self::BuiltIn(_) | Self::Image(_) => self,
        }
    }

    /// The module's file; those of built-in filters are in `built_ins`, and those of images in a folder
    /// for temporary files.
    pub fn file(&self, built_ins: &Path) -> PathBuf {
        match self {
            Self::BuiltIn(name) => built_ins.join(format!("{name}.wasm")),
            Self::File(path) => path.clone(),
            Self::Image(image) => stored_modules().join(format!("{}.wasm", without_scheme(image))),
        }
    }

    /// What a plugin of it is called that has no name of its own.
    pub(super) fn plugin_name(&self) -> String {
        match self {
            Self::BuiltIn(name) => name.clone(),
            Self::File(file) => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Image(image) => {
                let name = image.rsplit('/').next().unwrap_or_default();
                name.split([':', '@']).next().unwrap_or_default().to_owned()
            }
        }
    }
}

/// The name of an image as registries have it.
fn without_scheme(image: &str) -> &str {
    image.strip_prefix("oci://").unwrap_or(image)
}

/// The folder of modules that come from elsewhere than a file.
pub(crate) fn stored_modules() -> PathBuf {
    std::env::temp_dir().join("tollgate-modules")
}

/// As [`FilterSource::parse`] reads it.
impl fmt::Display for FilterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(name) => f.write_str(name),
            Self::Image(image) => f.write_str(image),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A text that names no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidFilterSource {
    /// It is empty.
    Empty,
    /// It is neither a name nor a path to a module.
    Neither {
        /// The text.
        text: String,
    },
}

impl fmt::Display for InvalidFilterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("filter: empty; name a built-in filter or a file"),
            Self::Neither { text } => write!(
                f,
                "filter: `{text}` is neither a name nor a file; end a file in .wasm, or write ./{text}"
            ),
        }
    }
}

impl std::error::Error for InvalidFilterSource {}

/// The bytes that a filter gets for a configuration that was written in YAML: JSON. Text goes as it is, so
/// that one can say what is not JSON at all, and nothing is no bytes.
pub fn configuration(value: serde_json::Value) -> Vec<u8> {
    match value {
        serde_json::Value::Null => Vec::new(),
        serde_json::Value::String(text) => text.into_bytes(),
        value => value.to_string().into_bytes(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFilter {
    filter: String,
    name: Option<String>,
    #[serde(default)]
    root_id: String,
    #[serde(default)]
    vm_id: String,
    #[serde(default)]
    vm_config: Option<serde_json::Value>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    config: Option<serde_json::Value>,
    #[serde(default)]
    allow_on_headers_stop_iteration: bool,
    allowed_capabilities: Option<BTreeSet<String>>,
    #[serde(default)]
    failure_policy: RawPolicy,
    reload_backoff: Option<Span>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPolicy {
    #[default]
    Closed,
    Open,
    Reload,
}

impl RawFilter {
    pub(super) fn check(self, folder: &Path) -> Result<FilterUse, String> {
        let source = FilterSource::parse(&self.filter).map_err(|error| error.to_string())?;
        let source = source.within(folder);
        let config = configuration(self.config.unwrap_or_default());
        let name = self.name.unwrap_or_else(|| source.plugin_name());
        let vm_config = configuration(self.vm_config.unwrap_or_default());
        let (root_id, vm_id) = (self.root_id, self.vm_id);
        let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        if let Some((name, _)) =
            self.environment.iter().find(|(name, value)| !is_name(name) || value.contains('\0'))
        {
            return Err(format!(
                "environment: `{}` cannot be the name of a variable, or its value holds a NUL",
                name.escape_debug()
            ));
        }
        let allowed_capabilities = self.allowed_capabilities.map(check_capabilities).transpose()?;
        let failure_policy = match (self.failure_policy, self.reload_backoff) {
            (RawPolicy::Closed, None) => FailurePolicy::Closed,
            (RawPolicy::Open, None) => FailurePolicy::Open,
            (RawPolicy::Reload, backoff) => {
                let backoff = backoff.map_or(FailurePolicy::BACKOFF, |Span(backoff)| backoff);
                FailurePolicy::reload(backoff).map_err(|what| format!("reload_backoff: {what}"))?
            }
            (RawPolicy::Closed | RawPolicy::Open, Some(_)) => {
                return Err("reload_backoff belongs to `failure_policy: reload`".into());
            }
        };
        Ok(FilterUse {
            source,
            name,
            root_id,
            vm_id,
            vm_config,
            environment: self.environment,
            config,
            allow_on_headers_stop_iteration: self.allow_on_headers_stop_iteration,
            allowed_capabilities: allowed_capabilities.unwrap_or_default(),
            failure_policy,
        })
    }
}

/// Refuses names that restrict nothing.
fn check_capabilities(names: BTreeSet<String>) -> Result<BTreeSet<String>, String> {
    if names.is_empty() {
        return Err(
            "allowed_capabilities: none, which allows all; name some, or leave it out".into()
        );
    }
    match names.iter().find(|name| !is_capability(name)) {
        None => Ok(names),
        Some(name) => Err(format!(
            "allowed_capabilities: `{}` is no host function and no callback; write one in full, as in proxy_log",
            name.escape_debug()
        )),
    }
}

/// Whether Envoy asks by this name whether a filter may.
fn is_capability(name: &str) -> bool {
    let is_function = ["env", "wasi_snapshot_preview1"].into_iter().any(|module| {
        Function::from_import(module, name).is_some() || Stub::from_import(module, name).is_some()
    });
    let export = || Export::of(name, AbiVersion::V0_2_1, |_| false);
    is_function || matches!(export(), Some(Export::Callback(_) | Export::Idle(..)))
}
