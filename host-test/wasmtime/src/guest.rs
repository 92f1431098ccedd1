//! An instance of a module: its memory, its limits, and its way to the host.

use std::sync::Arc;

use tollgate_abi::{
    AbiVersion, Call, Callback, CallbackKind, Export, Function, Memory, PointerWidth, Reply,
    Served, Stub,
};
use tollgate_host::engine::{Instance, Trap};
use tollgate_host::world::World;
use wasmtime::{AsContextMut, Caller, Error, Store, TypedFunc, Val};

use crate::backtrace::trap;
use crate::bounds::Bounds;
use crate::exports::Exported;
use crate::handed::Handed;
use crate::link::Linked;
use crate::{EPOCH, Limits};

/// What a store carries: the world while the guest runs, and what its host calls need.
pub(crate) struct Slot {
    pub(crate) world: Box<World>,
    pub(crate) memory: Option<wasmtime::Memory>,
    /// Shared, as a copy of the function itself would be dearer than most allocations.
    allocate: Option<Arc<TypedFunc<u32, u32>>>,
    bounds: Bounds,
    handed: Handed,
}

/// A guest with its memory.
pub(crate) struct Guest {
    cell: Cell,
    instance: wasmtime::Instance,
    /// The callbacks that it exports, by their place in the table.
    callbacks: Vec<Option<Exported>>,
    abi: AbiVersion,
    /// What runs before the first context, in order.
    starts: Vec<&'static str>,
}

/// Where a guest runs: its store, and what it may use.
struct Cell {
    store: Store<Slot>,
    limits: Limits,
    fuel_used: u64,
}

impl Guest {
    pub(crate) fn new(
        linked: &Linked,
        abi: AbiVersion,
        starts: Vec<&'static str>,
        limits: Limits,
    ) -> Result<Self, Trap> {
        let engine = linked.engine();
        let slot = Slot {
            world: Box::default(),
            memory: None,
            allocate: None,
            bounds: Bounds::new(limits),
            handed: Handed::default(),
        };
        let mut store = Store::new(engine, slot);
        store.limiter(|slot| &mut slot.bounds);
        arm(&mut store, limits).map_err(|error| trap(&error, limits, None))?;
        let instance = linked.instantiate(&mut store);
        let denied = store.data_mut().bounds.take_denied();
        let instance = instance.map_err(|error| trap(&error, limits, denied))?;
        let memory = linked.exported_memory(&mut store, instance);
        let allocate = Export::ALLOCATORS
            .iter()
            .find_map(|name| instance.get_typed_func::<u32, u32>(&mut store, name).ok());
        let slot = store.data_mut();
        slot.memory = memory.or(slot.memory);
        slot.allocate = allocate.map(Arc::new);
        let fuel_used = used(&store, limits);
        let callbacks = CallbackKind::ALL
            .iter()
            .map(|kind| Exported::find(&mut store, &instance, kind.name()))
            .collect();
        Ok(Self { cell: Cell { store, limits, fuel_used }, instance, callbacks, abi, starts })
    }
}

impl Cell {
    /// Runs an export with the world in the store.
    fn run(
        &mut self,
        world: &mut Box<World>,
        export: &Exported,
        words: &[u32],
    ) -> Result<u32, Trap> {
        arm(&mut self.store, self.limits).map_err(|error| trap(&error, self.limits, None))?;
        std::mem::swap(&mut self.store.data_mut().world, world);
        let result = export.call(&mut self.store, words);
        std::mem::swap(&mut self.store.data_mut().world, world);
        self.fuel_used += used(&self.store, self.limits);
        let denied = self.store.data_mut().bounds.take_denied();
        result.map_err(|error| trap(&error, self.limits, denied))
    }
}

impl Instance for Guest {
    fn start(&mut self, world: &mut Box<World>) -> Result<(), Trap> {
        for &name in &self.starts {
            let export = Exported::find(&mut self.cell.store, &self.instance, name);
            let export = export.ok_or_else(|| not_exported(name))?;
            // A start function takes what it takes: two words or none.
            let words = [0; 2];
            let words = words.get(..export.words()).unwrap_or(&words);
            self.cell.run(world, &export, words).map_err(|trap| Trap {
                message: format!("Function: {name} failed: {}", trap.message),
                ..trap
            })?;
        }
        Ok(())
    }

    fn call(&mut self, world: &mut Box<World>, callback: &Callback) -> Result<u32, Trap> {
        let kind = callback.kind();
        let export = self.callbacks.get(kind as usize).and_then(Option::as_ref);
        let export = export.ok_or_else(|| not_exported(kind.name()))?;
        self.cell.run(world, export, &callback.words(self.abi))
    }

    fn fuel_used(&self) -> Option<u64> {
        Some(self.cell.fuel_used)
    }

    fn memory_bytes(&self) -> Option<u64> {
        let memory = self.cell.store.data().memory?;
        u64::try_from(memory.data_size(&self.cell.store)).ok()
    }

    fn handed_bytes(&self) -> Option<u64> {
        Some(self.cell.store.data().handed.bytes())
    }
}

/// Serves one host call.
pub(crate) fn serve(
    function: Function,
    mut caller: Caller<'_, Slot>,
    words: &[u64],
) -> Result<u32, Error> {
    if caller.data().memory.is_none() {
        return Err(Error::msg(format!(
            "{function} before the module has a memory to speak of: in a start section, where Envoy crashes"
        )));
    }
    let restricted = caller.data_mut().world.refuse_restricted(Served::Function(function));
    if let Some(word) = restricted {
        return Ok(word);
    }
    let memory = GuestMemory { caller: &mut caller, trap: None };
    let call = Call::decode(function, words, &memory);
    let world = &mut caller.data_mut().world;
    let reply = match call {
        Ok(call) => world.handle(call),
        Err(fault) => world.refuse(function, fault),
    };
    if let Reply::Trap { why } = reply {
        return Err(Error::msg(format!("{function}: {why}")));
    }
    let mut memory = GuestMemory { caller: &mut caller, trap: None };
    let delivered = reply.deliver(function, words, &mut memory)?;
    if let Some(trap) = memory.trap {
        return Err(trap);
    }
    if let Some(fault) = delivered.fault {
        caller.data_mut().world.lose(function, fault);
    }
    Ok(delivered.status.into())
}

/// Serves one call of a function of WASI that only answers.
pub(crate) fn serve_stub(
    stub: &'static Stub,
    mut caller: Caller<'_, Slot>,
    words: &[Val],
    results: &mut [Val],
) -> Result<(), Error> {
    let mut bits = [0; MOST_WORDS];
    if !caller.data().world.may_call(Served::Stub(stub)) {
        let name = stub.name();
        return Err(Error::msg(format!("restricted_callback: {name} before the VM starts")));
    }
    let errno = if let Some(errno) = caller.data_mut().world.refuse_restricted(Served::Stub(stub)) {
        errno
    } else {
        let (mut errno, written) = stub.reply(read(words, &mut bits)?);
        for (address, bytes) in written {
            let mut memory = GuestMemory { caller: &mut caller, trap: None };
            if memory.write(address, bytes).is_none() {
                errno = NO_SUCH_ADDRESS;
            }
        }
        caller.data_mut().world.note_stub(stub, errno);
        errno
    };
    if let Some(result) = results.first_mut() {
        *result = Val::I32(errno.cast_signed());
    }
    Ok(())
}

/// The words of a call as bits.
pub(crate) fn read<'a>(words: &[Val], bits: &'a mut [u64; MOST_WORDS]) -> Result<&'a [u64], Error> {
    let bits = bits.get_mut(..words.len()).ok_or_else(|| Error::msg("too many arguments"))?;
    for (bits, word) in bits.iter_mut().zip(words) {
        *bits = match word {
            Val::I32(word) => u64::from(word.cast_unsigned()),
            Val::I64(word) => word.cast_unsigned(),
            _ => return Err(Error::msg("an argument is neither i32 nor i64")),
        };
    }
    Ok(bits)
}

/// `EFAULT` of WASI preview 1.
const NO_SUCH_ADDRESS: u32 = 21;

/// No function that is served by its words takes more.
pub(crate) const MOST_WORDS: usize = 16;

/// The guest's linear memory, seen from a host call.
pub(crate) struct GuestMemory<'a, 'b> {
    caller: &'a mut Caller<'b, Slot>,
    /// The guest's allocator trapped, which ends the guest.
    pub(crate) trap: Option<Error>,
}

impl<'a, 'b> GuestMemory<'a, 'b> {
    pub(crate) fn new(caller: &'a mut Caller<'b, Slot>) -> Self {
        Self { caller, trap: None }
    }

    fn memory(&self) -> Option<wasmtime::Memory> {
        self.caller.data().memory
    }
}

impl Memory for GuestMemory<'_, '_> {
    fn pointer_width(&self) -> PointerWidth {
        PointerWidth::Four
    }

    fn read(&self, address: u64, size: u64) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        self.memory()?.data(&*self.caller).get(start..end)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        let end = start.checked_add(bytes.len())?;
        let target = self.memory()?.data_mut(&mut *self.caller).get_mut(start..end)?;
        target.copy_from_slice(bytes);
        Some(())
    }

    fn allocate(&mut self, size: usize) -> Option<u64> {
        let allocate = self.caller.data().allocate.clone()?;
        let size = u32::try_from(size).ok()?;
        match allocate.call(self.caller.as_context_mut(), size) {
            Ok(0) => None,
            Ok(address) => {
                let address = u64::from(address);
                self.caller.data_mut().handed.add(address, size.into());
                Some(address)
            }
            Err(trap) => {
                self.trap = Some(trap);
                None
            }
        }
    }
}

/// Gives a callback its fuel and its deadline.
fn arm(store: &mut Store<Slot>, limits: Limits) -> Result<(), Error> {
    store.set_fuel(limits.fuel_per_call)?;
    store.set_epoch_deadline(ticks(limits));
    Ok(())
}

/// How many epochs a call may last.
pub(crate) fn ticks(limits: Limits) -> u64 {
    let ticks = limits.time_per_call.as_nanos().div_ceil(EPOCH.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
}

fn used(store: &Store<Slot>, limits: Limits) -> u64 {
    limits.fuel_per_call.saturating_sub(store.get_fuel().unwrap_or(0))
}

fn not_exported(name: &str) -> Trap {
    Trap { message: format!("the module does not export {name}"), backtrace: Vec::new() }
}
