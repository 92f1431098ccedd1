//! From bytes to a module that can be instantiated. Whether Envoy would load it is judged by
//! `tollgate-module`; what else a module needs to run here is `link.rs`.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use tollgate_abi::{AbiVersion, CallbackKind};
use tollgate_host::clip::clip_to;
use tollgate_host::engine::{CodeId, Instance, Module, Trap};
use tollgate_host::limits::Bounded;
use tollgate_module::{InvalidModule, Problem};
use wasmtime::Engine;

use crate::Limits;
use crate::guest::Guest;
use crate::link::Linked;

/// How much is told of what is wrong with a module.
const MOST_WORDS_BYTES: usize = 2000;

/// A module that is compiled and linked to the host functions.
pub struct WasmModule {
    code: CodeId,
    abi: AbiVersion,
    /// Whether it exports each callback, by their place in the table.
    callbacks: Vec<bool>,
    starts: Vec<&'static str>,
    unserved: Vec<String>,
    linked: Linked,
    limits: Limits,
}

impl From<WasmModule> for Arc<dyn Module> {
    fn from(module: WasmModule) -> Self {
        Arc::new(module)
    }
}

impl Module for WasmModule {
    fn code(&self) -> CodeId {
        self.code
    }

    fn abi(&self) -> AbiVersion {
        self.abi
    }

    fn exports(&self, callback: CallbackKind) -> bool {
        self.callbacks.get(callback as usize).is_some_and(|&exports| exports)
    }

    fn unserved(&self) -> &[String] {
        &self.unserved
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Trap> {
        Ok(Box::new(Guest::new(&self.linked, self.abi, self.starts.clone(), self.limits)?))
    }
}

/// Why a module cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The bytes are no module.
    Invalid(InvalidModule),
    /// There are more bytes than a module may have.
    TooLarge {
        /// How many, the bound, and how to raise it.
        what: String,
    },
    /// Envoy would refuse the module, with these words, one for each thing that is wrong.
    Refused(Vec<String>),
    /// Envoy may load the module, but this engine cannot compile it.
    Unsupported(String),
}

impl LoadError {
    /// What Envoy says at the end when it refuses bytes that are no module.
    const NO_CODE: &'static str = "Failed to load Wasm code";
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "{}\n{why}", Self::NO_CODE),
            Self::TooLarge { what } => f.write_str(what),
            Self::Refused(words) => f.write_str(&words.join("\n")),
            Self::Unsupported(why) => write!(f, "the engine cannot compile the module: {why}"),
        }
    }
}

impl std::error::Error for LoadError {}

pub(crate) fn load(engine: &Engine, limits: Limits, bytes: &[u8]) -> Result<WasmModule, LoadError> {
    if bytes.len() > limits.module_bytes {
        let beyond = limits.exceeded(Bounded::module_bytes);
        let what = format!("the module has {} bytes, {beyond}", bytes.len());
        return Err(LoadError::TooLarge { what });
    }
    let module = tollgate_module::Module::read(bytes).map_err(LoadError::Invalid)?;
    let problems = module.check();
    let unserved: Vec<String> = problems.iter().filter_map(Problem::missing_function).collect();
    let refusals: Vec<String> = problems.iter().filter_map(Problem::refusal).collect();
    let is_good_but_for_these = refusals.len() == unserved.len();
    let Some(abi) = module.abi().filter(|_| is_good_but_for_these) else {
        return Err(LoadError::Refused(refusals));
    };
    let compiled = wasmtime::Module::from_binary(engine, bytes);
    let linked = compiled.and_then(|compiled| Linked::new(engine, compiled, abi));
    let unsupported = |error: wasmtime::Error| {
        LoadError::Unsupported(clip_to(&format_args!("{error:#}"), MOST_WORDS_BYTES))
    };
    Ok(WasmModule {
        code: CodeId::of(bytes),
        abi,
        callbacks: callbacks(&module),
        starts: module.start_functions(),
        unserved,
        linked: linked.map_err(unsupported)?,
        limits,
    })
}

fn callbacks(module: &tollgate_module::Module) -> Vec<bool> {
    let exported: HashSet<CallbackKind> = module.callbacks().collect();
    CallbackKind::ALL.iter().map(|kind| exported.contains(kind)).collect()
}
