//! Runs again what changes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{Event, RecursiveMode, Watcher};

use super::Test;
use super::cases::Case;
use crate::Outcome;

/// How long nothing may happen before what has happened is looked at: editors and linkers write more
/// than once.
const QUIET: Duration = Duration::from_millis(200);

/// Plays everything, then again and again what has changed. Ends only when it is interrupted.
///
/// # Errors
///
/// When files cannot be watched. What cannot be read or run is told, and waits for the next change.
pub(super) fn watch(test: &Test) -> Result<Outcome> {
    let (sender, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).context("cannot watch files")?;
    let mut watched = BTreeSet::new();
    let mut files = BTreeSet::new();
    let mut changed: Option<BTreeSet<PathBuf>> = None;
    loop {
        let cases = test.selected();
        match &cases {
            Ok(cases) => files = cases.iter().flat_map(|case| files_of(test, case)).collect(),
            Err(error) => eprintln!("error: {error:#}"),
        }
        let folders = test.paths.iter().filter(|path| path.is_dir()).cloned();
        let parents = files.iter().filter_map(|file| file.parent().map(Path::to_owned));
        for folder in
            folders.chain(parents.clone()).chain(test.paths.iter().filter_map(|path| parent(path)))
        {
            if watched.insert(folder.clone()) {
                let is_named = test.paths.contains(&folder);
                let mode =
                    if is_named { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
                watcher
                    .watch(&folder, mode)
                    .with_context(|| format!("{} cannot be watched", folder.display()))?;
            }
        }
        if let Ok(mut cases) = cases {
            if let Some(changed) = &changed {
                cases.retain(|case| files_of(test, case).any(|file| changed.contains(&file)));
            }
            if !cases.is_empty()
                && let Err(error) = test.play(&cases)
            {
                eprintln!("error: {error:#}");
            }
        }
        eprintln!("watching {} files", files.len());
        changed = Some(wait(test, &changes, &files)?);
    }
}

/// Waits until something changes that matters: a file of a case, or a scenario that may be new.
fn wait(
    test: &Test,
    changes: &Receiver<notify::Result<Event>>,
    files: &BTreeSet<PathBuf>,
) -> Result<BTreeSet<PathBuf>> {
    let mut changed = BTreeSet::new();
    loop {
        let next = if changed.is_empty() {
            changes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            changes.recv_timeout(QUIET)
        };
        match next {
            Ok(event) => {
                let event = event.context("cannot watch files")?;
                if !event.kind.is_access() {
                    let matters = |path: &PathBuf| files.contains(path) || may_be_new(test, path);
                    let paths = event.paths.iter().map(|path| resolved(path));
                    changed.extend(paths.filter(matters));
                }
            }
            Err(RecvTimeoutError::Timeout) => return Ok(changed),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("files are watched no longer"),
        }
    }
}

fn may_be_new(test: &Test, path: &Path) -> bool {
    let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    is_yaml && test.paths.iter().any(|named| named.is_dir() && path.starts_with(resolved(named)))
}

/// The files that make a case what it is.
fn files_of<'a>(test: &'a Test, case: &'a Case) -> impl Iterator<Item = PathBuf> + 'a {
    let modules = case.filters().iter().map(|filter| test.built_ins.file(&filter.source));
    let deployed = test.from.resource.iter().cloned();
    let files = case.files().map(Path::to_owned).chain(modules).chain(deployed);
    files.map(|file| resolved(&file))
}

/// The path as changes name it.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

fn parent(path: &Path) -> Option<PathBuf> {
    let path = resolved(path);
    if path.is_dir() { None } else { path.parent().map(Path::to_owned) }
}
