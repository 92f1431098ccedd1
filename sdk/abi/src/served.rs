//! All that Envoy has for imports: the table of host functions, functions of WASI that only answer, and
//! what is beside both.

use crate::functions::Function;
use crate::versions::{AbiVersion, Versions};
use crate::wasi::Stub;

/// A function that Envoy has beside the ABI and WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shim {
    /// Compares two threads, of which there are no others: whether its arguments are equal.
    PthreadEqual,
    /// Emscripten tells that the memory has grown; nothing comes of it.
    NotifyMemoryGrowth,
    /// Asks for the addresses of a name; they come by `envoy_on_resolve_dns`.
    ResolveDns,
}

/// What Envoy has for an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A function of the table.
    Function(Function),
    /// A function of WASI that only answers.
    Stub(&'static Stub),
    /// A function beside both.
    Shim(Shim),
}

impl Shim {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::PthreadEqual, Self::NotifyMemoryGrowth, Self::ResolveDns];

    /// The name under which a module imports it from `env`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PthreadEqual => "pthread_equal",
            Self::NotifyMemoryGrowth => "emscripten_notify_memory_growth",
            Self::ResolveDns => "envoy_resolve_dns",
        }
    }

    const fn words(self) -> usize {
        match self {
            Self::PthreadEqual => 2,
            Self::NotifyMemoryGrowth => 1,
            Self::ResolveDns => 3,
        }
    }
}

impl Served {
    /// What Envoy says of an import that it does not have; the import's name follows.
    pub const MISSING: &'static str = "Failed to load Wasm module due to a missing import: ";

    /// Looks an import of a module of the version `abi` up.
    pub fn from_import(module: &str, name: &str, abi: AbiVersion) -> Option<Self> {
        let function = Function::from_import(module, name);
        if let Some(function) = function.filter(|function| function.versions().contain(abi)) {
            return Some(Self::Function(function));
        }
        if let Some(stub) = Stub::from_import(module, name) {
            return Some(Self::Stub(stub));
        }
        let shim = Shim::ALL.into_iter().find(|shim| module == "env" && shim.name() == name);
        shim.map(Self::Shim)
    }

    /// Whether it is there whatever version a module declares.
    pub fn is_for_all_versions(module: &str, name: &str) -> bool {
        AbiVersion::ALL.into_iter().all(|abi| Self::from_import(module, name, abi).is_some())
    }

    /// Which versions of the ABI know it.
    pub const fn versions(self) -> Versions {
        match self {
            Self::Function(function) => function.versions(),
            Self::Stub(_) | Self::Shim(_) => Versions::ANY,
        }
    }

    /// For each raw word, whether wasm passes it in 64 bits.
    pub fn words(self) -> Vec<bool> {
        match self {
            Self::Function(function) => function.words().to_vec(),
            Self::Stub(stub) => stub.words().collect(),
            Self::Shim(shim) => vec![false; shim.words()],
        }
    }

    /// Whether it returns a word.
    pub const fn returns(self) -> bool {
        match self {
            Self::Function(function) => function.returns_status(),
            Self::Stub(_) => true,
            Self::Shim(shim) => !matches!(shim, Shim::NotifyMemoryGrowth),
        }
    }

    /// Whether a module may call it before its contexts exist.
    pub fn is_allowed_at_start(self) -> bool {
        match self {
            Self::Function(function) => function.is_allowed_at_start(),
            Self::Stub(stub) => stub.is_allowed_at_start(),
            Self::Shim(shim) => matches!(shim, Shim::NotifyMemoryGrowth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_served_by_what_has_its_name() {
        let check = |module, name, expected| {
            let found = Served::from_import(module, name, AbiVersion::V0_2_0);
            assert_eq!(found, expected, "{module}.{name}");
        };
        check("env", "proxy_log", Some(Served::Function(Function::Log)));
        check("env", "proxy_get_log_level", None);
        check("env", "pthread_equal", Some(Served::Shim(Shim::PthreadEqual)));
        check("wasi_unstable", "pthread_equal", None);
        check("env", "fd_close", None);
        assert!(Served::is_for_all_versions("wasi_unstable", "fd_close"));
        assert!(!Served::is_for_all_versions("env", "proxy_continue_request"));
    }
}
