//! The border: every host function and every callback, from the tables of `tollgate-abi`. All `unsafe`
//! of the probe is here.
//!
//! A host function is called with what a script says, and what it wrote is shown as it is: no status,
//! size or number is taken for impossible.
#![expect(
    unsafe_code,
    reason = "host functions are foreign, and their answers lie in memory that changes owners"
)]

use std::fmt::Write;
use std::ptr;

use tollgate_abi::{BufferType, LogLevel, MapType, MetricType, Serialized, StreamType};

use crate::on;
use crate::script::Word;

/// Calls a host function and shows the status and all that it wrote.
pub(crate) type HostCall = fn(&[Word]) -> String;

/// Declares the imports, and finds the call of each by its name.
macro_rules! host_calls {
    ($( $(#[$doc:meta])* $versions:ident $module:tt $name:ident = $variant:ident { $( $field:ident : $kind:ty [ $($word:ident : $word_type:ty),* ] ),* } -> $answer:ident [ $($slot:ident : $slot_type:ty),* ]; )*) => {
        $( host_calls!(@declare $versions $module $name ($($($word: $word_type,)*)* $($slot: $slot_type,)*)); )*

        /// The call of a host function; `name` is without `proxy_`.
        pub(crate) fn find(name: &str) -> Option<HostCall> {
            $( host_calls!(@find $versions $module $name name { $($field: $kind [ $($word_type),* ])* } [ $($slot: $slot_type),* ]); )*
            None
        }
    };
    // An import that the version of the ABI does not have keeps Envoy from loading the module, and the
    // standard library calls what it needs of WASI.
    (@$step:ident ANY $($rest:tt)*) => { host_calls!(@@$step $($rest)*); };
    (@$step:ident UNTIL_0_1_0 $($rest:tt)*) => {
        #[cfg(feature = "abi-0-1-0")]
        host_calls!(@@$step $($rest)*);
    };
    (@$step:ident $since:ident $($rest:tt)*) => {
        #[cfg(not(feature = "abi-0-1-0"))]
        host_calls!(@@$step $($rest)*);
    };
    (@@$step:ident "wasi_snapshot_preview1" $($rest:tt)*) => {};
    (@@declare "env" $name:ident ($($word:ident: $type:ty,)*)) => {
        #[link(wasm_import_module = "env")]
        unsafe extern "C" {
            fn $name($($word: $type),*) -> u32;
        }
    };
    (@@find "env" $name:ident $wanted:ident { $($field:ident: $kind:ty [ $($word_type:ty),* ])* } [ $($slot:ident: $slot_type:ty),* ]) => {
        if stringify!($name).strip_prefix("proxy_") == Some($wanted) {
            let call: HostCall = |words| {
                let mut words = words.iter().cloned();
                let mut slots = Slots::UNTOUCHED;
                $( let $field = <$kind as Kind>::argument(&words.next().unwrap_or_default()); )*
                // SAFETY: pointers and sizes are those of vectors that outlive the call and that the
                // host only reads; what it writes are numbers and pointers, to the addresses of such.
                let status = unsafe {
                    $name($($( <$word_type>::of(&$field), )*)* $( <$slot_type>::place(&mut slots) ),*)
                };
                let mut shown = status.to_string();
                $( <$slot_type>::show(&slots, stringify!($slot), &mut shown); )*
                // The calls that neither take nor give anything leave these as they are.
                let _unused = (&mut words, &mut slots, &mut shown);
                shown
            };
            return Some(call);
        }
    };
}

tollgate_abi::host_functions!(host_calls);

/// Exports each callback.
macro_rules! callbacks {
    ($( $(#[$doc:meta])* $name:ident = $variant:ident { $( $field:ident : $type:ty ),* } -> $returns:tt $rust:tt; )*) => {
        $( callbacks!(@ $returns $name $($field)*); )*
    };
    (@ Nothing $name:ident $($field:ident)*) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name(context: u32 $(, $field: u32)*) {
            on(stringify!($name), &[("context", context) $(, (stringify!($field), $field))*], 0);
        }
    };
    (@ Headers $name:ident $($field:ident)*) => {
        #[cfg(not(feature = "abi-0-1-0"))]
        callbacks!(@@ 0 $name $($field)*);
        #[cfg(feature = "abi-0-1-0")]
        callbacks!(@@ 0 $name count);
    };
    (@ Boolean $name:ident $($field:ident)*) => { callbacks!(@@ 1 $name $($field)*); };
    (@ $returns:ident $name:ident $($field:ident)*) => { callbacks!(@@ 0 $name $($field)*); };
    (@@ $default:literal $name:ident $($field:ident)*) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name(context: u32 $(, $field: u32)*) -> u32 {
            on(stringify!($name), &[("context", context) $(, (stringify!($field), $field))*], $default)
        }
    };
}

tollgate_abi::callbacks!(callbacks);

#[cfg(not(feature = "abi-0-1-0"))]
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[cfg(feature = "abi-0-1-0")]
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_1_0() {}

/// The host puts what it answers in memory that it asks for here; [`Slots::bytes`] frees it.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; size].into_boxed_slice()).cast()
}

/// Runs what has to run before anything else in a module.
///
/// A library of WASI that does not call this itself is taken for a command by the linker, which would
/// then run it at every callback anew.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    #[cfg(target_os = "wasi")]
    {
        unsafe extern "C" {
            fn __wasm_call_ctors();
        }
        // SAFETY: the linker defines it, and this is called once, before any other code.
        unsafe { __wasm_call_ctors() };
    }
}

/// Writes a line at level info.
pub(crate) fn log(line: &str) {
    // SAFETY: pointer and size are those of one slice, which the host only reads.
    unsafe { proxy_log(LogLevel::Info.into(), line.as_ptr(), line.len()) };
}

/// The configuration of the plugin.
pub(crate) fn configuration() -> Vec<u8> {
    let mut slots = Slots { size: 0, ..Slots::UNTOUCHED };
    // SAFETY: the host writes one pointer and one size to the addresses of such.
    unsafe {
        proxy_get_buffer_bytes(
            BufferType::PluginConfiguration.into(),
            0,
            u32::MAX,
            &raw mut slots.data,
            &raw mut slots.size,
        )
    };
    slots.bytes().unwrap_or_default()
}

/// What a word of the script is as an argument.
struct Argument {
    bytes: Vec<u8>,
    number: u32,
    wide: i64,
}

/// A kind of argument of the table.
trait Kind {
    fn argument(word: &Word) -> Argument {
        Argument { bytes: word.bytes(), number: word.number(), wide: word.wide() }
    }
}

impl Kind for u32 {}
impl Kind for u64 {}
impl Kind for i64 {}
impl Kind for Vec<u8> {}
impl Kind for BufferType {}
impl Kind for LogLevel {}
impl Kind for MapType {}
impl Kind for MetricType {}
impl Kind for StreamType {}

impl Kind for Serialized {
    fn argument(word: &Word) -> Argument {
        Argument { bytes: word.serialized(), number: 0, wide: 0 }
    }
}

/// A raw word that an argument becomes.
trait Raw {
    fn of(argument: &Argument) -> Self;
}

impl Raw for u32 {
    fn of(argument: &Argument) -> Self {
        argument.number
    }
}

impl Raw for i64 {
    fn of(argument: &Argument) -> Self {
        argument.wide
    }
}

impl Raw for u64 {
    fn of(argument: &Argument) -> Self {
        argument.wide.cast_unsigned()
    }
}

impl Raw for *const u8 {
    fn of(argument: &Argument) -> Self {
        argument.bytes.as_ptr()
    }
}

impl Raw for usize {
    fn of(argument: &Argument) -> Self {
        argument.bytes.len()
    }
}

/// Where a host function writes; no function has two places of one type.
struct Slots {
    number: u32,
    wide: u64,
    data: *mut u8,
    size: usize,
}

impl Slots {
    /// What the host does not write keeps a value that stands out.
    const UNTOUCHED: Self =
        Self { number: 0xdead, wide: 0xdead, data: ptr::null_mut(), size: 0xdead };

    /// Takes over the bytes, if the host has given any.
    fn bytes(&self) -> Option<Vec<u8>> {
        if self.data.is_null() || self.size == Self::UNTOUCHED.size {
            return None;
        }
        // SAFETY: by the ABI, `data` is what `proxy_on_memory_allocate(size)` returned for this call:
        // the pointer of a boxed slice of `size` bytes, which nobody else frees; each slot is shown
        // once.
        let bytes = unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.data, self.size)) };
        Some(bytes.into_vec())
    }
}

/// The address of a slot that a host function writes to.
trait Slot {
    fn place(slots: &mut Slots) -> Self;
    fn show(slots: &Slots, name: &str, shown: &mut String);
}

impl Slot for *mut u32 {
    fn place(slots: &mut Slots) -> Self {
        &raw mut slots.number
    }

    fn show(slots: &Slots, name: &str, shown: &mut String) {
        show(name, slots.number, shown);
    }
}

impl Slot for *mut u64 {
    fn place(slots: &mut Slots) -> Self {
        &raw mut slots.wide
    }

    fn show(slots: &Slots, name: &str, shown: &mut String) {
        show(name, slots.wide, shown);
    }
}

impl Slot for *mut usize {
    fn place(slots: &mut Slots) -> Self {
        &raw mut slots.size
    }

    fn show(slots: &Slots, name: &str, shown: &mut String) {
        show(name, slots.size, shown);
    }
}

impl Slot for *mut *mut u8 {
    fn place(slots: &mut Slots) -> Self {
        &raw mut slots.data
    }

    fn show(slots: &Slots, name: &str, shown: &mut String) {
        match slots.bytes() {
            Some(bytes) => show(name, format_args!("\"{}\"", bytes.escape_ascii()), shown),
            None => show(name, "null", shown),
        }
    }
}

fn show(name: &str, value: impl std::fmt::Display, shown: &mut String) {
    // Writing to a string does not fail.
    let _written = write!(shown, " {name}={value}");
}
