//! Filters as they are deployed: what a file for Envoy or Istio says of them.
//!
//! Read are the parts that a filter sees; the rest of a resource is passed over. What a filter would see
//! and the host does not play is told. Not here: fetching modules that are elsewhere.

mod envoy;
mod istio;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tollgate_tree::{self as tree, Node};

use crate::engine::CodeId;
use crate::scenario::{FailurePolicy, FilterSource, FilterUse};
use envoy::Entry;

pub use tollgate_tree::Invalid;

/// A filter as it is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Its name in the chain.
    pub name: String,
    /// The name of its plugin; may be empty.
    pub plugin: String,
    /// Root id of the plugin.
    pub root_id: String,
    /// Id of the VM.
    pub vm_id: String,
    /// Bytes that the VM gets as its configuration.
    pub vm_config: Vec<u8>,
    /// Bytes that the plugin gets as its configuration.
    pub config: Vec<u8>,
    /// Whether headers that it holds are held alone.
    pub allow_on_headers_stop_iteration: bool,
    /// What its VM may call and gets called for, by name; all when there are none.
    pub allowed_capabilities: BTreeSet<String>,
    /// What becomes of streams once its guest has trapped.
    pub failure_policy: FailurePolicy,
    /// Where its module is.
    pub module: ModuleAt,
    /// What is configured and not played.
    pub left: Vec<String>,
    /// The line of the file on which it stands.
    pub line: u64,
}

/// Where the module of a filter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleAt {
    /// In a file, as the proxy sees it.
    File(PathBuf),
    /// In the resource itself.
    Inline(Vec<u8>),
    /// Elsewhere: a URI.
    Remote(String),
}

/// Which filters of a file are meant, and with which modules.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// The name of the only one; all of the chain when not said.
    pub plugin: Option<String>,
    /// Modules by the name of their filter, in place of those that the file names.
    pub modules: BTreeMap<String, FilterSource>,
}

/// Filters of a file, in the order of their chain, ready to be played.
#[derive(Clone, Debug)]
pub struct Picked {
    /// The filters.
    pub filters: Vec<FilterUse>,
    /// What is configured and not played, a line each.
    pub left: Vec<String>,
}

impl Picked {
    /// Reads a file and picks filters of it.
    ///
    /// # Errors
    ///
    /// [`DeployedError`] when it cannot be read, has no such filter, or a module is elsewhere.
    pub fn read(file: &Path, pick: &Pick) -> Result<Self, DeployedError> {
        let text = std::fs::read_to_string(file).map_err(DeployedError::Io)?;
        let chain = parse(&text).map_err(DeployedError::Invalid)?;
        pick.take(chain, file.parent().unwrap_or(Path::new("")))
    }
}

/// Reads every filter in Wasm that a text deploys, in the order of the chain.
///
/// # Errors
///
/// [`Invalid`] with line and column.
pub fn parse(text: &str) -> Result<Vec<Deployed>, Invalid> {
    let documents = tree::parse(text)?;
    let mut extensions = Vec::new();
    for document in &documents {
        envoy::extensions(document, &mut extensions);
    }
    let mut chain = Vec::new();
    let mut plugins = Vec::new();
    let mut last: Option<&Node> = None;
    for document in &documents {
        match document.text_of("kind").unwrap_or_default() {
            "EnvoyFilter" => istio::envoy_filter(document, &mut chain)?,
            "WasmPlugin" | "TrafficExtension" => plugins.extend(istio::plugin(document)?),
            _ => {
                for filters in envoy::chains(document)? {
                    let mut wasm = Vec::new();
                    for filter in filters {
                        if !matches!(envoy::entry(filter)?, Entry::Other) {
                            wasm.push(filter);
                        }
                    }
                    if let (Some(first), Some(_)) = (wasm.first(), last) {
                        return Err(first.invalid(
                            "this is a second chain with filters in Wasm; keep one chain to a file",
                        ));
                    }
                    last = wasm.first().copied().or(last);
                    chain.extend(wasm);
                }
            }
        }
    }
    plugins.sort_by_key(|ranked| ranked.rank);
    let plugins = plugins.into_iter().map(|ranked| Ok(ranked.plugin));
    // What patches insert before the router comes after what Istio has placed itself.
    let filters = chain.into_iter().map(|node| deployed(node, &extensions));
    plugins.chain(filters).collect()
}

fn deployed(node: &Node, extensions: &[(&str, &Node)]) -> Result<Deployed, Invalid> {
    match envoy::entry(node)? {
        Entry::Wasm { name, wasm } => envoy::wasm(name, wasm),
        Entry::Discovered { name, at } => {
            let found = extensions.iter().find(|(extension, _)| *extension == name);
            let (_, wasm) = found.ok_or_else(|| {
                at.invalid(format!("the extension `{name}` is discovered, and is not in this file"))
            })?;
            envoy::wasm(name, wasm)
        }
        Entry::Network { name } => {
            Err(node.invalid(format!("`{name}` is a filter for TCP, which is not played")))
        }
        Entry::Other => Err(node.invalid("not a filter in Wasm")),
    }
}

impl Pick {
    /// Modules in files are relative to `folder`.
    fn take(&self, chain: Vec<Deployed>, folder: &Path) -> Result<Picked, DeployedError> {
        let names: Vec<String> = chain.iter().map(|filter| filter.called().to_owned()).collect();
        let is_named = |filter: &Deployed, name: &str| {
            [&filter.name, &filter.plugin, &filter.root_id].into_iter().any(|own| own == name)
        };
        for name in self.plugin.iter().chain(self.modules.keys()) {
            if !chain.iter().any(|filter| is_named(filter, name)) {
                return Err(DeployedError::Unknown { name: name.clone(), names });
            }
        }
        let mut picked = Picked { filters: Vec::new(), left: Vec::new() };
        for filter in chain {
            if self.plugin.as_ref().is_some_and(|name| !is_named(&filter, name)) {
                continue;
            }
            let named = self.modules.iter().find(|(name, _)| is_named(&filter, name));
            let source = match (named, &filter.module) {
                (Some((_, source)), _) => source.clone(),
                (None, ModuleAt::File(file)) => FilterSource::File(folder.join(file)),
                (None, ModuleAt::Inline(bytes)) => {
                    FilterSource::File(stored(bytes).map_err(DeployedError::Io)?)
                }
                (None, ModuleAt::Remote(uri)) => {
                    let (name, line) = (filter.called().to_owned(), filter.line);
                    return Err(DeployedError::Elsewhere { name, line, uri: uri.clone() });
                }
            };
            let name = filter.called().to_owned();
            picked.left.extend(filter.left.iter().map(|left| format!("{name}: {left}")));
            picked.filters.push(FilterUse {
                source,
                name,
                root_id: filter.root_id,
                vm_id: filter.vm_id,
                vm_config: filter.vm_config,
                // What is configured of it is told to be left.
                environment: BTreeMap::new(),
                config: filter.config,
                allow_on_headers_stop_iteration: filter.allow_on_headers_stop_iteration,
                allowed_capabilities: filter.allowed_capabilities,
                failure_policy: filter.failure_policy,
            });
        }
        if picked.filters.is_empty() { Err(DeployedError::None) } else { Ok(picked) }
    }
}

/// Puts a module into a file, where every host finds it: named after its content, so that the same one is
/// written once.
fn stored(bytes: &[u8]) -> io::Result<PathBuf> {
    let folder = std::env::temp_dir().join("tollgate-modules");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{:016x}.wasm", CodeId::of(bytes).number()));
    if std::fs::read(&file).is_ok_and(|there| there == bytes) {
        return Ok(file);
    }
    // Another process may be reading: what it finds is whole.
    let new = file.with_extension(format!("{}", std::process::id()));
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, &file)?;
    Ok(file)
}

impl Deployed {
    /// What it is called: its plugin if that has a name.
    fn called(&self) -> &str {
        if self.plugin.is_empty() { &self.name } else { &self.plugin }
    }
}

/// Why filters could not be taken from a file.
#[derive(Debug)]
pub enum DeployedError {
    /// The file cannot be read.
    Io(io::Error),
    /// It is not as it should be.
    Invalid(Invalid),
    /// It deploys no filter in Wasm.
    None,
    /// It has no filter of that name.
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// A module is elsewhere.
    Elsewhere {
        /// The name of its filter.
        name: String,
        /// The line on which the filter stands.
        line: u64,
        /// Where it is.
        uri: String,
    },
}

impl fmt::Display for DeployedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Invalid(error) => write!(f, "{error}"),
            Self::None => f.write_str("no HTTP filter in Wasm is deployed here"),
            Self::Unknown { name, names } if names.is_empty() => {
                write!(f, "no filter `{name}`: none in Wasm is deployed here")
            }
            Self::Unknown { name, names } => {
                write!(f, "no filter `{name}`; there are {}", names.join(", "))
            }
            Self::Elsewhere { name, line, uri } => write!(
                f,
                "line {line}: the module of `{name}` is {uri}, which is not fetched; \
                 name a file in its place: {name}=FILE.wasm"
            ),
        }
    }
}

impl std::error::Error for DeployedError {}

#[cfg(test)]
mod tests;
