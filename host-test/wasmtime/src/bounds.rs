//! How far memories and tables of a guest may grow.

use tollgate_host::limits::{Bounded, Limits};
use wasmtime::ResourceLimiter;

/// As many memories as a guest may have; all of them together are within the limit.
const MOST_MEMORIES: usize = 10;

/// The bounds of one guest.
pub(crate) struct Bounds {
    limits: Limits,
    /// Bytes of all memories.
    memory_bytes: usize,
    /// Elements of all tables.
    table_elements: usize,
    /// What was not let grow last, in words.
    denied: Option<String>,
}

impl Bounds {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory_bytes: 0, table_elements: 0, denied: None }
    }

    /// Takes what was not let grow since it was taken last.
    pub(crate) fn take_denied(&mut self) -> Option<String> {
        self.denied.take()
    }

    fn deny(&mut self, what: &str, limit: Bounded) -> bool {
        self.denied = Some(format!("{what}, {}", self.limits.exceeded(limit)));
        false
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        let bytes = self.memory_bytes.saturating_add(grown);
        if bytes <= self.limits.memory_bytes {
            self.memory_bytes = bytes;
            return Ok(true);
        }
        let what = format!("the memory was not let grow to {bytes} bytes");
        Ok(self.deny(&what, Bounded::memory_bytes))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        let elements = self.table_elements.saturating_add(grown);
        if elements <= self.limits.table_elements {
            self.table_elements = elements;
            return Ok(true);
        }
        let what = format!("the tables were not let grow to {elements} elements");
        Ok(self.deny(&what, Bounded::table_elements))
    }

    fn memories(&self) -> usize {
        MOST_MEMORIES
    }
}
