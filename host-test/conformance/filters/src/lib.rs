//! Filters on the SDK that do what their configuration says, and log what came of it: what is true of
//! the SDK is seen on every host. They are not shipped, and no example of how to write a filter.

pub mod bodies;
pub mod maps;

pub use bodies::{Chunks, ChunksResizing, Whole, WholeResizing};
pub use maps::Maps;
