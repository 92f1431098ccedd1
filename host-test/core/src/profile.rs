//! Where hosts differ: which of them an offline host stands for.
//!
//! [`Profile::Envoy`] is the default and the only one that a real proxy judges. The others hold what is
//! known of the specification's text and of nginx, and are Envoy in everything else: they find filters that
//! rely on what only Envoy does. A row here needs a source.

use serde::Deserialize;
use tollgate_abi::Function;

/// A host that the offline host stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Envoy 1.40.
    #[default]
    Envoy,
    /// The text of the specification, v0.2.1.
    Spec,
    /// nginx with `ngx_wasm_module`.
    Nginx,
}

/// What is answered to a write of shared data that names a number to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Any number creates a key; 0 overwrites.
    WithWhatIsThere,
    /// Only 0 creates a key, and it overwrites.
    WithNothingToo,
    /// Only 0 creates a key, and it overwrites none.
    Always,
}

/// Rows of the table: each a difference, by profile.
struct Rules {
    comparison: Comparison,
    /// A header that a filter removes stays, with an empty value.
    keeps_removed_headers: bool,
    /// A map that is not there is a wrong argument to who reads all of it, and lacks each header; on Envoy it
    /// is the other way round.
    lacks_maps_out_of_phase: bool,
    /// Functions that trap.
    unimplemented: &'static [Function],
}

impl Profile {
    const fn rules(self) -> Rules {
        match self {
            Self::Envoy => Rules {
                comparison: Comparison::WithWhatIsThere,
                keeps_removed_headers: false,
                lacks_maps_out_of_phase: false,
                unimplemented: &[],
            },
            // "If the compare-and-swap value is set to a non-zero value, then it must match the host's": an
            // absent key has none. Source: proxy-wasm/spec, v0.2.1, `proxy_set_shared_data`.
            Self::Spec => Rules {
                comparison: Comparison::WithNothingToo,
                keeps_removed_headers: false,
                lacks_maps_out_of_phase: false,
                unimplemented: &[],
            },
            // Source: Kong/ngx_wasm_module, `ngx_wa_shm_kv.c`, `ngx_proxy_wasm_maps.c`, and in
            // `ngx_proxy_wasm_host.c` the functions that are `ngx_proxy_wasm_hfuncs_nop`.
            Self::Nginx => Rules {
                comparison: Comparison::Always,
                keeps_removed_headers: true,
                lacks_maps_out_of_phase: true,
                unimplemented: &[
                    Function::CloseStream,
                    Function::ContinueResponse,
                    Function::ClearRouteCache,
                    Function::GrpcCall,
                    Function::GrpcStream,
                    Function::GrpcSend,
                    Function::GrpcCancel,
                    Function::GrpcClose,
                    Function::GetStatus,
                    Function::ResolveSharedQueue,
                ],
            },
        }
    }

    pub(crate) const fn comparison(self) -> Comparison {
        self.rules().comparison
    }

    pub(crate) const fn keeps_removed_headers(self) -> bool {
        self.rules().keeps_removed_headers
    }

    pub(crate) const fn lacks_maps_out_of_phase(self) -> bool {
        self.rules().lacks_maps_out_of_phase
    }

    pub(crate) fn implements(self, function: Function) -> bool {
        !self.rules().unimplemented.contains(&function)
    }
}
