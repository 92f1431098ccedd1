//! The versions of the ABI, and which of them know a function.

use core::fmt;

/// A version of the Proxy-Wasm ABI.
///
/// Source: proxy-wasm/spec, `abi-versions/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AbiVersion {
    /// 0.1.0: `proxy_continue_request` and `proxy_continue_response`, no end of stream on headers.
    V0_1_0,
    /// 0.2.0: one `proxy_continue_stream`, end of stream on headers.
    V0_2_0,
    /// 0.2.1: 0.2.0 and `proxy_get_log_level`.
    V0_2_1,
}

impl AbiVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V0_1_0, Self::V0_2_0, Self::V0_2_1];

    /// The name of the function that a module exports to declare this version.
    pub const fn marker(self) -> &'static str {
        match self {
            Self::V0_1_0 => "proxy_abi_version_0_1_0",
            Self::V0_2_0 => "proxy_abi_version_0_2_0",
            Self::V0_2_1 => "proxy_abi_version_0_2_1",
        }
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        })
    }
}

/// The first and the last version that know a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    first: AbiVersion,
    last: AbiVersion,
}

impl Versions {
    /// Known to every version.
    pub const ANY: Self = Self { first: AbiVersion::V0_1_0, last: AbiVersion::V0_2_1 };
    /// Dropped after 0.1.0.
    pub const UNTIL_0_1_0: Self = Self { first: AbiVersion::V0_1_0, last: AbiVersion::V0_1_0 };
    /// Added in 0.2.0.
    pub const SINCE_0_2_0: Self = Self { first: AbiVersion::V0_2_0, last: AbiVersion::V0_2_1 };
    /// Added in 0.2.1.
    pub const SINCE_0_2_1: Self = Self { first: AbiVersion::V0_2_1, last: AbiVersion::V0_2_1 };

    /// Whether a module of `version` may use the function.
    pub fn contain(self, version: AbiVersion) -> bool {
        self.first <= version && version <= self.last
    }
}
