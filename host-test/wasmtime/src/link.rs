//! Linking a module: each import to what answers it. What an answer is, is decided elsewhere.

use tollgate_abi::{AbiVersion, Served, Shim};
use tollgate_host::scenario::ImportAnswer;
use wasmtime::{
    Caller, Error, ExternType, FuncType, Instance, InstancePre, Linker, Memory, Module, Ref, Store,
    Table, Val, ValType,
};

use crate::guest::{GuestMemory, MOST_WORDS, Slot, read, serve_stub};
use crate::imports;

/// A module whose functions are linked.
pub(crate) struct Linked {
    linker: Linker<Slot>,
    module: Module,
    /// Links it at once; a module that imports a memory or a table gets new ones for each instance.
    pre: Option<InstancePre<Slot>>,
}

impl Linked {
    /// Links the functions that a module imports: those that no host serves to what the scenario says.
    pub(crate) fn new(
        engine: &wasmtime::Engine,
        module: Module,
        abi: AbiVersion,
    ) -> Result<Self, Error> {
        let mut linker = Linker::new(engine);
        // A module may import one function twice, also with two signatures.
        linker.allow_shadowing(true);
        let mut imports_functions_only = true;
        for import in module.imports() {
            let (from, name) = (import.module(), import.name());
            let ExternType::Func(ty) = import.ty() else {
                imports_functions_only = false;
                continue;
            };
            match Served::from_import(from, name, abi) {
                Some(Served::Function(function)) => imports::define(&mut linker, function, from),
                Some(Served::Stub(stub)) => {
                    link(&mut linker, (from, name), ty, move |caller, words, results| {
                        serve_stub(stub, caller, words, results)
                    })
                }
                Some(Served::Shim(shim)) => {
                    link(&mut linker, (from, name), ty, move |caller, words, results| {
                        serve_shim(shim, caller, words, results)
                    })
                }
                None => {
                    let path = format!("{from}.{name}");
                    let types: Vec<ValType> = ty.results().collect();
                    link(&mut linker, (from, name), ty, move |caller, words, results| {
                        serve_declared(&path, &types, caller, words, results)
                    })
                }
            }?;
        }
        let pre = imports_functions_only.then(|| linker.instantiate_pre(&module)).transpose()?;
        Ok(Self { linker, module, pre })
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.module.engine()
    }

    /// Makes an instance, with memories and tables for what it imports of these: as on Envoy, as large as
    /// it says, and with nothing in them.
    pub(crate) fn instantiate(&self, store: &mut Store<Slot>) -> Result<Instance, Error> {
        if let Some(pre) = &self.pre {
            return pre.instantiate(store);
        }
        let mut linker = self.linker.clone();
        for import in self.module.imports() {
            let (from, name) = (import.module(), import.name());
            match import.ty() {
                ExternType::Memory(ty) => {
                    let memory = Memory::new(&mut *store, ty)?;
                    store.data_mut().memory = Some(memory);
                    linker.define(&mut *store, from, name, memory)?;
                }
                ExternType::Table(ty) => {
                    let nothing = Ref::null(ty.element().heap_type());
                    let table = Table::new(&mut *store, ty, nothing)?;
                    linker.define(&mut *store, from, name, table)?;
                }
                ExternType::Func(_) | ExternType::Global(_) | ExternType::Tag(_) => {}
            }
        }
        linker.instantiate(store, &self.module)
    }

    /// The memory that the guest shares with the host: as on Envoy the last that it exports, whatever its
    /// name.
    pub(crate) fn exported_memory(
        &self,
        store: &mut Store<Slot>,
        instance: Instance,
    ) -> Option<Memory> {
        let exports = self.module.exports();
        let memory =
            exports.filter(|export| matches!(export.ty(), ExternType::Memory(_))).last()?;
        instance.get_memory(store, memory.name())
    }
}

fn link(
    linker: &mut Linker<Slot>,
    (module, name): (&str, &str),
    ty: FuncType,
    function: impl Fn(Caller<'_, Slot>, &[Val], &mut [Val]) -> Result<(), Error> + Send + Sync + 'static,
) -> Result<(), Error> {
    linker.func_new(module, name, ty, function)?;
    Ok(())
}

/// Serves one call of a function beside the ABI and WASI.
fn serve_shim(
    shim: Shim,
    mut caller: Caller<'_, Slot>,
    words: &[Val],
    results: &mut [Val],
) -> Result<(), Error> {
    let world = &mut caller.data_mut().world;
    let mut bits = [0; MOST_WORDS];
    let word = world.answer_shim(shim, read(words, &mut bits)?).map_err(Error::msg)?;
    if let Some(result) = results.first_mut() {
        *result = Val::I32(word.cast_signed());
    }
    Ok(())
}

/// Serves one call of an import that the scenario declares.
fn serve_declared(
    path: &str,
    types: &[ValType],
    mut caller: Caller<'_, Slot>,
    words: &[Val],
    results: &mut [Val],
) -> Result<(), Error> {
    let (word, given) = match caller.data_mut().world.answer_import(path) {
        ImportAnswer::Trap => return Err(Error::msg(format!("{path}: the scenario has it trap"))),
        ImportAnswer::Return { word, given } => (word, given),
    };
    for (result, ty) in results.iter_mut().zip(types) {
        *result = match ty {
            // As C does: what is too large for 32 bits loses its upper half.
            #[expect(clippy::cast_possible_truncation, reason = "see above")]
            ValType::I32 => Val::I32(word as i32),
            ValType::I64 => Val::I64(word),
            other => Val::default_for_ty(other).unwrap_or(Val::I32(0)),
        };
    }
    let Some(given) = given else { return Ok(()) };
    let place = words.iter().rev().map_while(Val::i32).map(i32::cast_unsigned);
    let place: Vec<u32> = place.take(given.places()).collect();
    let mut memory = GuestMemory::new(&mut caller);
    let written = given.write(&place, &mut memory);
    let trap = memory.trap.take();
    match (trap, written) {
        (Some(trap), _) => Err(trap),
        (None, Some(())) => Ok(()),
        (None, None) => Err(Error::msg(format!(
            "{path}: what the scenario gives has no place in the guest: its last arguments are {place:?}"
        ))),
    }
}
