//! From an error of the engine to a trap with its backtrace: demangled names, and places in the source
//! where the module has DWARF.

use std::fmt;

use cpp_demangle::{DemangleOptions, Symbol};
use tollgate_host::clip::clip_to;
use tollgate_host::engine::{Frame, Trap};
use tollgate_host::limits::{Bounded, Limits};
use wasmtime::{Error, FrameInfo, WasmBacktrace};

/// How much of a name is shown: it is the guest's own, and demangled it may be of any length.
const MOST_NAME_BYTES: usize = 200;

/// A longer name is not demangled.
const MOST_MANGLED_BYTES: usize = 2000;

/// What ended a guest. `denied` says what it was not let have before.
pub(crate) fn trap(error: &Error, limits: Limits, denied: Option<String>) -> Trap {
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames);
    let backtrace = frames.unwrap_or_default().iter().flat_map(shown).collect();
    let mut message = match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::OutOfFuel) => {
            format!("the callback used up its fuel, {}", limits.exceeded(Bounded::fuel_per_call))
        }
        Some(wasmtime::Trap::Interrupt) => {
            format!("the callback ran past its time, {}", limits.exceeded(Bounded::time_per_call))
        }
        Some(cause) => cause.to_string(),
        None => clip_to(error.root_cause(), 1000),
    };
    if let Some(denied) = denied {
        message = format!("{message}; before, {denied}");
    }
    Trap { message, backtrace }
}

/// A frame of the engine, with the functions that were inlined there.
fn shown(frame: &FrameInfo) -> Vec<Frame> {
    let own_name = || match frame.func_name() {
        Some(name) => demangled(name),
        None => format!("function {}", frame.func_index()),
    };
    let symbols = frame.symbols().iter().filter(|symbol| symbol.file().is_some());
    let symbols = symbols.map(|symbol| Frame {
        function: symbol.name().map_or_else(own_name, demangled),
        file: symbol.file().map(|file| clip_to(&file, MOST_NAME_BYTES)),
        line: symbol.line(),
        column: symbol.column(),
    });
    let frames: Vec<Frame> = symbols.collect();
    if frames.is_empty() {
        vec![Frame { function: own_name(), ..Frame::default() }]
    } else {
        frames
    }
}

fn demangled(name: &str) -> String {
    if name.len() > MOST_MANGLED_BYTES {
        return clip_to(&name, MOST_NAME_BYTES);
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return clip_to(&format_args!("{rust:#}"), MOST_NAME_BYTES);
    }
    match Symbol::new(name) {
        Ok(cpp) if name.starts_with("_Z") => {
            let shown = fmt::from_fn(|f| {
                cpp.structured_demangle(f, &DemangleOptions::default()).map_err(|_| fmt::Error)
            });
            clip_to(&shown, MOST_NAME_BYTES)
        }
        Ok(_) | Err(_) => clip_to(&name, MOST_NAME_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_their_language_writes_them() {
        let check = |name: &str, expected: &str| assert_eq!(demangled(name), expected, "{name}");
        check("_ZN4core9panicking5panic17h1234567890abcdefE", "core::panicking::panic");
        check("_RNvC7mycrate3foo", "mycrate::foo");
        check("_ZN3foo3barEi", "foo::bar(int)");
        check("main.onRequest", "main.onRequest");
        check("~lib/rt/itcms/__new", "~lib/rt/itcms/__new");
        let long = demangled(&"x".repeat(1 << 20));
        assert!(long.len() < 300, "{}", long.len());
        // Every substitution doubles what comes before.
        let bomb = format!("_Z1fI1aEvT_{}", "S0_".repeat(600));
        assert!(demangled(&bomb).len() < 300);
    }
}
