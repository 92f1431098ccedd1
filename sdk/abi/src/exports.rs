//! The exports that Envoy looks for in a module, and the signatures that it wants of them. What it does
//! with them is elsewhere.
//!
//! Source: proxy-wasm-cpp-host, `WasmBase::getFunctions`, and Envoy, `Wasm::getFunctions`; each was
//! checked on Envoy 1.40.

use crate::callback::CallbackKind;
use crate::versions::AbiVersion;

/// How many 32-bit words a function takes and returns. Exports that Envoy calls have no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// Arguments.
    pub params: usize,
    /// Results, 0 or 1.
    pub results: usize,
}

/// An export that Envoy looks for, beside the markers of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// It gives the host memory to write to: `malloc`, or else `proxy_on_memory_allocate`.
    Allocator(&'static str),
    /// It runs before the first context: `_initialize`, then `main` or else `__main_void`; without the
    /// first, `_start`.
    Start(&'static str),
    /// A callback of the table.
    Callback(CallbackKind),
    /// A callback that no request and no configuration leads to, but whose signature has to be right.
    Idle(&'static str, Arity),
}

impl Export {
    /// The allocators, in the order in which Envoy looks for them.
    pub const ALLOCATORS: [&'static str; 2] = ["malloc", "proxy_on_memory_allocate"];

    /// The functions that may run before the first context.
    pub const STARTS: [&'static str; 4] = ["_initialize", "main", "__main_void", "_start"];

    /// Callbacks beside the table.
    const IDLE: [(&'static str, Arity); 5] = [
        ("proxy_validate_configuration", Arity { params: 2, results: 1 }),
        ("proxy_on_request_metadata", Arity { params: 2, results: 1 }),
        ("proxy_on_response_metadata", Arity { params: 2, results: 1 }),
        ("envoy_on_resolve_dns", Arity { params: 3, results: 0 }),
        ("envoy_on_stats_update", Arity { params: 2, results: 0 }),
    ];

    /// What an export is for Envoy, or `None` when it does not look at it. `has` tells which other
    /// functions the module exports, since Envoy passes over some for others.
    pub fn of(name: &str, abi: AbiVersion, has: impl Fn(&str) -> bool) -> Option<Self> {
        let is_looked_for = match name {
            "proxy_on_memory_allocate" => !has("malloc"),
            "_start" => !has("_initialize"),
            "main" | "__main_void" => has("_initialize"),
            "proxy_on_foreign_function" => abi != AbiVersion::V0_1_0,
            _ => true,
        };
        let find = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
        let allocator = find(&Self::ALLOCATORS).map(Self::Allocator);
        let start = || find(&Self::STARTS).map(Self::Start);
        let callback = || CallbackKind::from_name(name).map(Self::Callback);
        let idle = || Self::IDLE.iter().find(|(known, _)| *known == name);
        let idle = || idle().map(|&(name, arity)| Self::Idle(name, arity));
        allocator.or_else(start).or_else(callback).or_else(idle).filter(|_| is_looked_for)
    }

    /// The functions that run before the first context, in their order.
    pub fn starts(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let newest = AbiVersion::V0_2_1;
        let runs = |name: &&str| match *name {
            "__main_void" if has("main") => false,
            name => has(name) && Self::of(name, newest, &has).is_some(),
        };
        Self::STARTS.into_iter().filter(runs).collect()
    }

    /// The signature that Envoy wants.
    pub fn arity(self, abi: AbiVersion) -> Arity {
        match self {
            Self::Allocator(_) => Arity { params: 1, results: 1 },
            Self::Start("main") => Arity { params: 2, results: 1 },
            Self::Start("__main_void") => Arity { params: 0, results: 1 },
            Self::Start(_) => Arity { params: 0, results: 0 },
            Self::Callback(kind) => kind.arity(abi),
            Self::Idle(_, arity) => arity,
        }
    }
}

/// Whether an export looks as if it declared a version of the ABI.
pub fn has_marker_prefix(export: &str) -> bool {
    export.starts_with("proxy_abi_version_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(exports: &[&str]) -> Vec<&'static str> {
        Export::starts(|name| exports.contains(&name))
    }

    #[test]
    fn a_reactor_starts_before_a_command_and_main_before_the_main_without_arguments() {
        assert_eq!(starts(&["_start", "main"]), ["_start"]);
        assert_eq!(starts(&["_initialize", "_start"]), ["_initialize"]);
        assert_eq!(starts(&["__main_void", "_initialize"]), ["_initialize", "__main_void"]);
        assert_eq!(starts(&["main", "__main_void", "_initialize"]), ["_initialize", "main"]);
        assert_eq!(starts(&["main"]), [""; 0]);
    }

    #[test]
    fn every_callback_is_looked_for_and_one_only_since_0_2_0() {
        for &kind in CallbackKind::ALL {
            let looked_for = |abi| Export::of(kind.name(), abi, |_| false).is_some();
            assert!(looked_for(AbiVersion::V0_2_0), "{kind}");
            let is_new = kind == CallbackKind::ForeignFunction;
            assert_eq!(looked_for(AbiVersion::V0_1_0), !is_new, "{kind}");
        }
        assert_eq!(Export::of("proxy_on_nonsense", AbiVersion::V0_2_1, |_| false), None);
    }
}
