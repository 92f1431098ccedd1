//! Cutting a module down: exports go, then all that nothing needs any more. What goes is decided elsewhere.
//!
//! walrus does the cutting. It trusts what it is given, so it only ever sees a module that was
//! validated, has no custom sections (it parses debug information before dropping it) and declares a
//! bounded number of locals (it allocates each).
//!
//! For walrus every function in a table is needed. Rust fills the table with virtual methods, and one
//! trait of the stock SDK has a virtual method for each host function: a module would keep, and be
//! allowed to call, all of them. A function that nothing calls by name and whose signature no
//! `call_indirect` asks for cannot be called at all; a stub takes its place, so that a call through a
//! wrong index still traps.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use walrus::ir::{Instr, InstrLocId, Visitor, dfs_in_order};
use walrus::{
    ElementItems, ElementKind, ExportItem, FunctionBuilder, FunctionId, FunctionKind, FunctionType,
    GlobalKind, Module, ModuleConfig, TypeId, ValType,
};

/// Removes the exported functions `unused`, and what nothing else needs. The module is valid and has
/// no custom sections.
///
/// The error says what walrus cannot handle.
pub(crate) fn cut(core: &[u8], unused: &BTreeSet<String>) -> Result<Vec<u8>, String> {
    let mut config = ModuleConfig::new();
    config.generate_name_section(false).generate_producers_section(false);
    let mut module = config.parse(core).map_err(|error| format!("{error:#}"))?;
    let exports = module.exports.iter();
    let dead: Vec<_> = exports
        .filter(|export| matches!(export.item, ExportItem::Function(_)))
        .filter(|export| unused.contains(&export.name))
        .map(walrus::Export::id)
        .collect();
    for export in dead {
        module.exports.delete(export);
    }
    // Once before, so that what is dead anyway does not keep tables from being closed.
    walrus::passes::gc::run(&mut module);
    stub_uncallable(&mut module);
    walrus::passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

/// Replaces the functions in tables that cannot be called by a stub.
fn stub_uncallable(module: &mut Module) {
    let tabled = tabled(module);
    let Some(callable) = callable(module, &tabled) else {
        return;
    };
    let gone = |id: &FunctionId| !callable.contains(id) && !is_stub(module, *id);
    let gone: HashSet<FunctionId> = tabled.iter().copied().filter(gone).collect();
    if gone.is_empty() {
        return;
    }
    let known = tabled.into_iter().find(|&id| is_stub(module, id));
    let stub = known.unwrap_or_else(|| new_stub(module));
    for element in module.elements.iter_mut() {
        if let ElementItems::Functions(functions) = &mut element.items {
            let dead = functions.iter_mut().filter(|id| gone.contains(id));
            dead.for_each(|id| *id = stub);
        }
    }
}

/// The functions that element segments name.
fn tabled(module: &Module) -> Vec<FunctionId> {
    let lists = module.elements.iter().map(|element| match &element.items {
        ElementItems::Functions(functions) => functions.as_slice(),
        ElementItems::Expressions(..) => &[],
    });
    lists.flatten().copied().collect()
}

/// Every function that may be called, or `None` when that cannot be told: when tables are shared with
/// the host or written to, or when references to functions travel in other ways.
fn callable(module: &Module, tabled: &[FunctionId]) -> Option<HashSet<FunctionId>> {
    if !has_closed_tables(module) {
        return None;
    }
    let mut pending: Vec<FunctionId> = module.start.into_iter().collect();
    for export in module.exports.iter() {
        if let ExportItem::Function(id) = export.item {
            pending.push(id);
        }
    }
    let mut by_signature: BTreeMap<&FunctionType, Vec<FunctionId>> = BTreeMap::new();
    for &id in tabled {
        let signature = module.types.get(module.funcs.get(id).ty()).as_function()?;
        by_signature.entry(signature).or_default().push(id);
    }
    let mut callable = HashSet::new();
    while let Some(id) = pending.pop() {
        if !callable.insert(id) {
            continue;
        }
        if let FunctionKind::Local(function) = &module.funcs.get(id).kind {
            let mut calls = Calls::default();
            dfs_in_order(&mut calls, function, function.entry_block());
            if calls.are_obscure {
                return None;
            }
            pending.extend(calls.direct);
            for signature in calls.indirect {
                let signature = module.types.get(signature).as_function()?;
                pending.extend(by_signature.remove(signature).unwrap_or_default());
            }
        }
    }
    Some(callable)
}

/// Whether tables hold just what active segments of plain functions put there, and signatures can be
/// compared by their parts.
fn has_closed_tables(module: &Module) -> bool {
    let is_plain = |value: &ValType| !matches!(value, ValType::Ref(_));
    let mut tables = module.tables.iter();
    let mut exports = module.exports.iter();
    let mut globals = module.globals.iter();
    let mut elements = module.elements.iter();
    let mut types = module.types.iter();
    tables.all(|table| table.import.is_none() && table.init.is_none())
        && exports.all(|export| !matches!(export.item, ExportItem::Table(_)))
        && globals.all(|global| is_plain(&global.ty) && matches!(global.kind, GlobalKind::Local(_)))
        && elements.all(|element| {
            matches!(element.kind, ElementKind::Active { .. })
                && matches!(element.items, ElementItems::Functions(_))
        })
        && types.all(|ty| {
            ty.supertype.is_none()
                && ty.as_function().is_some_and(|function| {
                    function.params().iter().all(is_plain)
                        && function.results().iter().all(is_plain)
                })
        })
}

/// What a function calls.
#[derive(Default)]
struct Calls {
    direct: Vec<FunctionId>,
    indirect: Vec<TypeId>,
    are_obscure: bool,
}

impl<'a> Visitor<'a> for Calls {
    fn visit_instr(&mut self, instr: &'a Instr, _: &'a InstrLocId) {
        match instr {
            Instr::Call(call) => self.direct.push(call.func),
            Instr::ReturnCall(call) => self.direct.push(call.func),
            Instr::CallIndirect(call) => self.indirect.push(call.ty),
            Instr::ReturnCallIndirect(call) => self.indirect.push(call.ty),
            Instr::CallRef(_)
            | Instr::ReturnCallRef(_)
            | Instr::RefFunc(_)
            | Instr::TableGet(_)
            | Instr::TableSet(_)
            | Instr::TableGrow(_)
            | Instr::TableFill(_)
            | Instr::TableInit(_)
            | Instr::TableCopy(_) => self.are_obscure = true,
            _ => {}
        }
    }
}

fn is_stub(module: &Module, id: FunctionId) -> bool {
    match &module.funcs.get(id).kind {
        FunctionKind::Local(function) => {
            let body = &function.block(function.entry_block()).instrs;
            module.types.params_results(function.ty()) == (&[], &[])
                && matches!(body.as_slice(), [(Instr::Unreachable(_), _)])
        }
        FunctionKind::Import(_) | FunctionKind::Uninitialized(_) => false,
    }
}

fn new_stub(module: &mut Module) -> FunctionId {
    let mut builder = FunctionBuilder::new(&mut module.types, &[], &[]);
    builder.func_body().unreachable();
    builder.finish(Vec::new(), &mut module.funcs)
}
