//! How Envoy would load a module: what it finds, what it lacks, and its verdict. Nothing of the module runs.

use serde::Serialize;
use tollgate_abi::{AbiVersion, Export, Served};
use tollgate_host::scenario::Imports;
use tollgate_module::{Extern, Import, Module, Problem};

const PAGE_BYTES: u64 = 64 << 10;

/// A load report.
#[derive(Serialize)]
pub(crate) struct Loading {
    /// Whether Envoy loads it, with the declared imports taken for served.
    pub(crate) is_loaded: bool,
    /// What Envoy says of it when it refuses it.
    pub(crate) refusals: Vec<String>,
    /// What is wrong and what is unwise, and what to do.
    pub(crate) remarks: Vec<String>,
    abi: Option<String>,
    start: Start,
    allocator: Option<&'static str>,
    memory: Option<Memory>,
    imports: Imported,
    exports: Exported,
}

#[derive(Serialize)]
struct Start {
    /// What Envoy calls before the first context, in order.
    functions: Vec<&'static str>,
    /// Whether code runs even before these.
    has_section: bool,
}

#[derive(Serialize)]
struct Memory {
    /// Whether the module brings it, or the host has to.
    comes_from: Source,
    start_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    most_bytes: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Module,
    Host,
}

/// The imports by what becomes of them.
#[derive(Default, Serialize)]
struct Imported {
    /// Functions of the ABI, and of WASI that do something.
    served: Vec<String>,
    /// Functions that only answer, and memories and tables that Envoy makes up.
    stubbed: Vec<String>,
    /// Functions that the command line declares.
    declared: Vec<String>,
    /// What Envoy does not have.
    missing: Vec<String>,
    /// Functions of Envoy with other arguments or results.
    wrong: Vec<Wrong>,
}

/// The exported functions by what becomes of them.
#[derive(Default, Serialize)]
struct Exported {
    /// Callbacks that requests, timers and configurations lead to.
    callbacks: Vec<String>,
    /// Callbacks whose signature Envoy checks, and that it does not call for HTTP.
    idle: Vec<String>,
    /// What looks like a callback or an ABI tag, and is none for this version.
    unknown: Vec<String>,
    /// Functions that Envoy would call, with other arguments or results.
    wrong: Vec<Wrong>,
    /// How many others there are, which Envoy does not look at.
    others: usize,
}

#[derive(Serialize)]
struct Wrong {
    name: String,
    found: String,
    expected: String,
}

impl Loading {
    /// Judges a module, with some imports declared.
    pub(crate) fn of(module: &Module, declared: &Imports) -> Self {
        let problems = module.check();
        let stands = |problem: &&Problem| {
            problem.missing_function().is_none_or(|name| !declared.contains_key(&name))
        };
        let refusals: Vec<String> =
            problems.iter().filter(stands).filter_map(Problem::refusal).collect();
        let abi = module.abi().unwrap_or(AbiVersion::V0_2_1);
        let mut imports = Imported::default();
        for import in module.imports() {
            imports.sort_in(import, abi, declared);
        }
        let mut exports = Exported::default();
        for export in module.exports() {
            if let Extern::Function(_) = &export.kind {
                exports.sort_in(module, &export.name, abi);
            }
        }
        for problem in &problems {
            if let Problem::ImportSignature { import, expected } = problem {
                let found = import.signature().map(ToString::to_string).unwrap_or_default();
                let expected = expected.to_string();
                imports.wrong.push(Wrong { name: import.path(), found, expected });
            }
            if let Problem::ExportSignature { name, found, expected } = problem {
                let (found, expected) = (found.to_string(), expected.to_string());
                exports.wrong.push(Wrong { name: name.clone(), found, expected });
            }
        }
        let is_memory = |kind: &Extern| matches!(kind, Extern::Memory(_));
        let is_exported = module.exports().iter().any(|export| is_memory(&export.kind));
        Self {
            is_loaded: refusals.is_empty(),
            refusals,
            remarks: problems.iter().filter(stands).map(ToString::to_string).collect(),
            abi: module.abi().map(|abi| abi.to_string()),
            start: Start {
                functions: module.start_functions(),
                has_section: module.has_start_section(),
            },
            allocator: module.allocator(),
            memory: module.memory().map(|memory| Memory {
                comes_from: if is_exported { Source::Module } else { Source::Host },
                start_bytes: memory.min_pages.saturating_mul(PAGE_BYTES),
                most_bytes: memory.max_pages.map(|pages| pages.saturating_mul(PAGE_BYTES)),
            }),
            imports,
            exports,
        }
    }

    /// The report for people, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |what: &str, text: String| {
            if !text.is_empty() {
                lines.push(format!("  {what:<14} {text}"));
            }
        };
        let verdict = if self.is_loaded { "loads it" } else { "REFUSES it" };
        line("Envoy 1.40", verdict.into());
        for refusal in &self.refusals {
            line("", format!("  {refusal}"));
        }
        line("ABI", self.abi.clone().unwrap_or_else(|| "none that is known".into()));
        let mut start = self.start.functions.join(", then ");
        if self.start.has_section {
            start = format!("a start section, {start}").trim_end_matches(", ").into();
        }
        line("start", if start.is_empty() { "nothing".into() } else { start });
        line("allocator", self.allocator.unwrap_or("none").into());
        line("memory", self.memory.as_ref().map_or_else(|| "none".into(), Memory::shown));
        line("imports", self.imports.served.join(", "));
        line("  stubbed", self.imports.stubbed.join(", "));
        line("  declared", self.imports.declared.join(", "));
        line("  MISSING", self.imports.missing.join(", "));
        line("  WRONG", wrong(&self.imports.wrong));
        line("callbacks", self.exports.callbacks.join(", "));
        line("  idle", self.exports.idle.join(", "));
        line("  unknown", self.exports.unknown.join(", "));
        line("  WRONG", wrong(&self.exports.wrong));
        for remark in &self.remarks {
            line("remark", remark.clone());
        }
        lines
    }
}

impl Memory {
    fn shown(&self) -> String {
        let whose = match self.comes_from {
            Source::Module => "",
            Source::Host => ", the host's",
        };
        match self.most_bytes {
            Some(most) => format!("{} bytes at the start, {most} at most{whose}", self.start_bytes),
            None => format!("{} bytes at the start{whose}", self.start_bytes),
        }
    }
}

impl Imported {
    fn sort_in(&mut self, import: &Import, abi: AbiVersion, declared: &Imports) {
        let path = import.path();
        let Some(signature) = import.signature() else {
            let made_up = matches!(import.kind, Extern::Memory(_) | Extern::Table);
            let kind = if made_up { &mut self.stubbed } else { &mut self.missing };
            return kind.push(path);
        };
        match Served::from_import(&import.module, &import.name, abi) {
            // Among the wrong ones.
            Some(served) if *signature != tollgate_module::Signature::of_import(served) => {}
            Some(Served::Function(_)) => self.served.push(path),
            Some(Served::Stub(_) | Served::Shim(_)) => self.stubbed.push(path),
            None if declared.contains_key(&path) => self.declared.push(path),
            None => self.missing.push(path),
        }
    }
}

impl Exported {
    fn sort_in(&mut self, module: &Module, name: &str, abi: AbiVersion) {
        let is_tag = |name: &str| AbiVersion::ALL.iter().any(|abi| abi.marker() == name);
        match Export::of(name, abi, |other| module.exports_function(other)) {
            Some(Export::Callback(kind)) if is_idle(kind.name()) => self.idle.push(name.into()),
            Some(Export::Callback(_)) => self.callbacks.push(name.into()),
            Some(Export::Idle(..)) => self.idle.push(name.into()),
            // Told above.
            Some(Export::Allocator(_) | Export::Start(_)) => {}
            None if is_tag(name) => {}
            None if name.starts_with("proxy_") && !Export::ALLOCATORS.contains(&name) => {
                self.unknown.push(name.into());
            }
            None => self.others += 1,
        }
    }
}

/// Envoy looks for the callback, and nothing in it calls it.
fn is_idle(callback: &str) -> bool {
    callback == "proxy_on_foreign_function"
}

fn wrong(wrong: &[Wrong]) -> String {
    let shown = wrong.iter().map(|Wrong { name, found, expected }| {
        format!("{name}{found}, which has to be {expected}")
    });
    shown.collect::<Vec<_>>().join("; ")
}
