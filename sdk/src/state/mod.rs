//! State that outlives a request: shared by all workers of a proxy, or of one worker alone.
//!
//! | what | for |
//! | --- | --- |
//! | [`Shared`] | one value, changed by all workers |
//! | [`Table`] | a fixed number of values with an expiry, for keys that come from requests |
//! | [`Lease`] | one worker of all that does something |
//! | [`Queue`] | messages from any worker, taken by one that waits in an [`Inbox`] |
//! | [`LocalCache`] | a bounded number of values in the memory of one worker |
//!
//! All but the last lie in the proxy, which neither deletes nor lists them. So their names are made
//! while the filter is configured, from a [`State`] that begins each with the product, the version of
//! its records and the plugin: plugins of one `vm_id`, in Istio all plugins, share one namespace. No
//! request can make up a name: what comes from requests is a key of a [`Table`], which stores hashes.
//!
//! ```no_run
//! use std::time::Duration;
//! use tollgate::state::{Change, Shape, Table, WhenFull};
//! # fn configure(root: &tollgate::Root) -> Result<(), tollgate::ConfigureError> {
//! let state = root.state("demo", 1);
//! let overflow = root.counter("tollgate_demo_overflow");
//! let shape = Shape::new(1024, Duration::from_secs(60), WhenFull::Evict);
//! let seen: Table<u32> = state.table("seen", shape, overflow);
//! // In a request:
//! let now = root.clock().unix_nanos()?;
//! let nth = seen.update(b"alice", now, |count| {
//!     let count = count.unwrap_or(0).saturating_add(1);
//!     Change::Write(count, count)
//! });
//! # Ok(())
//! # }
//! ```
//!
//! The clock is the wall clock of the proxy, which may leap. Forward, what has an expiry is gone
//! early. Backward, nothing stays longer than its whole life from then on: an expiry that is further
//! ahead was written before the leap, and is brought back.
//!
//! The raw values are in [`shared_data`](crate::shared_data).

mod bucket;
mod cache;
mod hash;
mod inbox;
mod lease;
mod queue;
mod record;
mod shared;
mod table;

use std::num::NonZeroU32;
use std::time::Duration;

pub use self::bucket::{Bucket, Entry, Slot};
pub use self::cache::LocalCache;
pub use self::hash::{Fingerprint, HashKey};
pub use self::inbox::Inbox;
pub(crate) use self::inbox::{kept as kept_waits, ready};
pub use self::lease::{Lease, Standing};
pub use self::queue::{Queue, QueueError, RemoteQueue};
pub use self::record::{InvalidRecord, Layout, Record, decode, encode};
pub use self::shared::{Change, Shared, StateError};
pub use self::table::{Outcome, Shape, Table, WhenFull};

use crate::metrics::Counter;
use crate::shared_data::SharedData;

/// A name that ends in a number, as `write!` would make it at several times the cost.
pub fn numbered(prefix: &str, number: u32) -> String {
    let mut name = String::with_capacity(prefix.len().saturating_add(10));
    name.push_str(prefix);
    push_number(&mut name, number.into());
    name
}

/// Appends a number in decimals, as `write!` would do at several times the cost.
pub fn push_number(text: &mut String, number: u64) {
    let mut digits = [0; 20];
    let (mut rest, mut unused) = (number, digits.len());
    for digit in digits.iter_mut().rev() {
        *digit = u8::try_from(rest % 10).unwrap_or(0).saturating_add(b'0');
        rest /= 10;
        unused = unused.saturating_sub(1);
        if rest == 0 {
            break;
        }
    }
    let written = digits.get(unused..).and_then(|written| str::from_utf8(written).ok());
    text.push_str(written.unwrap_or_default());
}

/// A time in nanoseconds.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How often a value is tried to be written. Workers that write one at the same instant outrun each
/// other, and one of them succeeds each time.
pub const ATTEMPTS: NonZeroU32 = NonZeroU32::new(32).unwrap();

/// Where the values of one plugin are. From [`Root::state`](crate::Root::state), while it is configured.
#[derive(Clone, Debug)]
pub struct State {
    prefix: String,
}

impl State {
    pub(crate) fn new(product: &str, version: u8, plugin: &[u8]) -> Self {
        let (product, plugin) = (Segment(product.as_bytes()), Segment(plugin));
        Self { prefix: format!("tollgate.{product}.v{version}/{plugin}/") }
    }

    /// What the name of each value begins with: `tollgate.PRODUCT.vVERSION/PLUGIN/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A value that all workers share.
    pub fn shared<R: Record>(&self, name: &str) -> Shared<R> {
        Shared::new(self.key(name))
    }

    /// A table for keys that come from requests. `overflow` counts the keys that found it full.
    pub fn table<R: Record + Clone, const SLOTS: usize>(
        &self,
        name: &str,
        shape: Shape,
        overflow: Counter,
    ) -> Table<R, SLOTS> {
        Table::new(self.key(name), shape, overflow)
    }

    /// A lease that one worker of all has at a time.
    ///
    /// It ends `life` after it was last renewed.
    pub fn lease(&self, name: &str, life: Duration) -> Lease {
        Lease::new(self.shared(name), life)
    }

    /// A queue, for messages from any worker. [`OnMessages`](crate::OnMessages) takes them.
    pub fn queue(&self, name: &str) -> Queue {
        Queue::new(self.key(name))
    }

    /// A key for hashes that nobody outside knows, and that all workers agree on.
    ///
    /// The first worker makes one, at random; it lasts as long as the proxy keeps it.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the host refuses.
    pub fn secret_hash_key(&self) -> Result<HashKey, StateError> {
        let fresh = HashKey::random();
        self.shared::<[u8; 16]>("hash-key").update(|known| match known {
            Some(known) => Change::Keep(HashKey::new(known)),
            None => Change::Write(fresh.bytes(), fresh),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{}", self.prefix, Segment(name.as_bytes()))
    }

    pub(crate) fn data() -> SharedData {
        SharedData::new()
    }
}

/// A part of a name, in which no `/` can be taken for the end of it.
struct Segment<'a>(&'a [u8]);

impl std::fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;

        for &byte in self.0 {
            match byte {
                b'/' | b'%' | ..=b' ' | 0x7f.. => write!(f, "%{byte:02X}")?,
                plain => f.write_char(char::from(plain))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_product_version_and_plugin() {
        let check = |plugin: &[u8], name: &str, expected: &str| {
            assert_eq!(State::new("demo", 3, plugin).key(name), expected);
        };
        check(b"limits", "seen", "tollgate.demo.v3/limits/seen");
        check(b"a/b", "c", "tollgate.demo.v3/a%2Fb/c");
        check(b"a", "b/c", "tollgate.demo.v3/a/b%2Fc");
        check(b"", "%\u{ff}\0", "tollgate.demo.v3//%25%C3%BF%00");
        check(b"\xff", "", "tollgate.demo.v3/%FF/");
    }

    #[test]
    fn a_number_is_written_in_full() {
        let large = (5..=32).map(|bits| u32::MAX >> (32 - bits));
        for number in (0..=u32::from(u16::MAX)).chain(large) {
            assert_eq!(numbered("a/", number), format!("a/{number}"));
        }
        for number in [0, 9, 10, u64::MAX] {
            let mut text = String::from("r=");
            push_number(&mut text, number);
            assert_eq!(text, format!("r={number}"));
        }
    }
}
