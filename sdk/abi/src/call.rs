//! A host call as an owned value.

use core::fmt;

use crate::enums::{BufferType, LogLevel, MapType, MetricType, StreamType};
use crate::field::{Destination, Fault, Field, Gathered, Serialized, Words};
use crate::functions::Function;
use crate::memory::Memory;

macro_rules! define_call {
    ($( $(#[$doc:meta])* $versions:ident $module:literal $name:ident = $variant:ident { $( $field:ident : $kind:ty [ $($word:ident : $word_type:ty),* ] ),* } -> $answer:ident [ $($slot:ident : $slot_type:ty),* ]; )*) => {
        /// A host call with its arguments, read out of the guest's memory.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are the arguments of the function, named as in the table")]
        pub enum Call { $( $(#[$doc])* $variant { $( $field: $kind, )* }, )* }

        impl Call {
            /// The function that was called.
            pub const fn function(&self) -> Function {
                match self { $( Self::$variant { .. } => Function::$variant, )* }
            }

            /// The arguments by name, each as the call shows it.
            pub fn arguments(&self) -> Vec<(&'static str, String)> {
                match self { $(
                    Self::$variant { $( $field ),* } => vec![ $( (stringify!($field), Shown($field).to_string()) ),* ],
                )* }
            }

            /// How many bytes its arguments have, besides numbers.
            pub fn size_bytes(&self) -> usize {
                match self { $( Self::$variant { $( $field ),* } => {
                    let sizes: &[usize] = &[ $( Field::size_bytes($field) ),* ];
                    sizes.iter().fold(0, |sum, size| sum.saturating_add(*size))
                } )* }
            }

            /// Reads the arguments of a call.
            ///
            /// # Errors
            ///
            /// [`Fault`] when a pointer or a length leaves the guest's memory.
            pub fn decode(function: Function, words: &[u64], memory: &impl Memory) -> Result<Self, Fault> {
                #[allow(unused_variables, unused_mut, reason = "functions without arguments read nothing")]
                match function { $(
                    Function::$variant => {
                        let mut words = Words(words);
                        Ok(Self::$variant { $( $field: <$kind as Field>::take(&mut words, memory)?, )* })
                    }
                )* }
            }
        }

        impl fmt::Display for Call {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(
                    Self::$variant { $( $field ),* } => {
                        f.write_str(concat!(stringify!($name), "("))?;
                        #[allow(unused_mut, unused_variables, unused_assignments, reason = "functions without arguments separate nothing")]
                        let mut separator = "";
                        $(
                            f.write_str(separator)?;
                            f.write_str(concat!(stringify!($field), "="))?;
                            Field::show($field, f)?;
                            #[allow(unused_assignments, reason = "the last argument separates nothing")]
                            { separator = ", "; }
                        )*
                        f.write_str(")")
                    }
                )* }
            }
        }
    };
}

/// A field as a call shows it.
struct Shown<'a, T>(&'a T);

impl<T: Field> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

crate::host_functions!(define_call);
