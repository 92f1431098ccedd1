//! A module whose instances tell what each callback took: its time and its fuel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tollgate_abi::{AbiVersion, Callback, CallbackKind};
use tollgate_host::engine::{CodeId, Instance, Module, Trap};
use tollgate_host::world::World;

/// What callbacks took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Mutex<Readings>>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) callbacks: BTreeMap<CallbackKind, Taken>,
    /// The memory of the largest guest that was made, or configured since.
    pub(crate) configured_bytes: Option<u64>,
}

/// What one callback took, all times that it ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) times: u32,
    pub(crate) time: Duration,
    pub(crate) fuel: u64,
}

impl Meter {
    /// A module that does as `module` and is metered.
    pub(crate) fn on(&self, module: Arc<dyn Module>) -> Arc<dyn Module> {
        Arc::new(Metered { module, meter: self.clone() })
    }

    /// What was read since this was asked last.
    pub(crate) fn take(&self) -> Readings {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let configured_bytes = readings.configured_bytes;
        Readings { configured_bytes, ..std::mem::take(&mut *readings) }
    }

    fn note(&self, kind: CallbackKind, taken: Taken) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = readings.callbacks.entry(kind).or_default();
        sum.times = sum.times.saturating_add(taken.times);
        sum.time = sum.time.saturating_add(taken.time);
        sum.fuel = sum.fuel.saturating_add(taken.fuel);
    }

    fn note_memory(&self, bytes: Option<u64>) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.configured_bytes = readings.configured_bytes.max(bytes);
    }
}

struct Metered {
    module: Arc<dyn Module>,
    meter: Meter,
}

impl Module for Metered {
    fn code(&self) -> CodeId {
        self.module.code()
    }

    fn abi(&self) -> AbiVersion {
        self.module.abi()
    }

    fn exports(&self, callback: CallbackKind) -> bool {
        self.module.exports(callback)
    }

    fn unserved(&self) -> &[String] {
        self.module.unserved()
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Trap> {
        let instance = self.module.instantiate()?;
        self.meter.note_memory(instance.memory_bytes());
        Ok(Box::new(MeteredInstance { instance, meter: self.meter.clone() }))
    }
}

struct MeteredInstance {
    instance: Box<dyn Instance>,
    meter: Meter,
}

impl Instance for MeteredInstance {
    fn start(&mut self, world: &mut Box<World>) -> Result<(), Trap> {
        self.instance.start(world)
    }

    fn call(&mut self, world: &mut Box<World>, callback: &Callback) -> Result<u32, Trap> {
        let fuel_before = self.instance.fuel_used().unwrap_or_default();
        let begin = Instant::now();
        let result = self.instance.call(world, callback);
        let time = begin.elapsed();
        let fuel = self.instance.fuel_used().unwrap_or_default().saturating_sub(fuel_before);
        let taken = Taken { times: 1, time, fuel };
        self.meter.note(callback.kind(), taken);
        if callback.kind() == CallbackKind::Configure {
            self.meter.note_memory(self.instance.memory_bytes());
        }
        result
    }

    fn fuel_used(&self) -> Option<u64> {
        self.instance.fuel_used()
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.instance.memory_bytes()
    }

    fn handed_bytes(&self) -> Option<u64> {
        self.instance.handed_bytes()
    }
}
