//! The host functions as the linker gets them: each of the table, with the words that it has in wasm.

use tollgate_abi::{Function, host_functions};
use wasmtime::{Caller, Error, Linker};

use crate::guest::{Slot, serve};

/// What a raw word is in wasm.
trait Raw {
    type Wasm;
}

impl Raw for u32 {
    type Wasm = u32;
}
impl Raw for usize {
    type Wasm = u32;
}
impl<T> Raw for *const T {
    type Wasm = u32;
}
impl<T> Raw for *mut T {
    type Wasm = u32;
}
impl Raw for u64 {
    type Wasm = u64;
}
impl Raw for i64 {
    type Wasm = u64;
}

macro_rules! define_imports {
    ($( $(#[$doc:meta])* $versions:ident $module:literal $name:ident = $variant:ident { $( $field:ident : $kind:ty [ $($word:ident : $word_type:ty),* ] ),* } -> $answer:ident [ $($slot:ident : $slot_type:ty),* ]; )*) => {
        /// Defines a host function for modules that import it from `module`.
        ///
        /// # Errors
        ///
        /// It is defined already.
        #[expect(unreachable_patterns, reason = "the row of `proc_exit` gives no status")]
        pub(crate) fn define(
            linker: &mut Linker<Slot>,
            function: Function,
            module: &str,
        ) -> Result<(), Error> {
            let name = function.name();
            match function {
                Function::ProcExit => linker.func_wrap(
                    module,
                    name,
                    |caller: Caller<'_, Slot>, code: u32| {
                        serve(Function::ProcExit, caller, &[code.into()]).map(|_| ())
                    },
                ),
                $( Function::$variant => linker.func_wrap(
                    module,
                    name,
                    |caller: Caller<'_, Slot>, $($( $word: <$word_type as Raw>::Wasm, )*)* $( $slot: <$slot_type as Raw>::Wasm, )*| {
                        serve(Function::$variant, caller, &[ $($( $word.into(), )*)* $( $slot.into(), )* ])
                    },
                ), )*
            }
            .map(|_| ())
        }
    };
}

host_functions!(define_imports);
