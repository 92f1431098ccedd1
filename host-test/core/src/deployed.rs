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
use crate::scenario::{FailurePolicy, FilterSource, FilterUse, Traffic, stored_modules};
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
    /// Environment variables of its VM.
    pub environment: BTreeMap<String, String>,
    /// What it stands in front of.
    pub traffic: Traffic,
    /// What its VM may call and gets called for, by name; all when there are none.
    pub allowed_capabilities: BTreeSet<String>,
    /// What becomes of streams once its guest has trapped.
    pub failure_policy: FailurePolicy,
    /// Where its module is.
    pub module: ModuleAt,
    /// Whether it stands in its chain without being run, unless a route enables it.
    pub disabled: bool,
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

/// Filters that a proxy runs together, in their order, all in front of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What tells it from the other chains of its file: the context that patches of Istio are for, the
    /// listener of Envoy, else the line on which it begins.
    pub name: String,
    /// Its filters in Wasm.
    pub filters: Vec<Deployed>,
}

/// Which filters of a file are meant, and with which modules.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// The name of the chain; not needed where all are alike.
    pub chain: Option<String>,
    /// What its filters stand in front of.
    pub traffic: Traffic,
    /// The name of the only filter; all of the chain when not said.
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
        let chains = parse(&text, pick.traffic).map_err(DeployedError::Invalid)?;
        pick.take(chains, file.parent().unwrap_or(Path::new("")))
    }
}

/// Reads every chain with filters in Wasm that a text deploys in front of HTTP or TCP.
///
/// # Errors
///
/// [`Invalid`] with line and column.
pub fn parse(text: &str, traffic: Traffic) -> Result<Vec<Chain>, Invalid> {
    let documents = tree::parse(text)?;
    let mut extensions = Vec::new();
    for document in &documents {
        envoy::extensions(document, &mut extensions);
    }
    let (mut patches, mut plugins, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for document in &documents {
        match document.text_of("kind").unwrap_or_default() {
            "EnvoyFilter" => patches.push(document),
            "WasmPlugin" | "TrafficExtension" => plugins.extend(istio::plugin(document)?),
            _ => lists.extend(envoy::lists(document)?),
        }
    }
    lists.splice(..0, istio::lists(&patches)?);
    lists.retain(|list| list.traffic == traffic);
    plugins.retain(|ranked| ranked.plugin.traffic == traffic);
    plugins.sort_by_key(|ranked| ranked.rank);
    let plugins: Vec<Deployed> = plugins.into_iter().map(|ranked| ranked.plugin).collect();
    if lists.is_empty() && !plugins.is_empty() {
        lists.push(List { name: String::new(), traffic, filters: Vec::new() });
    }
    let mut chains: Vec<Chain> = Vec::new();
    for List { name, filters, .. } in lists {
        // What patches insert before the router comes after what Istio has placed itself.
        let mut all = plugins.clone();
        for filter in filters {
            all.push(deployed(filter, &extensions)?);
        }
        let is_taken = name.is_empty() || chains.iter().any(|chain| chain.name == name);
        let line = all.first().map_or(1, |first| first.line);
        let name = if is_taken { format!("line {line}") } else { name };
        chains.push(Chain { name, filters: all });
    }
    Ok(chains)
}

/// Filters in Wasm of a chain, as they are written.
struct List<'a> {
    /// The name of the chain, if there is one.
    name: String,
    traffic: Traffic,
    filters: Vec<&'a Node>,
}

fn deployed(node: &Node, extensions: &[(&str, &Node)]) -> Result<Deployed, Invalid> {
    let mut filter = match envoy::entry(node)? {
        Entry::Wasm { name, traffic, wasm } => envoy::wasm(name, traffic, wasm)?,
        Entry::Discovered { name, traffic, at } => {
            let found = extensions.iter().find(|(extension, _)| *extension == name);
            let (_, wasm) = found.ok_or_else(|| {
                at.invalid(format!("the extension `{name}` is discovered, and is not in this file"))
            })?;
            envoy::wasm(name, traffic, wasm)?
        }
        Entry::Other => return Err(node.invalid("not a filter in Wasm")),
    };
    filter.disabled = node.find("disabled").map_or(Ok(false), Node::flag)?;
    Ok(filter)
}

impl Pick {
    /// Modules in files are relative to `folder`.
    fn take(&self, chains: Vec<Chain>, folder: &Path) -> Result<Picked, DeployedError> {
        let chain = self.choose(chains)?;
        let mut picked = Picked { filters: Vec::new(), left: Vec::new() };
        let mut disabled = Vec::new();
        for filter in chain {
            let name = filter.called().to_owned();
            if filter.disabled && self.plugin.is_none() {
                picked.left.push(format!("{name}: disabled: true, so it is not in the chain"));
                disabled.push(name);
                continue;
            }
            let named = self.modules.iter().find(|(name, _)| filter.is_named(name));
            let source = match (named, &filter.module) {
                (Some((_, source)), _) => source.clone(),
                (None, ModuleAt::File(file)) => FilterSource::File(folder.join(file)),
                (None, ModuleAt::Inline(bytes)) => {
                    FilterSource::File(stored(bytes).map_err(DeployedError::Io)?)
                }
                (None, ModuleAt::Remote(uri)) => {
                    let (line, uri) = (filter.line, uri.clone());
                    return Err(DeployedError::Elsewhere { name, line, uri });
                }
            };
            picked.left.extend(filter.left.iter().map(|left| format!("{name}: {left}")));
            picked.filters.push(FilterUse {
                source,
                name,
                root_id: filter.root_id,
                vm_id: filter.vm_id,
                vm_config: filter.vm_config,
                environment: filter.environment,
                config: filter.config,
                allow_on_headers_stop_iteration: filter.allow_on_headers_stop_iteration,
                allowed_capabilities: filter.allowed_capabilities,
                failure_policy: filter.failure_policy,
            });
        }
        if picked.filters.is_empty() {
            return Err(DeployedError::Disabled { names: disabled });
        }
        Ok(picked)
    }

    /// The filters that are meant, of the chain that is meant. Chains that are alike are one.
    fn choose(&self, mut chains: Vec<Chain>) -> Result<Vec<Deployed>, DeployedError> {
        if chains.is_empty() {
            return Err(DeployedError::None { wanted: self.traffic });
        }
        if let Some(name) = &self.chain {
            let names = chains.iter().map(|chain| chain.name.clone()).collect();
            chains.retain(|chain| chain.name == *name);
            if chains.is_empty() {
                return Err(DeployedError::UnknownChain { name: name.clone(), names });
            }
        }
        let filters = || chains.iter().flat_map(|chain| &chain.filters);
        for name in self.plugin.iter().chain(self.modules.keys()) {
            if !filters().any(|filter| filter.is_named(name)) {
                let mut names: Vec<String> = Vec::new();
                for filter in filters().map(Deployed::called) {
                    if !names.iter().any(|name| name == filter) {
                        names.push(filter.to_owned());
                    }
                }
                return Err(DeployedError::Unknown { name: name.clone(), names });
            }
        }
        let mut meant: Vec<Chain> = Vec::new();
        for mut chain in chains {
            if let Some(name) = &self.plugin {
                chain.filters.retain(|filter| filter.is_named(name));
            }
            if !chain.filters.is_empty() && !meant.iter().any(|other| other.is_like(&chain)) {
                meant.push(chain);
            }
        }
        if meant.len() > 1 {
            let names = meant.into_iter().map(|chain| chain.name).collect();
            return Err(DeployedError::Several { names });
        }
        Ok(meant.pop().map_or_else(Vec::new, |chain| chain.filters))
    }
}

/// Puts a module into a file, where every host finds it: named after its content, so that the same one is
/// written once.
fn stored(bytes: &[u8]) -> io::Result<PathBuf> {
    let file = stored_modules().join(format!("{:016x}.wasm", CodeId::of(bytes).number()));
    store(&file, bytes)?;
    Ok(file)
}

/// Puts a module into a file, unless it is there. Another process may be reading: what it finds is whole.
///
/// # Errors
///
/// When the file cannot be written.
pub fn store(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if std::fs::read(file).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = file.with_extension(format!("{}", std::process::id()));
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, file)
}

impl Deployed {
    /// What it is called: its plugin if that has a name.
    fn called(&self) -> &str {
        if self.plugin.is_empty() { &self.name } else { &self.plugin }
    }

    fn is_named(&self, name: &str) -> bool {
        [&self.name, &self.plugin, &self.root_id].into_iter().any(|own| own == name)
    }
}

impl Chain {
    /// Whether a proxy would run the same filters, wherever they are written.
    fn is_like(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&Deployed, &Deployed)| {
            *one == Deployed { line: one.line, ..other.clone() }
        };
        self.filters.len() == other.filters.len()
            && self.filters.iter().zip(&other.filters).all(is_same)
    }
}

/// Why filters could not be taken from a file.
#[derive(Debug)]
pub enum DeployedError {
    /// The file cannot be read.
    Io(io::Error),
    /// It is not as it should be.
    Invalid(Invalid),
    /// It deploys no filter in Wasm, or none for what it has to stand in front of.
    None {
        /// What it has to stand in front of.
        wanted: Traffic,
    },
    /// All filters in Wasm are disabled.
    Disabled {
        /// Their names.
        names: Vec<String>,
    },
    /// It deploys several chains that are not alike.
    Several {
        /// Their names.
        names: Vec<String>,
    },
    /// It has no chain of that name.
    UnknownChain {
        /// The name.
        name: String,
        /// The names that there are.
        names: Vec<String>,
    },
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
            Self::None { wanted: Traffic::Http } => f.write_str(
                "no filter in Wasm for HTTP is deployed here; `protocol: tcp` takes those for TCP",
            ),
            Self::None { wanted: Traffic::Tcp } => f.write_str(
                "no filter in Wasm for TCP is deployed here; `protocol: http` takes those for HTTP",
            ),
            Self::Disabled { names } => write!(
                f,
                "every filter in Wasm is disabled here: {}; name one as `plugin` to play it",
                names.join(", ")
            ),
            Self::Several { names } => write!(
                f,
                "{} chains are deployed, which are not alike: {}; name one as `chain`",
                names.len(),
                names.join(", ")
            ),
            Self::UnknownChain { name, names } => {
                write!(f, "no chain `{name}`; there are {}", names.join(", "))
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
