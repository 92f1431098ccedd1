//! Where filters come from: built-in names and files, scenarios and the modules that they need.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use clap::Args;
use tollgate::Registration;
use tollgate_host::deployed::store;
use tollgate_host::engine::Module;
use tollgate_host::proxy::StartError;
use tollgate_host::scenario::{
    FilterSource, FilterUse, ImportAnswer, Imports, Scenario, check_import, configuration,
};
use tollgate_host::suite::Suite;
use tollgate_host_native::Filter;
use tollgate_host_wasmtime::{Limits, LoadError, WasmModule, Wasmtime, cache_folder};
use tollgate_oci::{Fetched, Reference};

use crate::images::{Registries, RegistryOptions, module};

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

/// Where modules come from.
#[derive(Args, Clone)]
pub(crate) struct BuiltIns {
    /// Folder of the built-in filters' modules, as `tollgate build` writes them.
    #[arg(long, value_name = "DIR", default_value = "target/filters")]
    modules: PathBuf,
    #[command(flatten)]
    registries: RegistryOptions,
    #[arg(skip)]
    images: Arc<Mutex<Images>>,
}

impl BuiltIns {
    /// The name of a filter's module, as it is told, and the module; an image is pulled.
    ///
    /// # Errors
    ///
    /// One that names the file, and what to run when it was not built yet.
    pub(crate) fn read(&self, source: &FilterSource) -> Result<(PathBuf, Vec<u8>)> {
        let file = self.file(source);
        self.pull(source)?;
        let bytes = std::fs::read(&file).with_context(|| match source {
            FilterSource::BuiltIn(name) => format!(
                "filter `{name}`: {} cannot be read; build it with `tollgate build {name}`",
                file.display()
            ),
            FilterSource::File(_) | FilterSource::Image(_) => {
                format!("{} cannot be read", file.display())
            }
        })?;
        let told = match source {
            FilterSource::Image(image) => {
                format!("{}.wasm", image.trim_start_matches("oci://")).into()
            }
            FilterSource::BuiltIn(_) | FilterSource::File(_) => file,
        };
        Ok((told, bytes))
    }

    /// Pulls the module of an image to where hosts look for it, once in a run.
    ///
    /// # Errors
    ///
    /// When it cannot be pulled, or has no module.
    pub(crate) fn pull(&self, source: &FilterSource) -> Result<()> {
        let FilterSource::Image(image) = source else { return Ok(()) };
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if !images.pulled.contains(source) {
            let fetched = images.fetch(&self.registries, &image.parse()?)?;
            images.hold(source.clone(), &fetched)?;
        }
        Ok(())
    }

    /// Pulls an image, whose module is then that of the source that comes with it.
    ///
    /// # Errors
    ///
    /// As [`Self::pull`].
    pub(crate) fn fetch(&self, reference: &Reference) -> Result<(FilterSource, Fetched)> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let fetched = images.fetch(&self.registries, reference)?;
        let pinned = fetched.reference.pinned(&fetched.digest);
        let source = FilterSource::Image(format!("oci://{pinned}"));
        images.hold(source.clone(), &fetched)?;
        Ok((source, fetched))
    }

    /// The way to registries.
    ///
    /// # Errors
    ///
    /// What cannot be read of it.
    pub(crate) fn registries(&self) -> Result<Arc<Registries>> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.registries(&self.registries)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.modules.clone()
    }

    /// The file of a filter's module.
    pub(crate) fn file(&self, source: &FilterSource) -> PathBuf {
        source.file(&self.modules)
    }

    /// The file of a filter's module, if another module may come to be in it: an image is pulled once.
    pub(crate) fn file_that_changes(&self, source: &FilterSource) -> Option<PathBuf> {
        match source {
            FilterSource::BuiltIn(_) | FilterSource::File(_) => Some(self.file(source)),
            FilterSource::Image(_) => None,
        }
    }
}

/// The images whose modules hosts find.
#[derive(Default)]
struct Images {
    /// The way to registries, once it was needed: a password is read once.
    registries: Option<Arc<Registries>>,
    pulled: BTreeSet<FilterSource>,
}

impl Images {
    fn registries(&mut self, options: &RegistryOptions) -> Result<Arc<Registries>> {
        let registries = match self.registries.take() {
            Some(registries) => registries,
            None => Arc::new(options.clone().read()?),
        };
        Ok(Arc::clone(self.registries.insert(registries)))
    }

    fn fetch(&mut self, options: &RegistryOptions, reference: &Reference) -> Result<Fetched> {
        self.registries(options)?.fetch(reference)
    }

    fn hold(&mut self, source: FilterSource, image: &Fetched) -> Result<()> {
        let file = source.file(Path::new(""));
        store(&file, &module(image)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        self.pulled.insert(source);
        Ok(())
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
            let scenario = read_scenario(&file)?;
            Ok((file, scenario))
        })
        .collect()
}

/// Reads a scenario file.
///
/// # Errors
///
/// One that names the file, with line and column; a suite is no scenario.
pub(crate) fn read_scenario(file: &Path) -> Result<Scenario> {
    if is_suite(file) {
        bail!(
            "{}: a suite of Service Extensions, which `tollgate test` alone takes",
            file.display()
        );
    }
    Scenario::read(file).with_context(|| format!("{}", file.display()))
}

/// Whether a file is a suite of Service Extensions, and no scenario.
pub(crate) fn is_suite(file: &Path) -> bool {
    let ending = file.extension().unwrap_or_default();
    if ending == "yaml" || ending == "yml" {
        std::fs::read_to_string(file).is_ok_and(|text| Suite::is_in_yaml(&text))
    } else {
        ending == "textpb" || ending == "textproto"
    }
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
            Err(error) => Err(not_loaded(&error)),
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
            Err(error) => Err(not_loaded(&error)),
        }
    }
}

fn not_loaded(error: &anyhow::Error) -> StartError {
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Invalid(_) | LoadError::Refused(_)) => {
            StartError::Refused { words: format!("{error:#}") }
        }
        Some(LoadError::TooLarge { .. } | LoadError::Unsupported(_)) | None => {
            // With its causes, which the display of a boxed error leaves out.
            StartError::Module(format!("{error:#}").into())
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
/// running it; one that expects a refusal is judged by it. Images are pulled for any host.
///
/// # Errors
///
/// One that names the file and all problems.
pub(crate) fn refuse_unloadable(built_ins: &BuiltIns, scenario: &Scenario) -> Result<()> {
    for filter in scenario.filters.iter().cloned().chain(scenario.later_modules()) {
        built_ins.pull(&filter.source)?;
    }
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
        FilterSource::File(_) | FilterSource::Image(_) => None,
    };
    match found {
        Some((_, module)) => Ok(Arc::new(*module)),
        None => Err(StartError::Module(
            format!(
                "filter `{}` is not linked into this command; run it on wasmtime",
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
