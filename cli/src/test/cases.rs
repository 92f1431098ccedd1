//! What is tested: scenarios, and the tests of suites; read, and played side by side.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Error, Result, bail};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::ProxyHost;
use tollgate_host::report::{self, Report, Verdict};
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterSource, FilterUse, HostName, Scenario, Traffic};
use tollgate_host::suite::{self, Suite};
use tollgate_host_envoy::EnvoyHost;

use crate::filters::{BuiltIns, is_suite, refuse_unloadable, scenario_files};

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
    /// What cannot be read, or whose modules cannot.
    Unplayed {
        name: String,
        why: String,
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
    /// A file that cannot be read, which goes by its own name.
    fn unread(file: PathBuf, error: &Error) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { file, what: What::Unplayed { name, why: format!("{error:#}") } }
    }

    /// Whether it is a test of a suite.
    pub(super) fn is_of_suite(&self) -> bool {
        matches!(self.what, What::Test { .. })
    }

    /// Why it cannot be played, if it cannot.
    pub(super) fn unplayed(&self) -> Option<&str> {
        match &self.what {
            What::Scenario(_) | What::Test { .. } => None,
            What::Unplayed { why, .. } => Some(why),
        }
    }

    pub(super) fn name(&self) -> &str {
        match &self.what {
            What::Scenario(scenario) => &scenario.name,
            What::Test { .. } => self.test().map_or("", |(test, _)| &test.name),
            What::Unplayed { name, .. } => name,
        }
    }

    /// What its filters stand in front of.
    pub(super) fn traffic(&self) -> Traffic {
        match &self.what {
            What::Scenario(scenario) => scenario.traffic,
            What::Test { .. } | What::Unplayed { .. } => Traffic::Http,
        }
    }

    pub(super) fn filters(&self) -> &[FilterUse] {
        match &self.what {
            What::Scenario(scenario) => &scenario.filters,
            What::Test { of, .. } => std::slice::from_ref(&of.filter),
            What::Unplayed { .. } => &[],
        }
    }

    /// The scenario, unless it is a test of a suite.
    pub(super) fn scenario_mut(&mut self) -> Option<&mut Scenario> {
        match &mut self.what {
            What::Scenario(scenario) => Some(scenario),
            What::Test { .. } | What::Unplayed { .. } => None,
        }
    }

    /// Does not play it when no proxy would load its modules.
    pub(super) fn refuse_unloadable(&mut self, built_ins: &BuiltIns) {
        let loadable = match &self.what {
            What::Scenario(scenario) => refuse_unloadable(built_ins, scenario),
            What::Test { of, .. } => {
                refuse_unloadable(built_ins, &Scenario::without_steps(of.filter.clone()))
            }
            What::Unplayed { .. } => Ok(()),
        };
        if let Err(error) = loadable {
            self.refuse(&error);
        }
    }

    fn refuse(&mut self, error: &Error) {
        let name = self.name().to_owned();
        self.what = What::Unplayed { name, why: format!("{error:#}") };
    }

    /// Puts filters in the place of its own. A scenario whose steps name others is not played.
    ///
    /// # Errors
    ///
    /// For a suite.
    pub(super) fn test_filters(&mut self, filters: &[FilterUse]) -> Result<()> {
        match &mut self.what {
            What::Scenario(scenario) => {
                scenario.filters = filters.to_vec();
                if let Err(error) = scenario.check() {
                    self.refuse(&error.into());
                }
                Ok(())
            }
            What::Unplayed { .. } => Ok(()),
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
            What::Scenario(_) | What::Unplayed { .. } => None,
            What::Test { of, .. } => of.config.as_deref(),
        };
        std::iter::once(self.file.as_path()).chain(config)
    }

    /// How often it is run on a host.
    fn runs(&self, host: HostName) -> usize {
        match &self.what {
            What::Scenario(scenario) => scenario.runs_on(host),
            What::Test { .. } | What::Unplayed { .. } => 1,
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
            What::Scenario(_) | What::Unplayed { .. } => None,
            What::Test { index, of } => Some((of.suite.tests.get(*index)?, of)),
        }
    }

    fn play(&self, host: &Host<'_>) -> Result<Verdict, String> {
        let played = match (&self.what, host) {
            (What::Unplayed { why, .. }, _) => return Err(why.clone()),
            (What::Scenario(scenario), _) => run(scenario, host.proxy()),
            (What::Test { .. }, Host::Envoy(_)) => {
                let reason = "a suite shows its guest phases, not a proxy; it runs offline".into();
                Ok(Verdict::Skipped { reason })
            }
            (What::Test { .. }, Host::Offline(host)) => match self.test() {
                Some((test, of)) => suite::play(test, &of.suite.environment, &of.filter, host),
                None => Ok(Verdict::Passed),
            },
        };
        played.map_err(|error| error.to_string())
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
///
/// # Errors
///
/// Folders without scenarios, and arguments for suites when there is none.
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
            match subject(&file, filter, config) {
                Ok(of) => cases.extend(tests(&file, of)),
                Err(error) => cases.push(Case::unread(file, &error)),
            }
        } else {
            cases.push(match Scenario::read(&file) {
                Ok(scenario) => {
                    for left in &scenario.left {
                        eprintln!("note: {}: {left}", file.display());
                    }
                    Case { file, what: What::Scenario(Box::new(scenario)) }
                }
                Err(error) => Case::unread(file, &error.into()),
            });
        }
    }
    if !has_suite && (filter.is_some() || config.is_some()) {
        bail!("--filter and --config are for suites; scenarios name their filters themselves");
    }
    Ok(cases)
}

fn tests(file: &Path, of: Subject) -> impl Iterator<Item = Case> {
    for said in &of.suite.ignored {
        eprintln!("note: {}: {said}", file.display());
    }
    let of = Arc::new(of);
    (0..of.suite.tests.len()).map(move |index| {
        let of = Arc::clone(&of);
        Case { file: file.to_owned(), what: What::Test { index, of } }
    })
}

fn subject(file: &Path, filter: Option<&str>, config: Option<&Path>) -> Result<Subject> {
    let suite = Suite::read(file)?;
    let environment = &suite.environment;
    let source = match (filter, &environment.module) {
        (Some(filter), _) => FilterSource::parse(filter)?,
        (None, Some(module)) => FilterSource::File(module.clone()),
        (None, None) => bail!("no module; name one with --filter FILE.wasm, or as env.wasm_path"),
    };
    let config = config.map(Path::to_owned).or_else(|| environment.config.clone());
    let bytes = match &config {
        None => Vec::new(),
        Some(config) => {
            std::fs::read(config).with_context(|| format!("{} cannot be read", config.display()))?
        }
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
pub(super) fn play_all(cases: &[Case], host: &Host<'_>, order: Order) -> Report {
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
                    let case = play(case, host);
                    let is_bad =
                        !matches!(case.verdict, Ok(Verdict::Passed | Verdict::Skipped { .. }));
                    if is_bad && order.fail_fast {
                        is_enough.store(true, Ordering::Relaxed);
                    }
                    let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
                    played.push((index, case));
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_by_key(|(index, _)| *index);
    let left_out = cases.len() - played.len();
    let report: Report = played.into_iter().map(|(_, case)| case).collect();
    Report { left_out, ..report }
}

fn play(case: &Case, host: &Host<'_>) -> report::Case {
    if let Some(left_out) = case.left_out(host.name()) {
        eprintln!("note: {}: {left_out}", case.file.display());
    }
    let began = Instant::now();
    let verdict = case.play(host);
    report::Case {
        file: case.file.display().to_string(),
        name: case.name().to_owned(),
        host: host.name(),
        runs: case.runs(host.name()),
        verdict,
        took: began.elapsed(),
    }
}
