//! What came of scenarios: verdicts and the failures behind them.

pub(crate) mod difference;
mod junit;
mod text;

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::account::Account;
use crate::scenario::HostName;

/// What came of one scenario on one host.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// The file, or where else it stands.
    pub file: String,
    /// Its name.
    pub name: String,
    /// The host.
    pub host: HostName,
    /// How often it is run: as it is written, in each variation, and under each seed.
    #[serde(skip_serializing_if = "is_one")]
    pub runs: usize,
    /// The verdict, or why there is none: it cannot be read, or the host could not even try.
    #[serde(flatten, serialize_with = "verdict_or_why")]
    pub verdict: Result<Verdict, String>,
    /// How long it took, in real time. JSON, which is the same every time, does not tell.
    #[serde(skip)]
    pub took: Duration,
}

impl Case {
    /// The command that has the run that failed again, where a scenario has several.
    pub fn again(&self) -> Option<String> {
        let Ok(Verdict::Failed { failures }) = &self.verdict else { return None };
        let Replay { variant, seed } = &failures.first()?.replay;
        if variant.is_none() && seed.is_none() {
            return None;
        }
        let on = match self.host {
            HostName::Wasmtime => String::new(),
            host @ (HostName::Envoy | HostName::Native) => format!(" --on {host}"),
        };
        let seed = seed.map(|seed| format!(" --seed {seed}")).unwrap_or_default();
        let variant = variant.as_ref().map(|name| format!(" --variant '{name}'"));
        let variant = variant.unwrap_or_default();
        Some(format!("tollgate test {}{on}{seed}{variant}", self.file))
    }
}

/// A verdict.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was as expected.
    Passed,
    /// Something was not.
    Failed {
        /// What, at least one.
        failures: Vec<Failure>,
    },
    /// The scenario does not run on this host.
    Skipped {
        /// Why, in the scenario's own words.
        reason: String,
    },
}

impl Verdict {
    /// Passed when nothing failed.
    pub fn of(failures: Vec<Failure>) -> Self {
        if failures.is_empty() { Self::Passed } else { Self::Failed { failures } }
    }
}

/// One thing that was not as expected.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Failure {
    /// In which of the runs of a scenario.
    #[serde(flatten)]
    pub replay: Replay,
    /// Where: the step, or the start.
    pub place: String,
    /// What, on one line; below it the difference, when it has more than one.
    pub what: String,
    /// What guests did meanwhile; it comes with the last failure of a step.
    #[serde(flatten)]
    pub account: Account,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replay, place, what, account } = self;
        let account = account.to_string().replace('\n', "\n  ");
        write!(f, "{replay}{place}: {what}{account}")
    }
}

/// One of several runs of a scenario, and so what it takes to have it again.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Replay {
    /// The variation, by its name; none for what is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The seed, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seed) = self.seed {
            write!(f, "seed {seed}: ")?;
        }
        if let Some(variant) = &self.variant {
            write!(f, "{variant}: ")?;
        }
        Ok(())
    }
}

/// What came of a set of scenarios; as JSON the answer of `tollgate test --format json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many do not run on this host.
    pub skipped: usize,
    /// How many could not be played.
    #[serde(skip_serializing_if = "is_none")]
    pub unplayed: usize,
    /// How many were left out after the first that failed.
    #[serde(skip_serializing_if = "is_none")]
    pub left_out: usize,
    /// Each of them, in order.
    pub cases: Vec<Case>,
}

fn verdict_or_why<S: Serializer>(
    verdict: &Result<Verdict, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match verdict {
        Ok(verdict) => verdict.serialize(serializer),
        Err(why) => {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("verdict", "unplayed")?;
            map.serialize_entry("why", why)?;
            map.end()
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(count: &usize) -> bool {
    *count == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl FromIterator<Case> for Report {
    fn from_iter<I: IntoIterator<Item = Case>>(cases: I) -> Self {
        let mut report = Self::default();
        for case in cases {
            match case.verdict {
                Ok(Verdict::Passed) => report.passed += 1,
                Ok(Verdict::Failed { .. }) => report.failed += 1,
                Ok(Verdict::Skipped { .. }) => report.skipped += 1,
                Err(_) => report.unplayed += 1,
            }
            report.cases.push(case);
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        if self.unplayed > 0 {
            write!(f, ", {} not played", self.unplayed)?;
        }
        if self.left_out > 0 {
            write!(f, ", {} left out", self.left_out)?;
        }
        Ok(())
    }
}
