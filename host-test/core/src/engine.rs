//! What runs guests: an engine gives modules, a module gives instances, an instance runs callbacks.
//!
//! The world comes and goes by value with each call: while a guest runs, its engine holds the world and
//! answers host calls from it, and hands it back when the guest returns. It is boxed, as it is large.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;
use tollgate_abi::{AbiVersion, Callback, CallbackKind};

use crate::world::World;

/// What code a module is: modules with the same one can be taken for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeId(u64);

impl CodeId {
    /// The identity of code that is told apart by `code`: its bytes, or where it lies.
    pub fn of(code: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = DefaultHasher::new();
        code.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// It as a number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A loaded module.
pub trait Module: Send + Sync {
    /// Which code it is. Filters of the same code run in one VM.
    fn code(&self) -> CodeId;

    /// The version of the ABI that it declares.
    fn abi(&self) -> AbiVersion;

    /// Whether it exports a callback.
    fn exports(&self, callback: CallbackKind) -> bool;

    /// Imports that no host serves, as `module.name`. A proxy starts only if a scenario declares what they
    /// answer.
    fn unserved(&self) -> &[String] {
        &[]
    }

    /// Makes an instance with memory of its own. No code of the guest runs yet.
    ///
    /// # Errors
    ///
    /// [`Trap`] when the engine cannot.
    fn instantiate(&self) -> Result<Box<dyn Instance>, Trap>;
}

/// A guest with its memory.
pub trait Instance {
    /// Runs what the module runs before its first context: `_initialize`, or `_start`.
    ///
    /// # Errors
    ///
    /// [`Trap`] when the guest traps.
    fn start(&mut self, world: &mut Box<World>) -> Result<(), Trap>;

    /// Runs a callback that the module exports, and gives what it returned; 0 for nothing.
    ///
    /// # Errors
    ///
    /// [`Trap`] when the guest traps or exceeds a limit.
    fn call(&mut self, world: &mut Box<World>, callback: &Callback) -> Result<u32, Trap>;

    /// Fuel used since the instance was made, about one unit per wasm instruction; `None` when the
    /// engine does not count.
    fn fuel_used(&self) -> Option<u64>;

    /// The size of the guest's memory in bytes; `None` when it has none of its own.
    fn memory_bytes(&self) -> Option<u64>;

    /// How many bytes the host had the guest allocate for its answers, and has not seen to be free again;
    /// `None` when the engine cannot tell.
    fn handed_bytes(&self) -> Option<u64> {
        None
    }
}

/// A guest that ended in the middle of a call. Its instance is not called again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// What happened, on one line.
    pub message: String,
    /// The functions that were running, innermost first; empty when not known.
    pub backtrace: Vec<Frame>,
}

/// A function that was running when a guest trapped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Its name, demangled; its number where the module has no names.
    pub function: String,
    /// Where in its source it was, when the module knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        let Some(file) = &self.file else { return Ok(()) };
        write!(f, " at {file}")?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (depth, frame) in self.backtrace.iter().enumerate() {
            write!(f, "\n  {depth}: {frame}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Trap {}
