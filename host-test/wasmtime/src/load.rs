//! From bytes to a module that can be instantiated.

use std::collections::HashSet;
use std::fmt;

use tollgate_abi::{AbiVersion, CallbackKind, Function, Stub};
use tollgate_host::clip::clip_to;
use tollgate_host::engine::{CodeId, Instance, Module, Trap};
use tollgate_host::limits::Bounded;
use wasmtime::{Engine, ExternType, FuncType, InstancePre, Linker, ValType};

use crate::Limits;
use crate::guest::{Guest, Slot, serve, serve_stub};

/// How much is told of what is wrong with a module.
const MOST_WORDS_BYTES: usize = 2000;

/// A module that is compiled and linked to the host functions.
pub struct WasmModule {
    code: CodeId,
    abi: AbiVersion,
    callbacks: HashSet<CallbackKind>,
    linked: InstancePre<Slot>,
    limits: Limits,
}

impl Module for WasmModule {
    fn code(&self) -> CodeId {
        self.code
    }

    fn abi(&self) -> AbiVersion {
        self.abi
    }

    fn exports(&self, callback: CallbackKind) -> bool {
        self.callbacks.contains(&callback)
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Trap> {
        Ok(Box::new(Guest::new(&self.linked, self.abi, self.limits)?))
    }
}

/// Why a module cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The bytes are not a module that the engine compiles.
    Invalid(String),
    /// There are more bytes than a module may have.
    TooLarge {
        /// How many, the bound, and how to raise it.
        what: String,
    },
    /// No version of the ABI is declared.
    NoAbi,
    /// Imports that this host does not serve, each as `module.name`.
    Imports(Vec<String>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "not a valid module: {why}"),
            Self::TooLarge { what } => f.write_str(what),
            Self::NoAbi => f.write_str(
                "no ABI marker: a Proxy-Wasm module exports proxy_abi_version_0_2_1, _0_2_0 or _0_1_0",
            ),
            Self::Imports(imports) => {
                write!(f, "imports that the host does not serve: {}", imports.join(", "))
            }
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
    let invalid = |error: wasmtime::Error| {
        LoadError::Invalid(clip_to(&format_args!("{error:#}"), MOST_WORDS_BYTES))
    };
    let module = wasmtime::Module::from_binary(engine, bytes).map_err(invalid)?;
    let exports = |name: &str| matches!(module.get_export(name), Some(ExternType::Func(_)));
    let abi = AbiVersion::ALL.into_iter().rev().find(|abi| exports(abi.marker()));
    let abi = abi.ok_or(LoadError::NoAbi)?;

    let mut linker = Linker::new(engine);
    let mut unserved = Vec::new();
    for import in module.imports() {
        if let (Some(stub), ExternType::Func(ty)) =
            (Stub::from_import(import.module(), import.name()), import.ty())
            && is_type(stub.words(), true, &ty)
        {
            linker
                .func_new(import.module(), import.name(), ty, move |caller, words, results| {
                    serve_stub(stub, caller, words, results)
                })
                .map_err(invalid)?;
            continue;
        }
        let function = Function::from_import(import.module(), import.name())
            .filter(|function| function.versions().contain(abi));
        match (function, import.ty()) {
            (Some(function), ExternType::Func(ty)) if is_signature(function, &ty) => {
                linker
                    .func_new(import.module(), import.name(), ty, move |caller, words, results| {
                        serve(function, caller, words, results)
                    })
                    .map_err(invalid)?;
            }
            (Some(_) | None, _) => unserved.push(format!("{}.{}", import.module(), import.name())),
        }
    }
    if !unserved.is_empty() {
        return Err(LoadError::Imports(unserved));
    }
    let callbacks = CallbackKind::ALL.iter().copied().filter(|kind| exports(kind.name())).collect();
    let linked = linker.instantiate_pre(&module).map_err(invalid)?;
    Ok(WasmModule { code: CodeId::of(bytes), abi, callbacks, linked, limits })
}

fn is_signature(function: Function, ty: &FuncType) -> bool {
    is_type(function.words().iter().copied(), function.returns_status(), ty)
}

/// Whether a type has these words, for each whether it is wide, and returns a word or nothing.
fn is_type(words: impl ExactSizeIterator<Item = bool>, returns: bool, ty: &FuncType) -> bool {
    let results = returns.then_some(ValType::I32);
    let length = words.len();
    let params = words.map(|wide| if wide { ValType::I64 } else { ValType::I32 });
    ty.params().len() == length
        && ty.params().zip(params).all(|(got, wanted)| ValType::eq(&got, &wanted))
        && ty.results().len() == results.iter().len()
        && ty.results().zip(results).all(|(got, wanted)| ValType::eq(&got, &wanted))
}
