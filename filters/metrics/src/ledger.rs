//! Which series there are, agreed on by all workers of the proxy: what makes a budget one of the proxy.
//!
//! Shape of the shared value: a hash of 8 bytes for each series, in the order they were made. It only grows,
//! as the proxy forgets no series either, and never beyond the budget; once it is full, no worker asks again.

use std::cell::{Cell, RefCell};

use tollgate::SharedData;
use tollgate::shared_data::{Update, UpdateError};
use tollgate::state::{ATTEMPTS, Fingerprint, State};

const HASH_BYTES: usize = 8;

/// The series of metrics that share their labels.
#[derive(Debug)]
pub struct Ledger {
    data: SharedData,
    key: String,
    budget: usize,
    /// As last seen, sorted.
    known: RefCell<Vec<u64>>,
    is_full: Cell<bool>,
}

impl Ledger {
    /// One of `budget` series, under this name.
    pub fn new(data: SharedData, state: &State, name: &str, budget: u16) -> Self {
        Self {
            data,
            key: format!("{}{name}", state.prefix()),
            budget: budget.into(),
            known: RefCell::default(),
            is_full: Cell::new(false),
        }
    }

    /// Whether there is room for a series, or it is there already.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] when the host refuses: nobody knows then, and there must not be one more.
    pub fn admit(&self, series: Fingerprint) -> Result<bool, UpdateError> {
        let hash = series.get();
        if self.known.borrow().binary_search(&hash).is_ok() {
            return Ok(true);
        }
        if self.is_full.get() {
            return Ok(false);
        }
        let update = |stored: Option<&[u8]>| {
            let (hashes, _) = stored.unwrap_or_default().as_chunks::<HASH_BYTES>();
            let mut known: Vec<u64> =
                hashes.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
            let is_known = known.contains(&hash);
            let has_room = known.len() < self.budget;
            if is_known || !has_room {
                return Update::Keep((known, is_known));
            }
            known.push(hash);
            let written = [stored.unwrap_or_default(), &hash.to_le_bytes()].concat();
            Update::Write(written, (known, true))
        };
        let (mut known, is_admitted) = self.data.update(self.key.as_bytes(), ATTEMPTS, update)?;
        known.sort_unstable();
        self.is_full.set(known.len() >= self.budget);
        self.known.replace(known);
        Ok(is_admitted)
    }
}
