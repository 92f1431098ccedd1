//! The border itself: host functions with their C names, made from the table of `tollgate-abi`.
//!
//! Pointers are those of this process, and are trusted
//! as far as the filter is: it is Rust code linked into the same program.
#![expect(unsafe_code, reason = "the null engine's guests hand over pointers of this process")]

use std::cell::RefCell;
use std::rc::Rc;

use tollgate_abi::{Call, Function, Memory, PointerWidth, Reply, Status};
use tollgate_host::world::World;

/// What answers the host calls of a guest.
pub(crate) enum Host {
    /// The host core.
    World(Box<World>),
    /// A test.
    Scripted(Rc<dyn Fn(&Call) -> Reply>),
}

thread_local! {
    /// The host while a guest runs on this thread.
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Runs `guest` with `host` in reach of its host calls, and hands the host back.
pub(crate) fn with_host<T>(host: Host, guest: impl FnOnce() -> T) -> (Option<Host>, T) {
    HOST.set(Some(host));
    let result = guest();
    (HOST.take(), result)
}

fn host_call(function: Function, words: &[u64]) -> u32 {
    let call = Call::decode(function, words, &Process);
    let reply = HOST.try_with(|host| {
        let mut borrowed = host.borrow_mut();
        match (borrowed.as_mut(), call) {
            (Some(Host::World(world)), Ok(call)) => world.handle(call),
            (Some(Host::World(world)), Err(fault)) => world.refuse(function, fault),
            (Some(Host::Scripted(answer)), Ok(call)) => {
                let answer = Rc::clone(answer);
                // It may call the guest back, which calls the host again.
                drop(borrowed);
                answer(&call)
            }
            (Some(Host::Scripted(_)), Err(fault)) => {
                Reply::refused(Status::InvalidMemoryAccess, fault.to_string())
            }
            (None, _) => Reply::refused(Status::InternalFailure, "no guest runs on this thread"),
        }
    });
    // A thread that ends drops what its guest has left, which may call a host that is gone.
    let reply =
        reply.unwrap_or_else(|_| Reply::refused(Status::InternalFailure, "the thread is over"));
    // The host is free again: writing the answer runs the guest's allocator.
    u32::from(reply.deliver(function, words, &mut Process).unwrap_or(Status::InternalFailure))
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
