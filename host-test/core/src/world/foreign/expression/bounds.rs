//! How large an expression may be, and how long it may take: what a guest asks for holds nobody up.
//!
//! Source: measured on Envoy 1.40, where what is nested more than 32 deep is no expression, and one whose
//! comprehensions come to 10,000 elements has no value.

use std::sync::atomic::{AtomicUsize, Ordering};

use cel::common::ast::{CallExpr, EntryExpr, Expr, operators};
use cel::parser::Parser;
use cel::{Context, ExecutionError, IdedExpr};

use super::{NO_EXPRESSION, Refusal};
use crate::world::property::Value;
use tollgate_abi::Status;

/// How deep the parts of an expression may be nested.
const MOST_DEPTH: u16 = 32;

/// At this many elements that comprehensions go through, an evaluation ends without a value.
const MOST_ELEMENTS: usize = 10_000;

/// What an expression names may have this many bytes, and so may what its elements copy of that. Of large
/// values there may be fewer elements than on Envoy.
const MOST_COPIED_BYTES: usize = 8 << 20;

/// What a parsed expression takes for each byte of its source, at most.
pub(super) const PARSED_BYTES: usize = 1024;

/// The stack that parsing takes: the library follows a chain such as `1+1+1` by recursion.
const STACK_BYTES: usize = 4 << 20;
const STACK_BYTES_PER_BYTE: usize = 16 << 10;

const NO_STACK: Refusal =
    (Status::InternalFailure, "this machine has no stack for an expression of that many bytes");

/// The function that counts elements. No expression can name it.
const STEP: &str = "@step";

/// Reads an expression.
///
/// # Errors
///
/// `NO_EXPRESSION` for what is none on Envoy; `NO_STACK` where this machine has no room to read it.
pub(super) fn parse(source: &str) -> Result<IdedExpr, Refusal> {
    let stack = source.len().saturating_mul(STACK_BYTES_PER_BYTE).saturating_add(STACK_BYTES);
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, || {
            let expression = Parser::new().max_recursion_depth(MOST_DEPTH).parse(source).ok()?;
            // What is too deep is dropped here, which recurses too.
            (depth(&expression) <= usize::from(MOST_DEPTH)).then_some(expression)
        });
        parser.map_err(|_| NO_STACK)?.join().ok().flatten().ok_or(NO_EXPRESSION)
    })
}

/// How deep the parts of an expression are nested; one without parts is 1 deep.
fn depth(expression: &IdedExpr) -> usize {
    let deepest = |parts: &mut dyn Iterator<Item = &IdedExpr>| parts.map(depth).max().unwrap_or(0);
    let below = match &expression.expr {
        Expr::Select(select) => depth(&select.operand),
        Expr::Call(CallExpr { target, args, .. }) => {
            deepest(&mut target.as_deref().into_iter().chain(args))
        }
        Expr::List(list) => deepest(&mut list.elements.iter()),
        Expr::Map(map) => deepest(&mut map.entries.iter().flat_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => [&entry.key, &entry.value],
            EntryExpr::StructField(field) => [&field.value, &field.value],
        })),
        // What is written in it stands in the step, below what the macro adds.
        Expr::Comprehension(all) => {
            depth(&all.iter_range).max(depth(&all.loop_step).saturating_sub(2))
        }
        Expr::Struct(message) => {
            deepest(&mut message.entries.iter().filter_map(|entry| match &entry.expr {
                EntryExpr::StructField(field) => Some(&field.value),
                EntryExpr::MapEntry(_) => None,
            }))
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    };
    below.saturating_add(1)
}

/// Has a comprehension count its elements.
pub(super) fn count_elements(condition: &mut IdedExpr) {
    let id = condition.id;
    let call = |func_name: &str, args| {
        let call = CallExpr { func_name: func_name.to_owned(), target: None, args };
        IdedExpr { id, expr: Expr::Call(call) }
    };
    let own = std::mem::take(condition);
    *condition = call(operators::LOGICAL_AND, vec![call(STEP, Vec::new()), own]);
}

/// The values that an expression names, in bounds.
#[derive(Default)]
pub(super) struct Values {
    pub(super) context: Context<'static, 'static>,
    bytes: usize,
}

impl Values {
    /// Whether there is room for one more. What finds none is absent.
    pub(super) fn take(&mut self, value: &Value<'_>) -> bool {
        let bytes = value.serialize().map_or(0, |bytes| bytes.len());
        let all = self.bytes.saturating_add(bytes);
        if all <= MOST_COPIED_BYTES {
            self.bytes = all;
        }
        all <= MOST_COPIED_BYTES
    }

    /// What an expression is evaluated with: it ends when it goes through too many elements.
    pub(super) fn bounded(mut self) -> Context<'static, 'static> {
        let most = (MOST_COPIED_BYTES / self.bytes.max(1)).clamp(1, MOST_ELEMENTS);
        let seen = AtomicUsize::new(1);
        let step = move || {
            if seen.fetch_add(1, Ordering::Relaxed) < most {
                Ok(true)
            } else {
                Err(ExecutionError::function_error(STEP, "too many elements"))
            }
        };
        // Nothing else has this name.
        let _declared = self.context.add_function(STEP, step);
        self.context
    }
}
