//! Who sends a request: from which address, and as whom.
//!
//! [`ClientAddress`] says which address stands for the client where proxies stand before, [`Network`]
//! is a range of addresses. [`SpiffeId`] is the name of a workload, [`SpiffePattern`] some of them.

mod address;
mod spiffe;

pub use self::address::{ClientAddress, InvalidClientAddress, InvalidNetwork, Network, NoAddress};
pub use self::spiffe::{InvalidSpiffeId, NoIdentity, SpiffeId, SpiffePattern, peer};

pub(crate) use self::spiffe::fits;
