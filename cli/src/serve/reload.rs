//! Filters whose files change are exchanged.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use notify::RecursiveMode;
use tollgate_host::engine::Module;
use tollgate_host::scenario::FilterUse;
use tollgate_host_serve::{Change, Changer};

use crate::chain::Chain;
use crate::changes::{Watch, resolved};
use crate::filters::{BuiltIns, Modules};

/// The link that is turned to another folder where a file is mounted into a container.
const MOUNTED: &str = "..data";

/// A filter of the chain.
pub(super) struct Place {
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
    chain: Chain,
    places: Vec<Place>,
    modules: Modules,
    built_ins: BuiltIns,
    changer: Changer,
) -> Result<()> {
    let names = BTreeSet::from([OsString::from(MOUNTED)]);
    let mut reload = Reload { chain, places, modules, built_ins, watch: Watch::new()?, names };
    reload.watch_files()?;
    thread::Builder::new()
        .name("reload".into())
        .spawn(move || {
            if let Err(error) = reload.follow(&changer) {
                eprintln!("warning: {error:#}; what changes is not looked at any more");
            }
        })
        .context("cannot watch files")?;
    Ok(())
}

/// The files of a chain, and what has come of them.
struct Reload {
    chain: Chain,
    places: Vec<Place>,
    modules: Modules,
    built_ins: BuiltIns,
    watch: Watch,
    /// The names of files that matter.
    names: BTreeSet<OsString>,
}

impl Reload {
    /// Asks for what changes, until there is no proxy any more.
    fn follow(&mut self, changer: &Changer) -> Result<()> {
        loop {
            let names = &self.names;
            self.watch.wait(|path| path.file_name().is_some_and(|name| names.contains(name)))?;
            for change in self.changes() {
                match change {
                    Ok(change) => {
                        if !changer.ask(change) {
                            return Ok(());
                        }
                    }
                    Err(error) => eprintln!("refused: {error:#}; the old one stays"),
                }
            }
            // A file that deploys filters may name another module now.
            self.watch_files()?;
        }
    }

    fn watch_files(&mut self) -> Result<()> {
        let sources = self.places.iter().map(|place| &place.last.source);
        let modules = sources.filter_map(|source| self.built_ins.file_that_changes(source));
        for file in modules.chain(self.chain.files().iter().cloned()) {
            // Where the file lies, and where it is named: a link may come to lead elsewhere.
            for file in [resolved(&file), std::path::absolute(&file)?] {
                self.names.extend(file.file_name().map(OsString::from));
                if let Some(folder) = file.parent() {
                    self.watch.add(folder.to_owned(), RecursiveMode::NonRecursive)?;
                }
            }
        }
        Ok(())
    }

    /// What is to stand in the chain now, where that is something else than before.
    fn changes(&mut self) -> Vec<Result<Change>> {
        let filters = match self.chain.read(&self.built_ins) {
            Ok(filters) => filters,
            Err(error) => return vec![Err(error)],
        };
        let (now, before) = (filters.len(), self.places.len());
        if now != before {
            return vec![Err(anyhow!(
                "the chain has {now} filters, and {before} when it was started; start it anew"
            ))];
        }
        let places = self.places.iter_mut().enumerate().zip(filters);
        places
            .filter_map(|((index, place), filter)| {
                filter.and_then(|filter| place.change(index, filter, &self.modules)).transpose()
            })
            .collect()
    }
}

impl Place {
    /// What is to stand here now, if that is something else than before.
    fn change(
        &mut self,
        index: usize,
        filter: FilterUse,
        modules: &Modules,
    ) -> Result<Option<Change>> {
        let module = modules.load_anew(&filter)?;
        if module.code() == self.module.code() && filter == self.last {
            return Ok(None);
        }
        (self.last, self.module) = (filter.clone(), Arc::clone(&module));
        Ok(Some(Change { place: index, filter, module }))
    }
}
