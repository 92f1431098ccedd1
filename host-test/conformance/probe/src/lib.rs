//! A guest that does what its configuration says: a script of host calls, each bound to callbacks.
//!
//! It logs every callback with its arguments and every host call with all that came back, so that two
//! hosts with the same log did the same. It judges nothing, and passes on whatever numbers and bytes
//! the script holds, however wrong. The language is in `script.rs`, the border in `host.rs`.
#![cfg(target_arch = "wasm32")]

mod host;
mod script;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use script::{Act, Script};

/// The scripts by root context, and the root context of each other one.
static CONTEXTS: Mutex<Contexts> =
    Mutex::new(Contexts { scripts: BTreeMap::new(), roots: BTreeMap::new() });

struct Contexts {
    scripts: BTreeMap<u32, Arc<Script>>,
    roots: BTreeMap<u32, u32>,
}

impl Contexts {
    fn script(&self, context: u32) -> Option<Arc<Script>> {
        self.scripts.get(self.roots.get(&context).unwrap_or(&context)).cloned()
    }
}

fn contexts<T>(with: impl FnOnce(&mut Contexts) -> T) -> T {
    with(&mut CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Notes a callback and runs its lines; gives what it returns.
///
/// The host may call back in the middle of a host call, so nothing is borrowed for writing here.
fn on(callback: &str, arguments: &[(&str, u32)], default: u32) -> u32 {
    let callback = callback.trim_start_matches("proxy_");
    let shown: Vec<String> =
        arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    host::log(&format!("{callback} {}", shown.join(" ")));
    let context = arguments.first().map_or(0, |(_, context)| *context);
    match (callback, arguments) {
        ("on_context_create", [_, (_, parent @ 1..)]) => {
            contexts(|all| all.roots.insert(context, *parent));
        }
        ("on_configure", _) => match configure(context) {
            Ok(()) => {}
            Err(mistake) => {
                host::log(&mistake);
                return 0;
            }
        },
        _ => {}
    }
    let script = contexts(|all| all.script(context));
    if callback == "on_delete" {
        contexts(|all| all.roots.remove(&context));
    }
    let mut answer = default;
    for line in script.iter().flat_map(|script| script.lines_for(callback)) {
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

fn configure(root: u32) -> Result<(), String> {
    let script = Script::parse(&String::from_utf8_lossy(&host::configuration()))?;
    match contexts(|all| all.scripts.insert(root, Arc::new(script))) {
        None => Ok(()),
        Some(_) => Err(format!("root context {root} was configured twice")),
    }
}
