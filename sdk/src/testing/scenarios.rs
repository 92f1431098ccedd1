//! Scenario files on a filter that is linked into the test.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tollgate_host::engine::Module;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::StartError;
use tollgate_host::report::Verdict;
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterUse, HostName, Scenario};

use crate::Registration;

/// Plays every scenario file in a folder and below it on a filter, whatever name the scenario calls it
/// by, and gives how many passed. What is skipped is printed with its reason.
///
/// # Errors
///
/// [`ScenariosFailed`] with a line for each failure; also when no scenario ran.
pub fn scenarios(folder: impl AsRef<Path>, filter: Registration) -> Result<usize, ScenariosFailed> {
    let folder = folder.as_ref();
    let loader = move |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> { Ok(filter.into()) };
    let host = Offline::new(HostName::Native, &loader);
    let mut files = Vec::new();
    let mut failures = Vec::new();
    if let Err(error) = collect(folder, &mut files) {
        failures.push(format!("{}: {error}", folder.display()));
    }
    let mut passed = 0_usize;
    for file in files {
        let name = file.display();
        match Scenario::read(&file) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok(scenario) => match run(&scenario, &host) {
                Err(error) => failures.push(format!("{name}: {error}")),
                Ok(Verdict::Passed) => passed = passed.saturating_add(1),
                Ok(Verdict::Skipped { reason }) => println!("skipped {name}: {reason}"),
                Ok(Verdict::Failed { failures: found }) => {
                    failures.extend(found.iter().map(|failure| format!("{name}: {failure}")));
                }
            },
        }
    }
    if passed == 0 && failures.is_empty() {
        failures.push(format!("{}: no scenario ran", folder.display()));
    }
    if failures.is_empty() { Ok(passed) } else { Err(ScenariosFailed { failures }) }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            files.push(path);
        }
    }
    Ok(())
}

/// Scenarios that did not go as they say.
pub struct ScenariosFailed {
    /// One line for each thing that was not as expected, with its file.
    pub failures: Vec<String>,
}

impl fmt::Display for ScenariosFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failures.join("\n"))
    }
}

/// As it is displayed, for tests that unwrap.
impl fmt::Debug for ScenariosFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ScenariosFailed {}
