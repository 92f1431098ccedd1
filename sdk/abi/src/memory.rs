//! The guest's memory, as the decoders of host calls see it.

/// How wide a pointer of the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerWidth {
    /// wasm32: 4 bytes.
    Four,
    /// A filter linked natively on a 64-bit machine: 8 bytes.
    Eight,
}

/// The guest's memory. An engine adapter implements it; every access is checked there.
pub trait Memory {
    /// How wide the pointers are that the guest hands over.
    fn pointer_width(&self) -> PointerWidth;

    /// The `size` bytes at `address`, or `None` when they leave the memory.
    fn read(&self, address: u64, size: u64) -> Option<&[u8]>;

    /// Writes `bytes` at `address`; `None` when they leave the memory.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()>;

    /// Asks the guest's allocator for `size` bytes; `None` when it has none to give or traps.
    fn allocate(&mut self, size: usize) -> Option<u64>;
}
