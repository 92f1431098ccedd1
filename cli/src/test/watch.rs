//! Runs again what changes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use notify::RecursiveMode;

use super::Test;
use super::cases::Case;
use crate::Outcome;
use crate::changes::{Watch, resolved};

/// Plays everything, then again and again what has changed. Ends only when it is interrupted.
///
/// # Errors
///
/// When files cannot be watched. What cannot be read or run is told, and waits for the next change.
pub(super) fn watch(test: &Test) -> Result<Outcome> {
    let mut watch = Watch::new()?;
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
            let is_named = test.paths.contains(&folder);
            let mode =
                if is_named { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            watch.add(folder, mode)?;
        }
        if let Ok(mut cases) = cases {
            if let Some(changed) = &changed {
                cases.retain(|case| files_of(test, case).any(|file| changed.contains(&file)));
            }
            if !cases.is_empty()
                && let Err(error) = test.play(cases)
            {
                eprintln!("error: {error:#}");
            }
        }
        eprintln!("watching {} files", files.len());
        changed = Some(watch.wait(|path| files.contains(path) || may_be_new(test, path))?);
    }
}

fn may_be_new(test: &Test, path: &Path) -> bool {
    let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    is_yaml && test.paths.iter().any(|named| named.is_dir() && path.starts_with(resolved(named)))
}

/// The files that make a case what it is.
fn files_of<'a>(test: &'a Test, case: &'a Case) -> impl Iterator<Item = PathBuf> + 'a {
    let sources = case.filters().iter().map(|filter| &filter.source);
    let modules = sources.filter_map(|source| test.built_ins.file_that_changes(source));
    let deployed = test.from.resource.iter().cloned();
    let files = case.files().map(Path::to_owned).chain(modules).chain(deployed);
    files.map(|file| resolved(&file))
}

fn parent(path: &Path) -> Option<PathBuf> {
    let path = resolved(path);
    if path.is_dir() { None } else { path.parent().map(Path::to_owned) }
}
