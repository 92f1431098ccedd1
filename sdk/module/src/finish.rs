//! Finishing a module after linking: what goes, what stays, and the record of what is left. The cutting
//! itself is elsewhere.

use core::fmt;
use std::collections::BTreeSet;

use tollgate_abi::{AbiVersion, CallbackKind};

use crate::cut::cut;
use crate::envoy;
use crate::invalid::InvalidModule;
use crate::metadata::{InvalidMetadata, Metadata, StatsTag};
use crate::module::{Extern, Module};
use crate::printable::{Printable, list};
use crate::sections::{self, Custom, Parts};

/// What to record of a module beyond what can be read from it.
///
/// `None` leaves a field to what the module says of itself: the SDK's sections `tollgate.name` and
/// `tollgate.version`, else what it was finished with before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// What the filter is called.
    pub name: Option<String>,
    /// Which version of the filter it is.
    pub version: Option<String>,
    /// The labels of its metrics.
    pub stats_tags: Option<Vec<StatsTag>>,
    /// The JSON schema of its configuration.
    pub schema: Option<serde_json::Value>,
}

/// The SDK's list of the callbacks that the filter implements: names, each ended by a line feed.
const CALLBACKS: &str = "tollgate.callbacks";
const NAME: &str = "tollgate.name";
const VERSION: &str = "tollgate.version";
/// The SDK's list of what the plugin has to be configured with, one a line.
const NEEDS: &str = "tollgate.needs";

/// The callback that every filter needs, listed or not: without it there is no configuration that it does
/// not take.
const ALWAYS: CallbackKind = CallbackKind::Configure;

/// More locals than this no compiler makes; walrus needs some fifty bytes for each.
const MAX_LOCALS: u64 = 1 << 20;

/// Finishes a module after linking.
///
/// - Exports of callbacks that the filter does not implement are removed. A module that does not list
///   its callbacks (another SDK built it) keeps them all.
/// - Code and imports that nothing needs any more are removed, virtual methods that cannot be called
///   among them.
/// - Names, debug information, `producers`, precompiled code and whatever else goes stale with the
///   code are removed; other custom sections stay, among them `target_features`.
/// - [`Metadata`] is recorded in the custom section `tollgate`, the last of the module.
///
/// The same input gives the same bytes, and a finished module comes out as it went in.
///
/// # Errors
///
/// [`FinishError`]; [`FinishError::Invalid`] when the bytes are not a module at all.
pub fn finish(bytes: &[u8], description: &Description) -> Result<Vec<u8>, FinishError> {
    let module = Module::read(bytes)?;
    let abi = single_abi(&module)?;
    let parts = sections::split(bytes).map_err(InvalidModule::from)?;
    let earlier = module.metadata()?;
    let unused = unused_callbacks(&module, &parts)?;

    let locals = sections::locals(&parts.core).map_err(InvalidModule::from)?;
    if locals > MAX_LOCALS {
        let bound = MAX_LOCALS;
        return Err(FinishError::TooManyLocals { locals, bound });
    }
    let cut = cut(&parts.core, &unused);
    let mut finished = cut.map_err(|reason| FinishError::Unsupported { reason })?;
    for &custom in &parts.customs {
        if outlives_cutting(custom.name) {
            sections::append(&mut finished, custom);
        }
    }
    let remaining = Module::read(&finished)
        .map_err(|invalid| FinishError::Bug { reason: invalid.to_string() })?;

    let (name, version, needs, stats_tags, schema) = match earlier {
        Some(Metadata { name, version, needs, stats_tags, schema, .. }) => {
            (Some(name), Some(version), needs, stats_tags, schema)
        }
        None => (None, None, BTreeSet::new(), Vec::new(), None),
    };
    let metadata = Metadata {
        name: match &description.name {
            Some(given) => given.clone(),
            None => label(&parts, NAME)?.or(name).ok_or(FinishError::Unnamed { section: NAME })?,
        },
        version: match &description.version {
            Some(given) => given.clone(),
            None => label(&parts, VERSION)?
                .or(version)
                .ok_or(FinishError::Unnamed { section: VERSION })?,
        },
        abi,
        callbacks: callbacks(&remaining),
        host_functions: host_functions(&remaining),
        needs: match text(&parts, NEEDS)? {
            Some(listed) => listed.lines().map(str::to_owned).collect(),
            None => needs,
        },
        stats_tags: description.stats_tags.clone().unwrap_or(stats_tags),
        // JSON cannot tell a schema that is null from none.
        schema: description.schema.clone().or(schema).filter(|schema| !schema.is_null()),
    };
    let json = serde_json::to_vec(&metadata)
        .map_err(|error| FinishError::Bug { reason: error.to_string() })?;
    // What is written has to be readable: the description may hold a name of two lines.
    Metadata::parse(&json)?;
    let (name, data) = (Metadata::SECTION, json.as_slice());
    sections::append(&mut finished, Custom { name, data });
    Ok(finished)
}

/// Why a module was not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishError {
    /// The bytes are not a module.
    Invalid(InvalidModule),
    /// It declares no version of the ABI, or several.
    Abi {
        /// The versions, in the order of the exports.
        versions: Vec<AbiVersion>,
    },
    /// It was finished before and what it says of itself cannot be read, or the description cannot
    /// be recorded.
    Metadata(InvalidMetadata),
    /// A section of the SDK's is not UTF-8.
    NotText {
        /// Its name.
        section: &'static str,
    },
    /// The last line of a section of the SDK's is not ended by a line feed.
    Unterminated {
        /// Its name.
        section: &'static str,
    },
    /// The filter lists callbacks that the module does not export.
    MissingCallbacks {
        /// Their names.
        names: Vec<String>,
    },
    /// A section of the SDK's holds several values: several filters were linked into the module.
    Ambiguous {
        /// Its name.
        section: &'static str,
        /// What it holds.
        values: Vec<String>,
    },
    /// Neither the module nor the description has a name or a version.
    Unnamed {
        /// The section of the SDK's that is missing.
        section: &'static str,
    },
    /// Its functions declare absurdly many locals.
    TooManyLocals {
        /// How many.
        locals: u64,
        /// How many are allowed.
        bound: u64,
    },
    /// It is valid, but uses something that cannot be cut.
    Unsupported {
        /// What.
        reason: String,
    },
    /// The finished module is broken.
    Bug {
        /// How.
        reason: String,
    },
}

impl From<InvalidModule> for FinishError {
    fn from(invalid: InvalidModule) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<InvalidMetadata> for FinishError {
    fn from(invalid: InvalidMetadata) -> Self {
        Self::Metadata(invalid)
    }
}

impl fmt::Display for FinishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Abi { versions } if versions.is_empty() => f.write_str(
                "no export declares an abi version; build the filter with a Proxy-Wasm SDK",
            ),
            Self::Abi { versions } => write!(
                f,
                "exports declare abi versions {}; link one SDK only",
                list(versions, "and")
            ),
            Self::Metadata(invalid) => invalid.fmt(f),
            Self::NotText { section } => {
                write!(f, "section `{section}` is not UTF-8; use one version of the SDK only")
            }
            Self::Unterminated { section } => write!(
                f,
                "section `{section}` does not end with a line feed; use one version of the SDK only"
            ),
            Self::MissingCallbacks { names } => write!(
                f,
                "callbacks {} are listed but not exported; export or do not list them",
                list(names.iter().map(|name| Printable(name)), "and")
            ),
            Self::Ambiguous { section, values } => write!(
                f,
                "section `{section}` holds {}; say which one is meant",
                list(values.iter().map(|value| Printable(value)), "and")
            ),
            Self::Unnamed { section } => write!(
                f,
                "module has no section `{section}` to take its {} from; give one",
                section.trim_start_matches("tollgate.")
            ),
            Self::TooManyLocals { locals, bound } => {
                write!(f, "functions declare {locals} locals, above {bound}; split the functions")
            }
            Self::Unsupported { reason } => write!(
                f,
                "module cannot be cut: {}; build without the WebAssembly feature that it names",
                Printable(reason)
            ),
            Self::Bug { reason } => write!(
                f,
                "finished module is broken, which is our fault: {}; report it with the module",
                Printable(reason)
            ),
        }
    }
}

impl core::error::Error for FinishError {}

fn single_abi(module: &Module) -> Result<AbiVersion, FinishError> {
    let versions: Vec<AbiVersion> = module.abi_markers().collect();
    match versions.as_slice() {
        [abi] => Ok(*abi),
        _ => Err(FinishError::Abi { versions }),
    }
}

/// The exported callbacks that the filter does not implement.
fn unused_callbacks(module: &Module, parts: &Parts<'_>) -> Result<BTreeSet<String>, FinishError> {
    let Some(listed) = text(parts, CALLBACKS)? else {
        return Ok(BTreeSet::new());
    };
    if !(listed.is_empty() || listed.ends_with('\n')) {
        return Err(FinishError::Unterminated { section: CALLBACKS });
    }
    let listed: BTreeSet<&str> = listed.lines().collect();
    let exported: BTreeSet<&str> = module.function_exports().map(|(name, _)| name).collect();
    let missing = listed.difference(&exported);
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Err(FinishError::MissingCallbacks { names: missing });
    }
    let mut unused = callbacks(module);
    unused.retain(|name| !listed.contains(name.as_str()) && name != ALWAYS.name());
    Ok(unused)
}

/// Whether a custom section stays true when the code changes, and is worth its bytes.
fn outlives_cutting(section: &str) -> bool {
    const STALE: [&str; 9] = [
        "name",
        "producers",
        "linking",
        "sourceMappingURL",
        "external_debug_info",
        CALLBACKS,
        NAME,
        VERSION,
        NEEDS,
    ];
    const STALE_PREFIXES: [&str; 4] = [".debug", "reloc.", "metadata.code.", "precompiled_"];
    section != Metadata::SECTION
        && !STALE.contains(&section)
        && !STALE_PREFIXES.iter().any(|prefix| section.starts_with(prefix))
}

/// The one value that a section of the SDK's holds, if it is there.
fn label(parts: &Parts<'_>, section: &'static str) -> Result<Option<String>, FinishError> {
    let text = text(parts, section)?.unwrap_or_default();
    let values: BTreeSet<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    if values.len() > 1 {
        let values = values.into_iter().map(str::to_owned).collect();
        return Err(FinishError::Ambiguous { section, values });
    }
    Ok(values.first().map(|&value| value.to_owned()))
}

/// What all sections of a name hold, as text.
fn text(parts: &Parts<'_>, section: &'static str) -> Result<Option<String>, FinishError> {
    let mut found = parts.customs.iter().filter(|custom| custom.name == section);
    let Some(first) = found.next() else {
        return Ok(None);
    };
    let mut bytes = first.data.to_vec();
    found.for_each(|custom| bytes.extend_from_slice(custom.data));
    let text = String::from_utf8(bytes).map_err(|_| FinishError::NotText { section })?;
    Ok(Some(text))
}

/// The callbacks that a module exports, known to the table or not.
fn callbacks(module: &Module) -> BTreeSet<String> {
    let names = module.function_exports().map(|(name, _)| name);
    let names = names.filter(|name| envoy::is_callback(name));
    names.map(str::to_owned).collect()
}

fn host_functions(module: &Module) -> BTreeSet<String> {
    let imports = module.imports().iter();
    let functions = imports.filter(|import| matches!(import.kind, Extern::Function(_)));
    functions.map(|import| import.name.clone()).collect()
}
