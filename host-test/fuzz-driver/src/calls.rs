//! Arbitrary host calls in arbitrary callbacks, without an engine.

use std::cell::Cell;
use std::sync::Arc;

use arbitrary::Arbitrary;
use tollgate_abi::{
    AbiVersion, Call, Callback, CallbackKind, Function, Memory, PointerWidth, Reply,
};
use tollgate_host::engine::{CodeId, Instance, Module, Trap};
use tollgate_host::world::World;

use crate::play::{Tally, run};

/// As many calls a callback makes at most.
const MOST_CALLS: usize = 24;

/// What a guest does, callback by callback; it begins anew when it comes to the end.
#[derive(Clone, Debug, Arbitrary)]
pub struct CallsCase {
    callbacks: Vec<(Vec<RawCall>, Returned)>,
    /// What lies in its memory besides what calls need.
    bytes: Vec<u8>,
}

/// A call before its words are chosen.
#[derive(Clone, Debug, Arbitrary)]
struct RawCall {
    function: u8,
    words: [Word; 12],
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Word {
    Small(u8),
    /// Address and length of a text that some call takes.
    Text(u8),
    Length(u8),
    Any(u32),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Returned {
    Agree,
    Small(u8),
    Any(u32),
    Trap,
}

/// Texts that get calls somewhere: names, pairs, messages.
const TEXTS: [&[u8]; 12] = [
    b"authz",
    b"limits",
    b"x-user",
    b"request\0path",
    b"k",
    b"\x0a\x08\x0a\x06limits",
    b"\x0a\x04\x0a\x02no",
    b"compress",
    b"uncompress",
    b"declare_property",
    b"set_envoy_filter_state",
    b"\x03\0\0\0\x07\0\0\0\x03\0\0\0\x05\0\0\0\x01\0\0\0\x0a\0\0\0\x01\0\0\0:method\0GET\0:path\0/\0:authority\0a\0",
];

/// Where a text lies.
const TEXT_BYTES: usize = 64;

/// Plays a case.
///
/// # Errors
///
/// What the host should not have done.
pub fn run_calls(case: &CallsCase) -> Result<Tally, String> {
    let module: Arc<dyn Module> = Arc::new(Anything(Arc::new(case.clone())));
    run(&module)
}

/// The module of guests that do anything.
struct Anything(Arc<CallsCase>);

struct Guest {
    case: Arc<CallsCase>,
    /// The callback that comes next.
    at: Cell<usize>,
}

impl Module for Anything {
    fn code(&self) -> CodeId {
        CodeId::of("anything")
    }

    fn abi(&self) -> AbiVersion {
        AbiVersion::V0_2_1
    }

    fn exports(&self, _: CallbackKind) -> bool {
        true
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Trap> {
        Ok(Box::new(Guest { case: Arc::clone(&self.0), at: Cell::new(0) }))
    }
}

impl Instance for Guest {
    fn start(&mut self, _: &mut Box<World>) -> Result<(), Trap> {
        Ok(())
    }

    fn call(&mut self, world: &mut Box<World>, callback: &Callback) -> Result<u32, Trap> {
        let count = self.case.callbacks.len();
        let Some((calls, returned)) =
            self.at.get().checked_rem(count).and_then(|at| self.case.callbacks.get(at))
        else {
            return Ok(agree(callback));
        };
        self.at.set(self.at.get().wrapping_add(1));
        // Before the first stream most of what is done lets no proxy start.
        let calls = if callback.context() > 1 { calls.as_slice() } else { &[] };
        for raw in calls.iter().take(MOST_CALLS) {
            let reply = self.make(world, raw);
            if let Reply::Trap { why } = reply {
                return Err(Trap { message: why.into_owned(), backtrace: Vec::new() });
            }
        }
        match returned {
            Returned::Small(word) if callback.context() > 1 => Ok((word % 6).into()),
            Returned::Any(word) if callback.context() > 1 => Ok(*word),
            Returned::Trap if callback.context() > 1 => {
                Err(Trap { message: "it trapped".into(), backtrace: Vec::new() })
            }
            Returned::Agree | Returned::Small(_) | Returned::Any(_) | Returned::Trap => {
                Ok(agree(callback))
            }
        }
    }

    fn fuel_used(&self) -> Option<u64> {
        None
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

impl Guest {
    fn make(&self, world: &mut World, raw: &RawCall) -> Reply {
        let all = Function::ALL;
        let function =
            all.get(usize::from(raw.function) % all.len()).copied().unwrap_or(Function::Log);
        let words = raw.words.iter().map(|word| match *word {
            Word::Small(small) => u64::from(small % 8),
            Word::Text(text) => u64::from(text) % 16 * 64,
            Word::Length(length) => {
                let text = TEXTS.get(usize::from(length) % 16).copied().unwrap_or_default();
                u64::try_from(text.len()).unwrap_or_default()
            }
            Word::Any(any) => any.into(),
        });
        let words: Vec<u64> = words.take(function.words().len()).collect();
        match Call::decode(function, &words, &Lying(&self.case.bytes)) {
            Ok(call) => world.handle(call),
            Err(fault) => world.refuse(function, fault),
        }
    }
}

fn agree(callback: &Callback) -> u32 {
    match callback.kind() {
        CallbackKind::VmStart | CallbackKind::Configure | CallbackKind::Done => 1,
        _ => 0,
    }
}

/// Memory with the texts at its begin and arbitrary bytes behind them.
struct Lying<'a>(&'a [u8]);

impl Memory for Lying<'_> {
    fn pointer_width(&self) -> PointerWidth {
        PointerWidth::Four
    }

    fn read(&self, address: u64, size: u64) -> Option<&[u8]> {
        let (start, size) = (usize::try_from(address).ok()?, usize::try_from(size).ok()?);
        let end = start.checked_add(size)?;
        match TEXTS.get(start / TEXT_BYTES) {
            Some(text) => text.get(start % TEXT_BYTES..)?.get(..size),
            None => self.0.get(start.checked_sub(TEXTS.len() * TEXT_BYTES)?..)?.get(..end - start),
        }
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Option<()> {
        None
    }

    fn allocate(&mut self, _: usize) -> Option<u64> {
        None
    }
}
