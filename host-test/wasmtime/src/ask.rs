//! Asking a module for a text that one of its exports makes. It gets no host: what it imports does
//! nothing and answers zero.

use std::fmt;

use wasmtime::{Engine, Linker, Module, Store};

use crate::Limits;
use crate::bounds::Bounds;

/// Why a module has not given a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// The bytes are not a module that the engine compiles.
    Invalid(String),
    /// It trapped, or its export is no function that gives a `u64`.
    Failed(String),
    /// The text does not lie in its memory.
    OutOfMemory {
        /// Where it is said to begin.
        address: usize,
        /// How long it is said to be.
        size_bytes: usize,
    },
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "not a valid module: {why}"),
            Self::Failed(why) => write!(f, "the module cannot be asked: {why}"),
            Self::OutOfMemory { address, size_bytes } => {
                write!(f, "{size_bytes} bytes at {address} are not in the memory of the module")
            }
        }
    }
}

impl std::error::Error for AskError {}

pub(crate) fn ask(
    engine: &Engine,
    limits: Limits,
    bytes: &[u8],
    export: &str,
) -> Result<Option<Vec<u8>>, AskError> {
    let invalid = |error: wasmtime::Error| AskError::Invalid(format!("{error:#}"));
    let failed = |error: wasmtime::Error| AskError::Failed(format!("{error:#}"));
    let module = Module::from_binary(engine, bytes).map_err(invalid)?;
    if module.get_export(export).is_none() {
        return Ok(None);
    }
    let mut store = Store::new(engine, Bounds::new(limits));
    store.limiter(|bounds| bounds);
    store.set_fuel(limits.fuel_per_call).map_err(failed)?;
    store.set_epoch_deadline(crate::guest::ticks(limits));
    let mut linker = Linker::new(engine);
    linker.define_unknown_imports_as_default_values(&mut store, &module).map_err(failed)?;
    let instance = linker.instantiate(&mut store, &module).map_err(failed)?;
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
        initialize.call(&mut store, ()).map_err(failed)?;
    }
    let function = instance.get_typed_func::<(), u64>(&mut store, export).map_err(failed)?;
    let place = function.call(&mut store, ()).map_err(failed)?;
    let half = |number: u64| usize::try_from(number & u64::from(u32::MAX)).unwrap_or(usize::MAX);
    let (address, size_bytes) = (half(place >> 32), half(place));
    let memory = instance.get_memory(&mut store, "memory");
    let text = memory.and_then(|memory| memory.data(&store).get(address..)?.get(..size_bytes));
    match text {
        Some(text) => Ok(Some(text.to_vec())),
        None => Err(AskError::OutOfMemory { address, size_bytes }),
    }
}
