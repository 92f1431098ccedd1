//! Why a host would not load a module. The judge is Envoy; whether to warn or to refuse is not decided here.

use core::fmt;

use tollgate_abi::{AbiVersion, Export, Function, Served, has_marker_prefix};

use crate::envoy;
use crate::module::{Extern, Import, Module};
use crate::printable::{Printable, list};
use crate::signature::Signature;

/// Something about a module that a host trips over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No export declares a version of the ABI: this is no filter.
    NoAbiMarker,
    /// An export declares a version that does not exist, and no export one that does.
    UnknownAbiMarker {
        /// The name of the export.
        name: String,
    },
    /// Several exports declare a version.
    SeveralAbiMarkers {
        /// The versions, in the order of the exports.
        versions: Vec<AbiVersion>,
    },
    /// No memory is exported.
    NoMemory,
    /// A memory starts larger than the host lets it.
    MemoryTooLarge {
        /// What it starts with, in pages of 64 KiB.
        min_pages: u64,
        /// What it may start with.
        bound: u64,
    },
    /// The exported memory has 64-bit addresses, for which the ABI has no words.
    WideMemory,
    /// The host cannot ask for memory.
    NoAllocator,
    /// Code runs before the host is ready to be called.
    StartSection,
    /// No host has the import.
    UnknownImport {
        /// The import.
        import: Import,
    },
    /// The import is no function of the ABI: Envoy has at best a stub for it, others have nothing.
    UnlistedImport {
        /// The import.
        import: Import,
    },
    /// An import has another signature than the host's function.
    ImportSignature {
        /// The import.
        import: Import,
        /// The signature of the host's function.
        expected: Signature,
    },
    /// An import belongs to another version of the ABI.
    ImportOfOtherAbi {
        /// The imported function.
        function: Function,
        /// The version that the module declares.
        abi: AbiVersion,
    },
    /// An export that the host calls has another signature than the host wants.
    ExportSignature {
        /// The name of the export.
        name: String,
        /// Its signature.
        found: Signature,
        /// The signature that the host wants.
        expected: Signature,
    },
    /// The names of the functions, kept for backtraces, cannot be read.
    BrokenNames,
}

impl Problem {
    /// Whether Envoy 1.40 refuses to load the module, or dies of the attempt. The other problems show
    /// later, or on other hosts.
    pub fn keeps_envoy_from_loading(&self) -> bool {
        self.refusal().is_some()
    }

    /// What Envoy 1.40 says when it refuses to load the module for this; `None` when it loads it. Of
    /// several imports that are missing it names the first.
    pub fn refusal(&self) -> Option<String> {
        Some(match self {
            Self::NoAbiMarker | Self::UnknownAbiMarker { .. } => {
                "Missing or unknown Proxy-Wasm ABI version".into()
            }
            Self::MemoryTooLarge { .. } => "Failed to create new Wasm instance".into(),
            Self::NoAllocator => "Wasm module is missing malloc function.".into(),
            Self::BrokenNames => "Failed to parse corrupted Wasm module".into(),
            Self::ImportSignature { import, expected } => format!(
                "Failed to load Wasm module due to an import type mismatch: {}, want: {}, but host exports: {}",
                import.path(),
                import.signature().map(Signature::in_words_of_envoy).unwrap_or_default(),
                expected.in_words_of_envoy()
            ),
            Self::ExportSignature { name, found, expected } => format!(
                "Bad function signature for: {name}, want: {}, but the module exports: {}",
                expected.in_words_of_envoy(),
                found.in_words_of_envoy()
            ),
            Self::ImportOfOtherAbi { function, .. } => {
                missing(&format!("{}.{function}", function.module()))
            }
            Self::UnknownImport { import } => match import.kind {
                Extern::Function(_) | Extern::Global => missing(&import.path()),
                Extern::Tag => format!("Envoy dies of the import {}", import.path()),
                // Envoy makes up a memory and a table of its own for a module that imports one.
                Extern::Memory(_) | Extern::Table => return None,
            },
            Self::SeveralAbiMarkers { .. }
            | Self::NoMemory
            | Self::WideMemory
            | Self::StartSection
            | Self::UnlistedImport { .. } => return None,
        })
    }

    /// The function that is missing, when nothing is wrong but that no host serves an import of this
    /// name: one that is served by whoever runs the module takes the problem away.
    pub fn missing_function(&self) -> Option<String> {
        match self {
            Self::UnknownImport { import } => import.signature().map(|_| import.path()),
            Self::ImportOfOtherAbi { function, .. } => {
                Some(format!("{}.{function}", function.module()))
            }
            Self::NoAbiMarker
            | Self::UnknownAbiMarker { .. }
            | Self::SeveralAbiMarkers { .. }
            | Self::NoMemory
            | Self::MemoryTooLarge { .. }
            | Self::WideMemory
            | Self::NoAllocator
            | Self::StartSection
            | Self::UnlistedImport { .. }
            | Self::ImportSignature { .. }
            | Self::ExportSignature { .. }
            | Self::BrokenNames => None,
        }
    }
}

fn missing(path: &str) -> String {
    format!("{}{path}", Served::MISSING)
}

impl Module {
    /// Everything about the module that a host trips over: nothing, if it is fit to be loaded.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.check_abi());
        problems.extend(self.check_memory());
        if self.allocator().is_none() {
            problems.push(Problem::NoAllocator);
        }
        if self.has_start_section() {
            problems.push(Problem::StartSection);
        }
        if self.has_broken_names() {
            problems.push(Problem::BrokenNames);
        }
        let imports = self.imports().iter();
        problems.extend(imports.filter_map(|import| self.check_import(import)));
        let exports = self.function_exports();
        problems.extend(exports.filter_map(|(name, found)| self.check_export(name, found)));
        problems
    }

    fn check_abi(&self) -> Option<Problem> {
        let versions: Vec<AbiVersion> = self.abi_markers().collect();
        match versions.as_slice() {
            [_] => None,
            [] => {
                let mut names = self.function_exports().map(|(name, _)| name);
                let unknown = names.find(|name| has_marker_prefix(name));
                Some(unknown.map_or(Problem::NoAbiMarker, |name| Problem::UnknownAbiMarker {
                    name: name.to_owned(),
                }))
            }
            _ => Some(Problem::SeveralAbiMarkers { versions }),
        }
    }

    fn check_memory(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.memory() {
            None => problems.push(Problem::NoMemory),
            Some(memory) if memory.is_wide => problems.push(Problem::WideMemory),
            Some(_) => {}
        }
        let bound = envoy::MAX_PAGES;
        let largest = self.memories().iter().map(|memory| memory.min_pages).max();
        if let Some(min_pages) = largest.filter(|&pages| pages > bound) {
            problems.push(Problem::MemoryTooLarge { min_pages, bound });
        }
        problems
    }

    fn check_import(&self, import: &Import) -> Option<Problem> {
        let unknown = || Problem::UnknownImport { import: import.clone() };
        let Some(found) = import.signature() else { return Some(unknown()) };
        // Without a marker there is a problem already; the newest version is the best guess.
        let abi = self.abi().unwrap_or(AbiVersion::V0_2_1);
        let Some(served) = Served::from_import(&import.module, &import.name, abi) else {
            return Some(match Function::from_import(&import.module, &import.name) {
                Some(function) => Problem::ImportOfOtherAbi { function, abi },
                None => unknown(),
            });
        };
        let expected = Signature::of_import(served);
        if *found != expected {
            return Some(Problem::ImportSignature { import: import.clone(), expected });
        }
        match served {
            Served::Function(_) => None,
            Served::Stub(_) | Served::Shim(_) => {
                Some(Problem::UnlistedImport { import: import.clone() })
            }
        }
    }

    fn check_export(&self, name: &str, found: &Signature) -> Option<Problem> {
        // As for imports.
        let abi = self.abi().unwrap_or(AbiVersion::V0_2_1);
        let export = Export::of(name, abi, |other| self.exports_function(other))?;
        let expected = Signature::from(export.arity(abi));
        (*found != expected).then(|| Problem::ExportSignature {
            name: name.to_owned(),
            found: found.clone(),
            expected,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAbiMarker => f.write_str(
                "no export declares an abi version; build the filter with a Proxy-Wasm SDK, which exports proxy_abi_version_0_2_1",
            ),
            Self::UnknownAbiMarker { name } => write!(
                f,
                "export {} declares an unknown abi version; use an SDK for {}",
                Printable(name),
                list(AbiVersion::ALL, "or")
            ),
            Self::SeveralAbiMarkers { versions } => write!(
                f,
                "exports declare abi versions {}, of which Envoy takes the first; link one SDK only",
                list(versions, "and")
            ),
            Self::NoMemory => f.write_str(
                "no memory is exported, and Envoy crashes at the first host call; link with --export-memory",
            ),
            Self::MemoryTooLarge { min_pages, bound } => write!(
                f,
                "memory starts at {min_pages} pages, above Envoy's {bound}; lower --initial-memory"
            ),
            Self::WideMemory => f.write_str(
                "memory has 64-bit addresses, which the abi cannot pass; build for wasm32-wasip1",
            ),
            Self::NoAllocator => f.write_str(
                "neither malloc nor proxy_on_memory_allocate is exported; build the filter with a Proxy-Wasm SDK, or export one",
            ),
            Self::StartSection => f.write_str(
                "module has a start section, and Envoy crashes when that calls a host function; export _initialize instead",
            ),
            Self::UnknownImport { import } => write!(
                f,
                "import {import} is not a host function; remove the code that needs it"
            ),
            Self::UnlistedImport { import } => write!(
                f,
                "import {import} is at best a stub on Envoy and missing elsewhere; remove the code that needs it"
            ),
            Self::ImportSignature { import, expected } => write!(
                f,
                "import {import} has the wrong signature; declare it as {expected}"
            ),
            Self::ImportOfOtherAbi { function, abi } => {
                let versions = AbiVersion::ALL.into_iter();
                let versions = versions.filter(|&version| function.versions().contain(version));
                write!(
                    f,
                    "import {}.{function} is not part of abi {abi}; use an SDK for {}",
                    function.module(),
                    list(versions, "or")
                )
            }
            Self::ExportSignature {
                name,
                found,
                expected,
            } => write!(
                f,
                "export {}{found} has the wrong signature; define it as {expected}",
                Printable(name)
            ),
            Self::BrokenNames => f.write_str(
                "the name section is broken, for which Envoy refuses the module; finish or strip it",
            ),
        }
    }
}

impl core::error::Error for Problem {}
