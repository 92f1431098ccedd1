//! Where filters come from: built-in names and files, scenarios and the modules that they need.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use clap::Args;
use tollgate::Registration;
use tollgate_host::engine::Module;
use tollgate_host::proxy::StartError;
use tollgate_host::scenario::{
    FilterSource, FilterUse, ImportAnswer, Imports, Scenario, check_import, configuration,
};
use tollgate_host_native::Filter;
use tollgate_host_wasmtime::{Limits, LoadError, WasmModule, Wasmtime, cache_folder};

/// Filters that are linked into this command, by name.
const LINKED: &[(&str, Filter)] = &[
    ("canary", linkable(tollgate::registration!(tollgate_canary::Canary))),
    ("metrics", linkable(tollgate::registration!(tollgate_metrics::Metrics))),
    ("metrics-tcp", linkable(tollgate::registration!(tollgate_metrics::TcpMetrics))),
    ("mtls", linkable(tollgate::registration!(tollgate_mtls::Mtls))),
    ("mtls-tcp", linkable(tollgate::registration!(tollgate_mtls::MtlsTcp))),
    ("ratelimit", linkable(tollgate::registration!(tollgate_ratelimit::RateLimit))),
    ("ratelimit-global", linkable(tollgate::registration!(tollgate_ratelimit::GlobalRateLimit))),
];

const fn linkable(registration: Registration) -> Filter {
    Filter { start: registration.start, call: registration.call, callbacks: registration.callbacks }
}

/// Where built modules are.
#[derive(Args, Clone, Debug)]
pub(crate) struct BuiltIns {
    /// Folder of the built-in filters' modules, as `tollgate build` writes them.
    #[arg(long, value_name = "DIR", default_value = "target/filters")]
    modules: PathBuf,
    /// Modules that come from registries, by the file that they would be.
    #[arg(skip)]
    pulled: BTreeMap<PathBuf, Vec<u8>>,
}

impl BuiltIns {
    /// The file of a filter's module, read.
    ///
    /// # Errors
    ///
    /// One that names the file, and what to run when it was not built yet.
    pub(crate) fn read(&self, source: &FilterSource) -> Result<(PathBuf, Vec<u8>)> {
        let file = self.file(source);
        if let Some(bytes) = self.pulled.get(&file) {
            return Ok((file, bytes.clone()));
        }
        let bytes = std::fs::read(&file).with_context(|| match source {
            FilterSource::BuiltIn(name) => format!(
                "filter `{name}`: {} cannot be read; build it with `tollgate build {name}`",
                file.display()
            ),
            FilterSource::File(_) => format!("{} cannot be read", file.display()),
        })?;
        Ok((file, bytes))
    }

    /// Takes a module for the one of a file, which need not exist.
    pub(crate) fn hold(&mut self, file: PathBuf, bytes: Vec<u8>) {
        self.pulled.insert(file, bytes);
    }

    /// The folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.modules.clone()
    }

    /// The file of a filter's module.
    pub(crate) fn file(&self, source: &FilterSource) -> PathBuf {
        source.file(&self.modules)
    }
}

/// Scenarios with the files they come from, in order.
pub(crate) type Scenarios = Vec<(PathBuf, Scenario)>;

/// Reads scenario files: those named, and in folders every YAML file below a folder `scenarios`.
///
/// # Errors
///
/// The first file that is not a scenario, with line and column, or a folder without any.
pub(crate) fn read_scenarios(paths: &[PathBuf]) -> Result<Scenarios> {
    let files = scenario_files(paths)?.into_iter();
    files
        .map(|file| {
            let scenario = Scenario::read(&file).with_context(|| format!("{}", file.display()))?;
            Ok((file, scenario))
        })
        .collect()
}

/// The files named, and in folders every YAML file below a folder `scenarios`.
///
/// # Errors
///
/// A folder without any.
pub(crate) fn scenario_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            collect(path, is_scenario_folder(path), &mut files)?;
            if files.len() == before {
                bail!(
                    "{}: no scenario; they are YAML files in a folder named `scenarios`",
                    path.display()
                );
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn collect(folder: &Path, in_scenarios: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()
        .with_context(|| format!("{}", folder.display()))?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            let is_hidden = name.to_string_lossy().starts_with('.');
            if !is_hidden && name != "target" && !path.is_symlink() {
                collect(&path, in_scenarios || is_scenario_folder(&path), files)?;
            }
        } else if in_scenarios
            && path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
        {
            files.push(path);
        }
    }
    Ok(())
}

fn is_scenario_folder(path: &Path) -> bool {
    path.canonicalize()
        .is_ok_and(|path| path.components().any(|part| part.as_os_str() == "scenarios"))
}

/// Reads the configuration of a filter, YAML or JSON, as the bytes that the filter gets.
///
/// # Errors
///
/// One that names the file, and where it is not YAML its line and column.
pub(crate) fn read_configuration(file: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    if text.trim().is_empty() {
        return Ok(configuration(serde_json::Value::Null));
    }
    let value = tollgate_host::yaml::parse(&text)
        .map_err(|error| error.of_file(file))
        .with_context(|| format!("{}", file.display()))?;
    Ok(configuration(value))
}

/// Compiled modules, each compiled once.
pub(crate) struct Modules {
    engine: Wasmtime,
    built_ins: BuiltIns,
    loaded: Mutex<HashMap<PathBuf, Arc<WasmModule>>>,
}

impl Modules {
    /// An engine that compiles each module anew.
    ///
    /// # Errors
    ///
    /// When the engine cannot run on this machine.
    pub(crate) fn without_cache(built_ins: BuiltIns, limits: Limits) -> Result<Self> {
        let engine = Wasmtime::new(limits, None)?;
        Ok(Self { engine, built_ins, loaded: Mutex::default() })
    }

    /// An engine with its cache on disk, below `$TOLLGATE_CACHE` or the user's cache folder.
    ///
    /// # Errors
    ///
    /// When the engine cannot run on this machine.
    pub(crate) fn new(built_ins: BuiltIns, limits: Limits) -> Result<Self> {
        let engine = caching_engine(limits)?;
        Ok(Self { engine, built_ins, loaded: Mutex::default() })
    }

    /// Loads the module of a filter.
    ///
    /// # Errors
    ///
    /// One that names the file and says what is wrong with it.
    pub(crate) fn load(&self, source: &FilterSource) -> Result<Arc<WasmModule>> {
        let file = self.built_ins.file(source);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(&file) {
            return Ok(Arc::clone(module));
        }
        let module = self.read_and_load(source)?;
        loaded.insert(file, Arc::clone(&module));
        Ok(module)
    }

    /// Compiles the module of a filter anew, or takes it from the cache on disk, whatever was loaded
    /// before.
    ///
    /// # Errors
    ///
    /// As [`Self::for_scenario`].
    pub(crate) fn load_anew(&self, filter: &FilterUse) -> Result<Arc<dyn Module>, StartError> {
        match self.read_and_load(&filter.source) {
            Ok(module) => Ok(module),
            Err(error) => Err(not_loaded(error)),
        }
    }

    fn read_and_load(&self, source: &FilterSource) -> Result<Arc<WasmModule>> {
        let (file, bytes) = self.built_ins.read(source)?;
        let module = self.engine.load(&bytes).with_context(|| format!("{}", file.display()))?;
        Ok(Arc::new(module))
    }

    /// Loads the module of a filter for a run of a scenario.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; a module that Envoy would not load is [`StartError::Refused`].
    pub(crate) fn for_scenario(&self, filter: &FilterUse) -> Result<Arc<dyn Module>, StartError> {
        match self.load(&filter.source) {
            Ok(module) => Ok(module),
            Err(error) => Err(not_loaded(error)),
        }
    }
}

fn not_loaded(error: anyhow::Error) -> StartError {
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Invalid(_) | LoadError::Refused(_)) => {
            StartError::Refused { words: format!("{error:#}") }
        }
        Some(LoadError::TooLarge { .. } | LoadError::Unsupported(_)) | None => {
            StartError::Module(error.into())
        }
    }
}

/// Imports that are declared on the command line, for modules of other hosts.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DeclaredImports {
    /// What a function answers that Envoy does not have, as in `env.proxy_get_secret=1`: `trap`, or the
    /// number that it returns. May be given several times; scenarios say more with `imports`.
    #[arg(long = "import", value_name = "MODULE.NAME=ANSWER", value_parser = declared)]
    imports: Vec<(String, ImportAnswer)>,
}

fn declared(text: &str) -> Result<(String, ImportAnswer), String> {
    let (name, answer) = text.split_once('=').ok_or("write MODULE.NAME=ANSWER")?;
    check_import(name)?;
    Ok((name.to_owned(), ImportAnswer::parse(answer)?))
}

impl DeclaredImports {
    /// All of them.
    pub(crate) fn all(&self) -> Imports {
        self.imports.iter().map(|(name, answer)| (name.clone(), vec![answer.clone()])).collect()
    }

    /// All of them, as they were written.
    pub(crate) fn words(&self) -> BTreeMap<String, String> {
        let word = |answer: &ImportAnswer| match answer {
            ImportAnswer::Trap => "trap".to_owned(),
            ImportAnswer::Return { word, .. } => word.to_string(),
        };
        self.imports.iter().map(|(name, answer)| (name.clone(), word(answer))).collect()
    }

    /// Adds them to those of a scenario, which keeps its own.
    pub(crate) fn add_to(&self, scenario: &mut Scenario) {
        for (name, answers) in self.all() {
            scenario.imports.entry(name).or_insert(answers);
        }
    }
}

/// Refuses a scenario with a module that no proxy would load, with every reason that can be told without
/// running it; one that expects a refusal is judged by it.
///
/// # Errors
///
/// One that names the file and all problems.
pub(crate) fn refuse_unloadable(built_ins: &BuiltIns, scenario: &Scenario) -> Result<()> {
    if scenario.refused.is_some() {
        return Ok(());
    }
    for filter in &scenario.filters {
        let (file, bytes) = built_ins.read(&filter.source)?;
        let module =
            tollgate_module::Module::read(&bytes).with_context(|| format!("{}", file.display()))?;
        let is_declared = |name: &String| scenario.imports.contains_key(name);
        let problems: Vec<String> = module
            .check()
            .iter()
            .filter(|problem| problem.keeps_envoy_from_loading())
            .filter(|problem| !problem.missing_function().as_ref().is_some_and(is_declared))
            .map(ToString::to_string)
            .collect();
        if !problems.is_empty() {
            bail!("{}: {}", file.display(), problems.join("; "));
        }
    }
    Ok(())
}

/// The natively linked filter behind a filter's name.
///
/// # Errors
///
/// [`StartError::Module`] for a filter that is not linked into this command.
pub(crate) fn linked(filter: &FilterUse) -> Result<Arc<dyn Module>, StartError> {
    let found = match &filter.source {
        FilterSource::BuiltIn(name) => LINKED.iter().find(|(linked, _)| linked == name),
        FilterSource::File(_) => None,
    };
    match found {
        Some((_, module)) => Ok(Arc::new(*module)),
        None => Err(StartError::Module(
            format!(
                "filter {:?} is not linked into this command; run it on wasmtime",
                filter.source
            )
            .into(),
        )),
    }
}

/// An engine with its cache on disk, below `$TOLLGATE_CACHE` or the user's cache folder.
///
/// # Errors
///
/// When the engine cannot run on this machine.
pub(crate) fn caching_engine(limits: Limits) -> Result<Wasmtime> {
    let engine = Wasmtime::new(limits, cache_folder()).or_else(|error| {
        eprintln!("warning: modules are compiled anew each time: {error}");
        Wasmtime::new(limits, None)
    })?;
    Ok(engine)
}
