//! Runs a scenario as it is written and then in all of its variations, which have to come to the same;
//! and all that under each of its seeds.

use super::exchange::DIFFERS;
use super::outcome::Watched;
use super::{Start, judge_start, judge_traffic, play};
use crate::clip::clip;
use crate::proxy::{ProxyHost, StartError};
use crate::report::{Failure, Replay, Verdict, difference};
use crate::scenario::Scenario;

/// How many lines of a difference between two outcomes are told.
const MOST_DIFFERENT: usize = 60;

/// Runs until something is not as expected.
pub(super) fn run(scenario: &Scenario, host: &dyn ProxyHost) -> Result<Verdict, StartError> {
    let seeds = scenario.seeds_on(host.name());
    let several = seeds != [0];
    for seed in seeds {
        let seeded = Scenario { seed, ..scenario.clone() };
        let (mut failures, variant) = run_seeded(&seeded, host)?;
        if failures.is_empty() {
            continue;
        }
        let seed = several.then_some(seed);
        for failure in &mut failures {
            failure.replay = Replay { variant: variant.clone(), seed };
        }
        return Ok(Verdict::Failed { failures });
    }
    Ok(Verdict::Passed)
}

/// Runs under one seed; gives what was not as expected, and of which variation.
fn run_seeded(
    scenario: &Scenario,
    host: &dyn ProxyHost,
) -> Result<(Vec<Failure>, Option<String>), StartError> {
    let variations = scenario.variations(host.name());
    if variations.is_empty() {
        let failures = match judge_start(scenario, host.start(scenario))? {
            Start::Running(mut proxy) => {
                let mut failures = play(scenario, proxy.as_mut());
                judge_traffic(scenario, proxy.as_mut(), &mut failures);
                failures
            }
            Start::Judged(Verdict::Failed { failures }) => failures,
            Start::Judged(Verdict::Passed | Verdict::Skipped { .. }) => Vec::new(),
        };
        return Ok((failures, None));
    }
    let (failures, written) = watch(scenario, host, None)?;
    if !failures.is_empty() {
        return Ok((failures, None));
    }
    for variation in variations {
        let (mut failures, varied) = watch(&variation.apply(scenario), host, Some(&written))?;
        if failures.is_empty() {
            failures.extend(differs(&written, &varied));
        }
        if !failures.is_empty() {
            return Ok((failures, Some(variation.to_string())));
        }
    }
    Ok((Vec::new(), None))
}

/// What was not as expected, and what came of it, a line each. What shows only under traffic is checked
/// of what is written, and not of its variations; it is no part of what came of the steps.
fn watch(
    scenario: &Scenario,
    host: &dyn ProxyHost,
    written: Option<&[String]>,
) -> Result<(Vec<Failure>, Vec<String>), StartError> {
    Ok(match judge_start(scenario, host.start(scenario))? {
        Start::Running(proxy) => {
            let mut watched = Watched::new(proxy);
            let mut failures = play(scenario, &mut watched);
            let (outcomes, mut proxy) = watched.outcomes(written);
            if written.is_none() {
                judge_traffic(scenario, proxy.as_mut(), &mut failures);
            }
            (failures, outcomes)
        }
        Start::Judged(Verdict::Failed { failures }) => (failures, Vec::new()),
        Start::Judged(Verdict::Passed | Verdict::Skipped { .. }) => (Vec::new(), Vec::new()),
    })
}

/// Two outcomes that should be the same.
fn differs(written: &[String], varied: &[String]) -> Option<Failure> {
    if written == varied {
        return None;
    }
    let difference = difference::of_lines(written, varied, |one, other| one == other);
    let mut lines: Vec<String> =
        difference.lines().take(MOST_DIFFERENT).map(|line| clip(&line)).collect();
    let untold = difference.lines().skip(MOST_DIFFERENT).count();
    if untold > 0 {
        lines.push(format!("  … and {untold} lines more"));
    }
    Some(Failure {
        place: "outcome".into(),
        what: format!("{DIFFERS}\n{}", lines.join("\n")),
        ..Failure::default()
    })
}
