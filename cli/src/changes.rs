//! Changes of files, as the system tells them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

/// How long nothing may happen before what has happened is looked at: editors and linkers write more
/// than once.
const QUIET: Duration = Duration::from_millis(200);

/// Folders that are watched.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    changes: Receiver<notify::Result<Event>>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    ///
    /// When files cannot be watched.
    pub(crate) fn new() -> Result<Self> {
        let (sender, changes) = mpsc::channel();
        let watcher = notify::recommended_watcher(sender).context("cannot watch files")?;
        Ok(Self { watcher, changes, folders: BTreeSet::new() })
    }

    /// Watches a folder too, unless it is watched already.
    ///
    /// # Errors
    ///
    /// When it cannot be watched.
    pub(crate) fn add(&mut self, folder: PathBuf, mode: RecursiveMode) -> Result<()> {
        if self.folders.contains(&folder) {
            return Ok(());
        }
        self.watcher
            .watch(&folder, mode)
            .with_context(|| format!("{} cannot be watched", folder.display()))?;
        self.folders.insert(folder);
        Ok(())
    }

    /// Waits until something changes that matters, and then until nothing does for a moment.
    ///
    /// # Errors
    ///
    /// When files are watched no longer.
    pub(crate) fn wait(&self, matters: impl Fn(&Path) -> bool) -> Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut until: Option<Instant> = None;
        loop {
            let next = match until {
                None => self.changes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => {
                    self.changes.recv_timeout(until.saturating_duration_since(Instant::now()))
                }
            };
            match next {
                Ok(event) => {
                    let event = event.context("cannot watch files")?;
                    if event.kind.is_access() {
                        continue;
                    }
                    let paths = event.paths.iter().map(|path| resolved(path));
                    let paths: Vec<PathBuf> = paths.filter(|path| matters(path)).collect();
                    // What does not matter may happen all the time.
                    if !paths.is_empty() {
                        until = Some(Instant::now() + QUIET);
                        changed.extend(paths);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(changed),
                Err(RecvTimeoutError::Disconnected) => {
                    anyhow::bail!("files are watched no longer")
                }
            }
        }
    }
}

/// The path as changes name it.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}
