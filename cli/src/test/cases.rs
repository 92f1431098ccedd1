//! What is tested: scenarios, and the tests of suites; read, and played side by side.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{ProxyHost, StartError};
use tollgate_host::report::{self, Report, Verdict};
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterSource, FilterUse, HostName, Scenario, Traffic};
use tollgate_host::suite::{self, Suite};
use tollgate_host_envoy::EnvoyHost;

use crate::filters::{BuiltIns, refuse_unloadable, scenario_files};

/// One thing to play.
pub(super) struct Case {
    pub(super) file: PathBuf,
    what: What,
}

enum What {
    Scenario(Box<Scenario>),
    /// A test of a suite.
    Test {
        index: usize,
        of: Arc<Subject>,
    },
}

/// A suite, and the filter that it tests.
struct Subject {
    suite: Suite,
    filter: FilterUse,
    /// Where the configuration comes from.
    config: Option<PathBuf>,
}

impl Case {
    pub(super) fn name(&self) -> &str {
        match &self.what {
            What::Scenario(scenario) => &scenario.name,
            What::Test { .. } => self.test().map_or("", |(test, _)| &test.name),
        }
    }

    /// What its filters stand in front of.
    pub(super) fn traffic(&self) -> Traffic {
        match &self.what {
            What::Scenario(scenario) => scenario.traffic,
            What::Test { .. } => Traffic::Http,
        }
    }

    pub(super) fn filters(&self) -> &[FilterUse] {
        match &self.what {
            What::Scenario(scenario) => &scenario.filters,
            What::Test { of, .. } => std::slice::from_ref(&of.filter),
        }
    }

    /// The scenario, unless it is a test of a suite.
    pub(super) fn scenario_mut(&mut self) -> Option<&mut Scenario> {
        match &mut self.what {
            What::Scenario(scenario) => Some(scenario),
            What::Test { .. } => None,
        }
    }

    /// Refuses modules that no proxy would load.
    ///
    /// # Errors
    ///
    /// One that names the file and all problems.
    pub(super) fn refuse_unloadable(&self, built_ins: &BuiltIns) -> Result<()> {
        match &self.what {
            What::Scenario(scenario) => refuse_unloadable(built_ins, scenario),
            What::Test { of, .. } => {
                refuse_unloadable(built_ins, &Scenario::without_steps(of.filter.clone()))
            }
        }
    }

    /// Puts filters in the place of its own.
    ///
    /// # Errors
    ///
    /// For a scenario whose steps name filters that are not there, and for a suite.
    pub(super) fn test_filters(&mut self, filters: &[FilterUse]) -> Result<()> {
        match &mut self.what {
            What::Scenario(scenario) => {
                scenario.filters = filters.to_vec();
                scenario.check().with_context(|| format!("{}", self.file.display()))
            }
            What::Test { .. } => {
                bail!(
                    "{}: a suite has no chain; name its module with --filter",
                    self.file.display()
                )
            }
        }
    }

    /// The files that it is made of, besides modules.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let config = match &self.what {
            What::Scenario(_) => None,
            What::Test { of, .. } => of.config.as_deref(),
        };
        std::iter::once(self.file.as_path()).chain(config)
    }

    /// How often it is run on a host.
    fn runs(&self, host: HostName) -> usize {
        match &self.what {
            What::Scenario(scenario) => scenario.runs_on(host),
            What::Test { .. } => 1,
        }
    }

    /// What of it is left out on a host, if anything.
    fn left_out(&self, host: HostName) -> Option<String> {
        let What::Scenario(scenario) = &self.what else { return None };
        let all = scenario.all_variations().len();
        let all = if scenario.variant.is_some() { 1 } else { all };
        let some = scenario.variations(host).len();
        let seeds = scenario.seeds_on(host).len();
        let variations =
            (some < all).then(|| format!("{some} of {all} variations are played on {host}"));
        let seeds = (Some(seeds) < usize::try_from(scenario.seeds).ok())
            .then(|| format!("{seeds} of {} seeds is played on {host}", scenario.seeds));
        let left_out: Vec<String> = variations.into_iter().chain(seeds).collect();
        (!left_out.is_empty()).then(|| left_out.join("; "))
    }

    fn test(&self) -> Option<(&suite::Test, &Subject)> {
        match &self.what {
            What::Scenario(_) => None,
            What::Test { index, of } => Some((of.suite.tests.get(*index)?, of)),
        }
    }

    fn play(&self, host: &Host<'_>) -> Result<Verdict, StartError> {
        match (&self.what, host) {
            (What::Scenario(scenario), _) => run(scenario, host.proxy()),
            (What::Test { .. }, Host::Envoy(_)) => {
                let reason = "a suite shows its guest phases, not a proxy; it runs offline".into();
                Ok(Verdict::Skipped { reason })
            }
            (What::Test { .. }, Host::Offline(host)) => match self.test() {
                Some((test, of)) => suite::play(test, &of.suite.environment, &of.filter, host),
                None => Ok(Verdict::Passed),
            },
        }
    }
}

/// Where cases are played.
pub(super) enum Host<'a> {
    Offline(Offline<'a>),
    Envoy(EnvoyHost),
}

impl Host<'_> {
    fn proxy(&self) -> &dyn ProxyHost {
        match self {
            Self::Offline(host) => host,
            Self::Envoy(host) => host,
        }
    }

    fn name(&self) -> HostName {
        self.proxy().name()
    }
}

/// Reads what the paths name. Suites test `filter` with `config`, or what they name themselves.
pub(super) fn read(
    paths: &[PathBuf],
    filter: Option<&str>,
    config: Option<&Path>,
) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut has_suite = false;
    for file in scenario_files(paths)? {
        if is_suite(&file) {
            has_suite = true;
            let of = Arc::new(subject(&file, filter, config)?);
            for said in &of.suite.ignored {
                eprintln!("note: {}: {said}", file.display());
            }
            cases.extend((0..of.suite.tests.len()).map(|index| {
                let of = Arc::clone(&of);
                Case { file: file.clone(), what: What::Test { index, of } }
            }));
        } else {
            let scenario = Scenario::read(&file).with_context(|| format!("{}", file.display()))?;
            for left in &scenario.left {
                eprintln!("note: {}: {left}", file.display());
            }
            cases.push(Case { file, what: What::Scenario(Box::new(scenario)) });
        }
    }
    if !has_suite && (filter.is_some() || config.is_some()) {
        bail!("--filter and --config are for suites; scenarios name their filters themselves");
    }
    Ok(cases)
}

fn is_suite(file: &Path) -> bool {
    let ending = file.extension().unwrap_or_default();
    if ending == "yaml" || ending == "yml" {
        std::fs::read_to_string(file).is_ok_and(|text| Suite::is_in_yaml(&text))
    } else {
        ending == "textpb" || ending == "textproto"
    }
}

fn subject(file: &Path, filter: Option<&str>, config: Option<&Path>) -> Result<Subject> {
    let suite = Suite::read(file).with_context(|| format!("{}", file.display()))?;
    let environment = &suite.environment;
    let source = match (filter, &environment.module) {
        (Some(filter), _) => FilterSource::parse(filter)?,
        (None, Some(module)) => FilterSource::File(module.clone()),
        (None, None) => bail!(
            "{}: no module; name one with --filter FILE.wasm, or as env.wasm_path",
            file.display()
        ),
    };
    let config = config.map(Path::to_owned).or_else(|| environment.config.clone());
    let bytes = match &config {
        None => Vec::new(),
        Some(config) => std::fs::read(config)
            .with_context(|| format!("{}: {} cannot be read", file.display(), config.display()))?,
    };
    let filter = FilterUse { name: "test".into(), ..FilterUse::new(source, bytes) };
    Ok(Subject { suite, filter, config })
}

/// How cases are played.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// How many at once.
    pub(super) jobs: Option<NonZeroUsize>,
    /// Begin no other once one has failed.
    pub(super) fail_fast: bool,
}

/// Plays cases side by side; the report keeps their order.
pub(super) fn play_all(cases: &[Case], host: &Host<'_>, order: Order) -> Result<Report> {
    let jobs = order.jobs.or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get).min(cases.len());
    let next = AtomicUsize::new(0);
    let is_enough = AtomicBool::new(false);
    let played = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !is_enough.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { return };
                    let result = play(case, host);
                    let is_bad = result.as_ref().map_or(true, |played| {
                        matches!(played.verdict, Verdict::Failed { .. }) && order.fail_fast
                    });
                    if is_bad {
                        is_enough.store(true, Ordering::Relaxed);
                    }
                    let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
                    played.push((index, result));
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_by_key(|(index, _)| *index);
    let left_out = cases.len() - played.len();
    let report: Report = played.into_iter().map(|(_, result)| result).collect::<Result<_>>()?;
    Ok(Report { left_out, ..report })
}

fn play(case: &Case, host: &Host<'_>) -> Result<report::Case> {
    if let Some(left_out) = case.left_out(host.name()) {
        eprintln!("note: {}: {left_out}", case.file.display());
    }
    let began = Instant::now();
    let verdict = case.play(host).with_context(|| format!("{}", case.file.display()))?;
    Ok(report::Case {
        file: case.file.display().to_string(),
        name: case.name().to_owned(),
        host: host.name(),
        runs: case.runs(host.name()),
        verdict,
        took: began.elapsed(),
    })
}
