//! What guests may use of the machine, and make the host use: all bounds in one place.
//!
//! A proxy has few of them. Here untrusted modules run in somebody's tests, and whatever a guest does has
//! to end in a report that says which bound it met.

use std::fmt;
use std::time::Duration;

use crate::scenario::duration;

/// Declares the limits: name, kind and default stand once.
macro_rules! limits {
    ($( $(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:expr; )*) => {
        /// What guests may use, and make the host use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits { $( $(#[doc = $doc])+ pub $name: $kind, )* }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        impl Limits {
            /// The names of all limits, each with what it bounds and its default.
            pub fn describe() -> Vec<(&'static str, String, String)> {
                let default = Self::default();
                vec![ $( (
                    stringify!($name),
                    [$( $doc.trim() ),+].join(" "),
                    Bound::show(&default.$name),
                ) ),* ]
            }

            /// Sets a limit by its name.
            ///
            /// # Errors
            ///
            /// [`InvalidLimit`] when there is no such limit, or the text is no bound of its kind.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), InvalidLimit> {
                let invalid = |wanted| {
                    let (name, text) = (name.to_owned(), text.to_owned());
                    InvalidLimit::Value { name, text, wanted }
                };
                match name {
                    $( stringify!($name) => {
                        self.$name = Bound::read(text).ok_or_else(|| invalid(<$kind as Bound>::WANTED))?;
                    } )*
                    _ => return Err(InvalidLimit::Name { name: name.to_owned() }),
                }
                Ok(())
            }

            fn shown(&self, name: Bounded) -> String {
                match name { $( Bounded::$name => Bound::show(&self.$name), )* }
            }
        }

        /// A limit by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, missing_docs, reason = "the names of the limits")]
        pub enum Bounded { $( $name, )* }

        impl fmt::Display for Bounded {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $( Self::$name => stringify!($name), )* })
            }
        }
    };
}

limits! {
    /// Size of a module, in bytes. Compiling takes time and memory that nothing else bounds.
    module_bytes: usize = 64 << 20;
    /// Linear memory of one VM, in bytes. Envoy has no bound of its own but the 4 GiB of its engine.
    memory_bytes: usize = 256 << 20;
    /// Elements of all tables of one VM. V8, and so Envoy, has the same bound for each.
    table_elements: usize = 10_000_000;
    /// Fuel for one callback, about one unit per wasm instruction.
    fuel_per_call: u64 = 10_000_000_000;
    /// Wall-clock time for one callback.
    time_per_call: Duration = Duration::from_secs(10);
    /// Fuel for all callbacks of one step, or of one repeat of it.
    fuel_per_step: u64 = 40_000_000_000;
    /// Ticks in one step.
    ticks_per_step: usize = 1_000_000;
    /// Messages of queues, and callouts that failed while they were made, of which guests are told at one
    /// instant.
    messages_at_once: usize = 100_000;
    /// What guests make the host keep, in bytes: log lines, shared data, queues, metrics, callouts, and of
    /// streams that live their headers, bodies and properties.
    kept_bytes: usize = 256 << 20;
    /// Source of one expression, in bytes: it is parsed, which takes time and memory. Envoy has no such bound.
    expression_bytes: usize = 8 << 10;
    /// What one call of `uncompress` may give, in bytes.
    uncompressed_bytes: usize = 64 << 20;
    /// Transcript of a run, in bytes, about. What goes beyond is left out.
    transcript_bytes: usize = 256 << 20;
}

impl Limits {
    /// Says that a guest went beyond a limit, and how to raise it.
    pub fn exceeded(&self, limit: Bounded) -> String {
        let bound = self.shown(limit);
        format!("beyond the limit {limit} of {bound}; raise it with --limit {limit}=…")
    }
}

/// A kind of bound.
trait Bound: Sized {
    const WANTED: &'static str;

    fn read(text: &str) -> Option<Self>;
    fn show(&self) -> String;
}

impl Bound for usize {
    const WANTED: &'static str =
        "a whole number above 0, if need be with k, M or G for powers of 1024";

    fn read(text: &str) -> Option<Self> {
        u64::read(text)?.try_into().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Bound for u64 {
    const WANTED: &'static str = <usize as Bound>::WANTED;

    fn read(text: &str) -> Option<Self> {
        let (digits, shift) = match text.strip_suffix(['k', 'M', 'G']) {
            Some(digits) if text.ends_with('k') => (digits, 10),
            Some(digits) if text.ends_with('M') => (digits, 20),
            Some(digits) => (digits, 30),
            None => (text, 0),
        };
        let number: u64 = digits.parse().ok()?;
        number.checked_mul(1 << shift).filter(|&number| number > 0)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Bound for Duration {
    const WANTED: &'static str = "a time above 0 with its unit: ms, s, m or h";

    fn read(text: &str) -> Option<Self> {
        duration(text).ok().filter(|time| !time.is_zero())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

/// A text that sets no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidLimit {
    /// There is no limit of this name.
    Name {
        /// The name.
        name: String,
    },
    /// The bound is not of the limit's kind.
    Value {
        /// The limit.
        name: String,
        /// The bound.
        text: String,
        /// What it has to be.
        wanted: &'static str,
    },
}

impl fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => {
                let names = Limits::describe().into_iter().map(|(name, ..)| name);
                let names = names.collect::<Vec<_>>().join(", ");
                write!(f, "there is no limit `{name}`; there are {names}")
            }
            Self::Value { name, text, wanted } => {
                write!(f, "limit {name}: `{text}` is not {wanted}")
            }
        }
    }
}

impl std::error::Error for InvalidLimit {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name() {
        let check = |name: &str, text: &str, expected: Result<Limits, &str>| {
            let mut limits = Limits::default();
            let set = limits.set(name, text).map(|()| limits).map_err(|error| error.to_string());
            match expected {
                Ok(expected) => assert_eq!(set, Ok(expected), "{name}={text}"),
                Err(words) => {
                    let error = set.expect_err(text);
                    assert!(error.contains(words), "`{words}` is not in: {error}");
                }
            }
        };
        let default = Limits::default();
        check("memory_bytes", "64M", Ok(Limits { memory_bytes: 64 << 20, ..default }));
        check("fuel_per_call", "7", Ok(Limits { fuel_per_call: 7, ..default }));
        let time_per_call = Duration::from_millis(50);
        check("time_per_call", "50ms", Ok(Limits { time_per_call, ..default }));
        check("memory", "1", Err("no limit `memory`; there are module_bytes, memory_bytes"));
        check("memory_bytes", "0", Err("`0` is not a whole number above 0"));
        check("memory_bytes", "1T", Err("`1T` is not a whole number"));
        check("memory_bytes", "99999999999G", Err("is not a whole number"));
        check("time_per_call", "50", Err("a time above 0 with its unit"));
        check("time_per_call", "0s", Err("a time above 0"));
    }
}
