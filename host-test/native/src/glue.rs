//! The border itself: host functions with their C names, made from the table of `tollgate-abi`.
//!
//! Pointers are those of this process, and are trusted
//! as far as the filter is: it is Rust code linked into the same program.
#![expect(unsafe_code, reason = "the null engine's guests hand over pointers of this process")]

use std::cell::RefCell;
use std::rc::Rc;

use tollgate_abi::{Call, Function, Memory, PointerWidth, Reply, Served, Status};
use tollgate_host::world::World;

/// What answers the host calls of a guest.
pub(crate) enum Host {
    /// The host core.
    World(Box<World>),
    /// A test, which may call the guest back while it answers.
    Scripted(Script),
}

/// A host of a test.
pub(crate) type Script = Rc<dyn Fn(&Call) -> Scripted>;

/// What a host of a test gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scripted {
    /// An answer as hosts give it.
    Reply(Reply),
    /// The call is said to be carried out: where bytes were asked for, this many are announced at the
    /// null pointer. Where none were, the call is refused.
    NoBytes {
        /// How many bytes there are said to be.
        size: usize,
    },
}

thread_local! {
    /// The host while a guest runs on this thread.
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Runs `guest` with `host` in reach of its host calls, and hands the host back.
pub(crate) fn with_host<T>(host: Host, guest: impl FnOnce() -> T) -> (Option<Host>, T) {
    let before = HOST.replace(Some(host));
    let result = guest();
    (HOST.replace(before), result)
}

fn host_call(function: Function, words: &[u64]) -> u32 {
    let call = Call::decode(function, words, &Process);
    if let Some(answer) = scripted() {
        return match call {
            Ok(call) => deliver(&answer(&call), function, words),
            Err(_) => Status::InvalidMemoryAccess.into(),
        };
    }
    let restricted = HOST.try_with(|host| match host.borrow_mut().as_mut() {
        Some(Host::World(world)) => world.refuse_restricted(Served::Function(function)),
        Some(Host::Scripted(_)) | None => None,
    });
    if let Ok(Some(word)) = restricted {
        return word;
    }
    let reply = HOST.try_with(|host| match (host.borrow_mut().as_mut(), call) {
        (Some(Host::World(world)), Ok(call)) => world.handle(call),
        (Some(Host::World(world)), Err(fault)) => world.refuse(function, fault),
        (Some(Host::Scripted(_)) | None, _) => {
            Reply::refused(Status::InternalFailure, "no guest runs on this thread")
        }
    });
    // A thread that ends drops what its guest has left, which may call a host that is gone.
    let reply =
        reply.unwrap_or_else(|_| Reply::refused(Status::InternalFailure, "the thread is over"));
    // The host is free again: writing the answer runs the guest's allocator.
    written(&reply, function, words)
}

/// Writes an answer, and gives what the call returns. The memory of a process takes every answer.
fn written(reply: &Reply, function: Function, words: &[u64]) -> u32 {
    let delivered = reply.deliver(function, words, &mut Process);
    delivered.map_or(Status::InternalFailure, |delivered| delivered.status).into()
}

/// The test that answers on this thread. It is not borrowed while it does.
fn scripted() -> Option<Script> {
    let host = HOST.try_with(|host| match &*host.borrow() {
        Some(Host::Scripted(answer)) => Some(Rc::clone(answer)),
        Some(Host::World(_)) | None => None,
    });
    host.ok().flatten()
}

fn deliver(answer: &Scripted, function: Function, words: &[u64]) -> u32 {
    let size = match answer {
        Scripted::Reply(reply) => return written(reply, function, words),
        Scripted::NoBytes { size } => *size,
    };
    // Pointer and size come last, but for the number that comes with a shared value.
    let after = usize::from(function == Function::GetSharedData);
    let slots = words.len().checked_sub(2 + after).and_then(|at| words.get(at..)?.first_chunk());
    match (function, slots) {
        (
            Function::GetStatus
            | Function::GetProperty
            | Function::GetSharedData
            | Function::DequeueSharedQueue
            | Function::GetHeaderMapPairs
            | Function::GetBufferBytes,
            Some(&[data, length]),
        ) => {
            let write = |address, value: usize| Process.write(address, &value.to_ne_bytes());
            match (write(data, 0), write(length, size)) {
                (Some(()), Some(())) => Status::Ok.into(),
                _ => Status::InvalidMemoryAccess.into(),
            }
        }
        _ => Status::InternalFailure.into(),
    }
}

/// The memory of this process.
struct Process;

impl Memory for Process {
    fn pointer_width(&self) -> PointerWidth {
        PointerWidth::Eight
    }

    fn read(&self, address: u64, size: u64) -> Option<&[u8]> {
        let pointer = pointer(address)?;
        // SAFETY: the filter passed pointer and size of a slice that it borrows for the host call.
        Some(unsafe { std::slice::from_raw_parts(pointer, usize::try_from(size).ok()?) })
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let pointer = pointer(address)?;
        // SAFETY: the filter passed the address of a slot of this size, or of memory that it has just
        // allocated for these bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer, bytes.len()) };
        Some(())
    }

    fn allocate(&mut self, size: usize) -> Option<u64> {
        // SAFETY: the allocator of the filter takes any size.
        let pointer = unsafe { proxy_on_memory_allocate(size) };
        u64::try_from(pointer.expose_provenance()).ok().filter(|&address| address != 0)
    }
}

fn pointer(address: u64) -> Option<*mut u8> {
    let address = usize::try_from(address).ok().filter(|&address| address != 0)?;
    Some(std::ptr::with_exposed_provenance_mut(address))
}

/// A raw argument or result in 64 bits.
trait Bits {
    fn bits(self) -> u64;
}

impl Bits for u32 {
    fn bits(self) -> u64 {
        self.into()
    }
}

impl Bits for usize {
    fn bits(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }
}

impl Bits for u64 {
    fn bits(self) -> u64 {
        self
    }
}

impl Bits for i64 {
    fn bits(self) -> u64 {
        self.cast_unsigned()
    }
}

impl<T> Bits for *const T {
    fn bits(self) -> u64 {
        self.expose_provenance().bits()
    }
}

impl<T> Bits for *mut T {
    fn bits(self) -> u64 {
        self.expose_provenance().bits()
    }
}

macro_rules! define_host_functions {
    ($( $(#[$doc:meta])* $versions:ident $module:tt $name:ident = $variant:ident { $( $field:ident : $kind:ty [ $($word:ident : $word_type:ty),* ] ),* } -> $answer:ident [ $($slot:ident : $slot_type:ty),* ]; )*) => {
        $( define_host_functions!(@ $module $name $variant ($($($word: $word_type,)*)* $($slot: $slot_type,)*)); )*
    };
    (@ "env" $name:ident $variant:ident ($($word:ident : $type:ty,)*)) => {
        // SAFETY: the name belongs to the ABI; nothing else in a filter's program defines it.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($word: $type),*) -> u32 {
            host_call(Function::$variant, &[$($word.bits()),*])
        }
    };
    // A native filter takes what WASI offers from the operating system.
    (@ "wasi_snapshot_preview1" $($rest:tt)*) => {};
}

tollgate_abi::host_functions!(define_host_functions);

unsafe extern "C" {
    /// The allocator of the filter: its SDK defines it.
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
}
