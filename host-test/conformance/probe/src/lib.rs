//! A guest that does what its configuration says: a script of host calls, each bound to callbacks.
//!
//! It logs every callback with its arguments and every host call with all that came back, so that two
//! hosts with the same log did the same. It judges nothing, and passes on whatever numbers and bytes
//! the script holds, however wrong. The language is in `script.rs`, the border in `host.rs`.
#![cfg(target_arch = "wasm32")]

mod host;
mod script;

use std::sync::OnceLock;

use script::{Act, Script};

static SCRIPT: OnceLock<Script> = OnceLock::new();

/// Notes a callback and runs its lines; gives what it returns.
///
/// The host may call back in the middle of a host call, so nothing is borrowed for writing here.
fn on(callback: &str, arguments: &[(&str, u32)], default: u32) -> u32 {
    let callback = callback.trim_start_matches("proxy_");
    let shown: Vec<String> =
        arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    host::log(&format!("{callback} {}", shown.join(" ")));
    if callback == "on_configure"
        && let Err(mistake) = configure()
    {
        host::log(&mistake);
        return 0;
    }
    let mut answer = default;
    for line in SCRIPT.get().into_iter().flat_map(|script| script.lines_for(callback)) {
        match &line.act {
            Act::Return(word) => answer = *word,
            Act::Trap => core::arch::wasm32::unreachable(),
            Act::Call(call, words) => {
                let came_back = call(words);
                host::log(&format!("{callback} {} -> {came_back}", line.text));
            }
        }
    }
    answer
}

fn configure() -> Result<(), String> {
    let script = Script::parse(&String::from_utf8_lossy(&host::configuration()))?;
    SCRIPT.set(script).map_err(|_| "the probe was configured twice".to_owned())
}
