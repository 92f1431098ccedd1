//! Modules made of arbitrary code, and of bytes that were changed at arbitrary places.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use arbitrary::Arbitrary;
use tollgate_abi::{Function, Returns};
use tollgate_host::engine::Module;
use tollgate_host_wasmtime::Wasmtime;

use crate::play::{LIMITS, Tally, run};

/// A module before it is written.
#[derive(Clone, Debug, Arbitrary)]
pub struct ModuleCase {
    /// What each callback does, in the order of [`CALLBACKS`].
    bodies: Vec<(Vec<Op>, Value)>,
    allocator: (Vec<Op>, Value),
    start: Option<Vec<Op>>,
    /// Bytes of the module that are changed, by their places; mostly none.
    changes: Option<Vec<(u16, u8)>>,
}

/// A piece of code.
#[derive(Clone, Debug, Arbitrary)]
enum Op {
    Call { function: u8, words: [Value; 12] },
    Store { address: Value, value: Value },
    Grow(Value),
    GrowTable(Value),
    Repeat { times: u8, function: u8, words: [Value; 12] },
    Recurse(u8),
    Trap,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Value {
    Small(u8),
    Text(u8),
    End(u8),
    Any(i32),
    /// The first argument of the function.
    Own,
    Load(u8),
}

/// Callbacks with their numbers of arguments.
const CALLBACKS: [(&str, usize, Returns); 14] = [
    ("proxy_on_request_headers", 3, Returns::Headers),
    ("proxy_on_request_body", 3, Returns::Body),
    ("proxy_on_request_trailers", 2, Returns::Trailers),
    ("proxy_on_response_headers", 3, Returns::Headers),
    ("proxy_on_response_body", 3, Returns::Body),
    ("proxy_on_response_trailers", 2, Returns::Trailers),
    ("proxy_on_log", 1, Returns::Nothing),
    ("proxy_on_done", 1, Returns::Boolean),
    ("proxy_on_delete", 1, Returns::Nothing),
    ("proxy_on_tick", 1, Returns::Nothing),
    ("proxy_on_queue_ready", 2, Returns::Nothing),
    ("proxy_on_http_call_response", 5, Returns::Nothing),
    ("proxy_on_grpc_close", 3, Returns::Nothing),
    ("proxy_on_context_create", 2, Returns::Nothing),
];

/// As much code of one function.
const MOST_OPS: usize = 16;

/// Plays a case.
///
/// # Errors
///
/// What the host should not have done.
pub fn run_module(case: &ModuleCase) -> Result<Tally, String> {
    static ENGINE: OnceLock<Result<Wasmtime, String>> = OnceLock::new();
    let engine =
        ENGINE.get_or_init(|| Wasmtime::new(LIMITS, None).map_err(|error| error.to_string()));
    let engine = engine.as_ref().map_err(Clone::clone)?;
    let text = case.text();
    let mut bytes = wat::parse_str(&text).map_err(|error| format!("{error}\n{text}"))?;
    for &(at, change) in case.changes.iter().flatten() {
        let at = usize::from(at).checked_rem(bytes.len()).unwrap_or_default();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= change;
        }
    }
    match engine.load(&bytes) {
        Ok(module) => run(&(Arc::new(module) as Arc<dyn Module>)),
        Err(refused) if refused.to_string().contains(' ') => Ok(Tally::default()),
        Err(refused) => Err(format!("the module was refused without a reason: {refused}")),
    }
}

impl ModuleCase {
    fn text(&self) -> String {
        let mut text = String::from("(module\n");
        let functions = Function::ALL
            .iter()
            .filter(|function| function.versions().contain(tollgate_abi::AbiVersion::V0_2_1));
        let functions: Vec<Function> = functions.copied().collect();
        for function in &functions {
            let params: Vec<&str> =
                function.words().iter().map(|&wide| if wide { "i64" } else { "i32" }).collect();
            let result = if function.returns_status() { "(result i32)" } else { "" };
            let (module, name) = (function.module(), function.name());
            let params = params.join(" ");
            let _ = writeln!(
                text,
                "(import \"{module}\" \"{name}\" (func ${name} (param {params}) {result}))"
            );
        }
        text.push_str(
            "(memory (export \"memory\") 1) (table $t 1 funcref)\n\
             (func (export \"proxy_abi_version_0_2_1\"))\n\
             (data (i32.const 0) \"authz\\00\\00\\00limits\\00\\00x-user\\00\\00k\\00\\00\\00\\00\\00\\00\\00\")\n\
             (data (i32.const 64) \"\\03\\00\\00\\00\\07\\00\\00\\00\\03\\00\\00\\00\\05\\00\\00\\00\\01\\00\\00\\00\\0a\\00\\00\\00\\01\\00\\00\\00:method\\00GET\\00:path\\00/\\00:authority\\00a\\00\")\n",
        );
        let write = |ops: &[Op]| {
            ops.iter().take(MOST_OPS).map(|op| op.text(&functions)).collect::<Vec<_>>().join("\n")
        };
        let (ops, value) = &self.allocator;
        let _ = writeln!(
            text,
            "(func $malloc (export \"malloc\") (param i32) (result i32) {} {})",
            write(ops),
            value.text()
        );
        if let Some(ops) = &self.start {
            let _ =
                writeln!(text, "(func $start (export \"_initialize\") (local i32) {})", write(ops));
        }
        for ((name, params, returns), (ops, value)) in CALLBACKS.iter().zip(&self.bodies) {
            let (result, value) = match returns {
                Returns::Nothing => ("", String::new()),
                Returns::Boolean | Returns::Headers | Returns::Body | Returns::Trailers => {
                    ("(result i32)", value.text())
                }
            };
            let params = "i32 ".repeat(*params);
            let _ = writeln!(
                text,
                "(func (export \"{name}\") (param {params}) {result} {} {value})",
                write(ops)
            );
        }
        text.push(')');
        text
    }
}

impl Op {
    fn text(&self, functions: &[Function]) -> String {
        match self {
            Self::Call { function, words } => call(functions, *function, words),
            Self::Store { address, value } => {
                format!("(i32.store {} {})", address.text(), value.text())
            }
            Self::Grow(pages) => format!("(drop (memory.grow {}))", pages.text()),
            Self::GrowTable(by) => format!("(drop (table.grow $t (ref.null func) {}))", by.text()),
            Self::Repeat { times, function, words } => format!(
                "(i32.store (i32.const 1024) (i32.const 0)) (loop $again {}
                    (i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
                    (br_if $again (i32.lt_u (i32.load (i32.const 1024)) (i32.const {times}))))",
                call(functions, *function, words)
            ),
            Self::Recurse(size) => format!("(drop (call $malloc (i32.const {size})))"),
            Self::Trap => "(if (i32.eq (local.get 0) (i32.const 2)) (then unreachable))".into(),
        }
    }
}

fn call(functions: &[Function], number: u8, words: &[Value]) -> String {
    let Some(function) =
        usize::from(number).checked_rem(functions.len()).and_then(|at| functions.get(at))
    else {
        return String::new();
    };
    let words = function.words().iter().zip(words).map(|(&wide, word)| {
        if wide { format!("(i64.extend_i32_s {})", word.text()) } else { word.text() }
    });
    let call = format!("(call ${} {})", function.name(), words.collect::<Vec<_>>().join(" "));
    if function.returns_status() { format!("(drop {call})") } else { call }
}

impl Value {
    fn text(self) -> String {
        match self {
            Self::Small(small) => format!("(i32.const {})", small % 16),
            Self::Text(at) => format!("(i32.const {})", u32::from(at % 16) * 8),
            Self::End(before) => format!("(i32.const {})", 65536 - u32::from(before % 16)),
            Self::Any(any) => format!("(i32.const {any})"),
            Self::Own => "(local.get 0)".into(),
            Self::Load(at) => format!("(i32.load (i32.const {at}))"),
        }
    }
}
