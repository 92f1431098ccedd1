//! Filters whose files change are exchanged.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use notify::RecursiveMode;
use tollgate_host::engine::Module;
use tollgate_host::scenario::FilterUse;
use tollgate_host_serve::{Change, Changer};

use crate::chain::link;
use crate::changes::{Watch, resolved};
use crate::filters::{BuiltIns, Modules};

/// The link that is turned to another folder where a file is mounted into a container.
const MOUNTED: &str = "..data";

/// What makes up a filter.
pub(super) struct Place {
    /// As it is named on the command line.
    pub(super) filter: String,
    /// The file of its configuration.
    pub(super) config: Option<PathBuf>,
    /// What runs now, or was asked for last.
    pub(super) last: FilterUse,
    /// The module of that.
    pub(super) module: Arc<dyn Module>,
}

/// Watches the files of a chain on a thread of its own, for as long as there is a proxy.
///
/// # Errors
///
/// When they cannot be watched.
pub(super) fn watch(
    mut places: Vec<Place>,
    modules: Modules,
    built_ins: BuiltIns,
    changer: Changer,
) -> Result<()> {
    let mut watch = Watch::new()?;
    let mut names = BTreeSet::from([OsString::from(MOUNTED)]);
    for place in &places {
        let module = built_ins.file(&place.last.source);
        for file in [Some(&module), place.config.as_ref()].into_iter().flatten() {
            // Where the file lies, and where it is named: a link may come to lead elsewhere.
            for file in [resolved(file), std::path::absolute(file)?] {
                names.extend(file.file_name().map(OsString::from));
                if let Some(folder) = file.parent() {
                    watch.add(folder.to_owned(), RecursiveMode::NonRecursive)?;
                }
            }
        }
    }
    let matters = move |path: &Path| path.file_name().is_some_and(|name| names.contains(name));
    thread::Builder::new()
        .name("reload".into())
        .spawn(move || {
            loop {
                if let Err(error) = watch.wait(&matters) {
                    eprintln!("warning: {error:#}; what changes is not looked at any more");
                    return;
                }
                for (index, place) in places.iter_mut().enumerate() {
                    match place.change(index, &modules, &built_ins) {
                        Ok(None) => {}
                        Ok(Some(change)) => {
                            if !changer.ask(change) {
                                return;
                            }
                        }
                        Err(error) => eprintln!("refused: {error:#}; the old one stays"),
                    }
                }
            }
        })
        .context("cannot watch files")?;
    Ok(())
}

impl Place {
    /// What is to stand here now, if that is something else than before.
    fn change(
        &mut self,
        index: usize,
        modules: &Modules,
        built_ins: &BuiltIns,
    ) -> Result<Option<Change>> {
        let filter = link(&self.filter, self.config.as_deref(), built_ins)?;
        let module = modules.load_anew(&filter)?;
        let is_same = module.code() == self.module.code() && filter.config == self.last.config;
        if is_same {
            return Ok(None);
        }
        (self.last, self.module) = (filter.clone(), Arc::clone(&module));
        Ok(Some(Change { place: index, filter, module }))
    }
}
