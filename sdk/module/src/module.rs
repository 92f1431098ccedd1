//! A module, read without running it. Whether a host would load it is decided elsewhere.

use core::fmt;

use tollgate_abi::{AbiVersion, CallbackKind};
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{BinaryReader, CompositeInnerType, MemoryType, Parser, Payload, Validator};

use crate::envoy;
use crate::invalid::InvalidModule;
use crate::metadata::{InvalidMetadata, Metadata};
use crate::printable::Printable;
use crate::sections::Custom;
use crate::signature::Signature;

/// A valid WebAssembly module, as far as a host that loads it cares.
#[derive(Clone, Debug)]
pub struct Module {
    size_bytes: usize,
    imports: Vec<Import>,
    exports: Vec<Export>,
    memories: Vec<MemoryLimits>,
    custom_sections: Vec<CustomSection>,
    metadata: Vec<Vec<u8>>,
    has_start_section: bool,
    has_broken_names: bool,
}

/// What a module wants from its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The import module, such as `env`.
    pub module: String,
    /// The name within it.
    pub name: String,
    /// What it is.
    pub kind: Extern,
}

/// What a module offers to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Extern,
}

/// What is imported or exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extern {
    /// A function.
    Function(Signature),
    /// A linear memory.
    Memory(MemoryLimits),
    /// A table of references.
    Table,
    /// A global variable.
    Global,
    /// A tag of exceptions.
    Tag,
}

/// How large a memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// What it starts with, in pages of 64 KiB.
    pub min_pages: u64,
    /// What it can grow to, in pages of 64 KiB; `None` when the host decides.
    pub max_pages: Option<u64>,
    /// Whether its addresses have 64 bits.
    pub is_wide: bool,
}

/// A custom section, by name and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomSection {
    /// Its name; several sections may share one.
    pub name: String,
    /// What it holds, in bytes, without its name.
    pub size_bytes: usize,
}

impl Module {
    /// Reads and validates a module, its code included.
    ///
    /// # Errors
    ///
    /// [`InvalidModule`] when the bytes are not a module; what they seem to be instead.
    pub fn read(bytes: &[u8]) -> Result<Self, InvalidModule> {
        if let Some(invalid) = InvalidModule::from_start(bytes) {
            return Err(invalid);
        }
        let types = Validator::new_with_features(envoy::features()).validate_all(bytes)?;
        let types = types.as_ref();
        let imports = types.core_imports().into_iter().flatten();
        let exports = types.core_exports().into_iter().flatten();
        let mut customs = Vec::new();
        let mut has_start_section = false;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::CustomSection(section) => customs.push(Custom::from(&section)),
                Payload::StartSection { .. } => has_start_section = true,
                _ => {}
            }
        }
        let names = customs.iter().find(|custom| custom.name == "name");
        Ok(Self {
            size_bytes: bytes.len(),
            imports: imports
                .map(|(module, name, kind)| Import {
                    module: module.to_owned(),
                    name: name.to_owned(),
                    kind: Extern::new(types, kind),
                })
                .collect(),
            exports: exports
                .map(|(name, kind)| Export {
                    name: name.to_owned(),
                    kind: Extern::new(types, kind),
                })
                .collect(),
            memories: (0..types.memory_count())
                .map(|index| MemoryLimits::from(types.memory_at(index)))
                .collect(),
            custom_sections: customs.iter().map(CustomSection::from).collect(),
            metadata: customs
                .iter()
                .filter(|custom| custom.name == Metadata::SECTION)
                .map(|custom| custom.data.to_vec())
                .collect(),
            has_start_section,
            has_broken_names: names.is_some_and(|names| function_names(names.data).is_err()),
        })
    }

    /// How large it is, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The version of the ABI that Envoy would speak with it: that of the first marker.
    pub fn abi(&self) -> Option<AbiVersion> {
        self.abi_markers().next()
    }

    /// The versions of the ABI that it declares, in the order of its exports. There should be one.
    pub fn abi_markers(&self) -> impl Iterator<Item = AbiVersion> {
        self.function_exports().filter_map(|(name, _)| {
            let mut versions = AbiVersion::ALL.into_iter();
            versions.find(|version| version.marker() == name)
        })
    }

    /// Everything that it imports.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// Everything that it exports, in its order.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// The callbacks of the table that it exports, in its order.
    pub fn callbacks(&self) -> impl Iterator<Item = CallbackKind> {
        self.function_exports().filter_map(|(name, _)| CallbackKind::from_name(name))
    }

    /// The function that gives a host memory to write to, the one that Envoy takes if there are two.
    pub fn allocator(&self) -> Option<&'static str> {
        let mut allocators = tollgate_abi::Export::ALLOCATORS.into_iter();
        allocators.find(|name| self.exports_function(name))
    }

    /// The functions that Envoy calls once after loading it, in their order.
    pub fn start_functions(&self) -> Vec<&'static str> {
        tollgate_abi::Export::starts(|name| self.exports_function(name))
    }

    /// The memory that it shares with its host: the last that it exports, whatever its name, or else the
    /// one that it imports.
    pub fn memory(&self) -> Option<MemoryLimits> {
        let limits = |kind: &Extern| match kind {
            Extern::Memory(limits) => Some(*limits),
            Extern::Function(_) | Extern::Table | Extern::Global | Extern::Tag => None,
        };
        let exported = self.exports.iter().rev().find_map(|export| limits(&export.kind));
        exported.or_else(|| self.imports.iter().find_map(|import| limits(&import.kind)))
    }

    /// Its custom sections, in its order.
    pub fn custom_sections(&self) -> &[CustomSection] {
        &self.custom_sections
    }

    /// What it says of itself, or `None` when it was not finished by Tollgate.
    ///
    /// # Errors
    ///
    /// [`InvalidMetadata`] when it has a section `tollgate` that cannot be read.
    pub fn metadata(&self) -> Result<Option<Metadata>, InvalidMetadata> {
        match self.metadata.as_slice() {
            [] => Ok(None),
            [json] => Metadata::parse(json).map(Some),
            several => Err(InvalidMetadata::Several { count: several.len() }),
        }
    }

    /// The exported functions, in its order.
    pub(crate) fn function_exports(&self) -> impl Iterator<Item = (&str, &Signature)> {
        self.exports.iter().filter_map(|export| match &export.kind {
            Extern::Function(signature) => Some((export.name.as_str(), signature)),
            Extern::Memory(_) | Extern::Table | Extern::Global | Extern::Tag => None,
        })
    }

    /// Whether it exports a function by this name.
    pub fn exports_function(&self, name: &str) -> bool {
        self.function_exports().any(|(export, _)| export == name)
    }

    /// Every memory, shared with its host or not.
    pub(crate) fn memories(&self) -> &[MemoryLimits] {
        &self.memories
    }

    /// Whether code runs while it is being instantiated.
    pub fn has_start_section(&self) -> bool {
        self.has_start_section
    }

    /// Whether its section of names ends inside a name.
    pub(crate) fn has_broken_names(&self) -> bool {
        self.has_broken_names
    }
}

impl Import {
    /// Module and name, as in `env.proxy_log`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.module, self.name)
    }

    /// The signature, if it is a function.
    pub fn signature(&self) -> Option<&Signature> {
        match &self.kind {
            Extern::Function(signature) => Some(signature),
            Extern::Memory(_) | Extern::Table | Extern::Global | Extern::Tag => None,
        }
    }
}

impl Extern {
    fn new(types: TypesRef<'_>, kind: EntityType) -> Self {
        match kind {
            EntityType::Func(id) | EntityType::FuncExact(id) => {
                let signature = types.get(id).and_then(|ty| match &ty.composite_type.inner {
                    CompositeInnerType::Func(function) => Some(function.into()),
                    _ => None,
                });
                // The type of a function in a valid module is that of a function.
                Self::Function(signature.unwrap_or_else(|| Signature::of_words(0, 0)))
            }
            EntityType::Memory(memory) => Self::Memory(memory.into()),
            EntityType::Table(_) => Self::Table,
            EntityType::Global(_) => Self::Global,
            EntityType::Tag(_) => Self::Tag,
        }
    }
}

impl From<MemoryType> for MemoryLimits {
    fn from(memory: MemoryType) -> Self {
        Self { min_pages: memory.initial, max_pages: memory.maximum, is_wide: memory.memory64 }
    }
}

impl From<&Custom<'_>> for CustomSection {
    fn from(custom: &Custom<'_>) -> Self {
        Self { name: custom.name.to_owned(), size_bytes: custom.data.len() }
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (module, name) = (Printable(&self.module), Printable(&self.name));
        match &self.kind {
            Extern::Function(signature) => write!(f, "{module}.{name}{signature}"),
            Extern::Memory(_) => write!(f, "{module}.{name} (a memory)"),
            Extern::Table => write!(f, "{module}.{name} (a table)"),
            Extern::Global => write!(f, "{module}.{name} (a global)"),
            Extern::Tag => write!(f, "{module}.{name} (a tag)"),
        }
    }
}

/// Reads the names of the functions as Envoy does, which refuses the module when that fails. Names
/// need not be UTF-8.
fn function_names(data: &[u8]) -> Result<(), Broken> {
    const FUNCTIONS: u8 = 1;
    let mut subsections = BinaryReader::new(data, 0);
    while !subsections.eof() {
        let id = subsections.read_u8()?;
        let mut names = subsections.read_reader()?;
        if id != FUNCTIONS {
            continue;
        }
        for _ in 0..names.read_var_u32()? {
            names.read_var_u32()?;
            names.read_reader()?;
        }
        if !names.eof() {
            return Err(Broken);
        }
    }
    Ok(())
}

/// The names of the functions cannot be read.
struct Broken;

impl From<wasmparser::Error> for Broken {
    fn from(_: wasmparser::Error) -> Self {
        Self
    }
}
