//! The contexts of a VM: which root a stream belongs to, and what is kept of it.
//!
//! A filter that keeps nothing per stream pays nothing per stream: while there is one root, all streams
//! are its streams. Where the filters of all roots are alike, as those without a configuration are, any
//! root is as good as another, and the proxy is not even asked to tell of streams.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::Plugin;
use crate::host;

/// How many streams are remembered before those that are over are looked for.
const FEWEST_SWEPT: usize = 64;

/// The roots of a VM with their plugins, in the order in which they were configured.
pub(super) struct Roots<P> {
    configured: RefCell<Vec<(u32, P)>>,
}

impl<P: Clone> Roots<P> {
    pub(super) const fn new() -> Self {
        Self { configured: RefCell::new(Vec::new()) }
    }

    /// A root has its plugin, perhaps in place of another. Roots that are gone are forgotten: a module
    /// without `proxy_on_delete` is not told of their end.
    pub(super) fn configured(&self, root: u32, plugin: P) {
        let mut others: Vec<u32> = {
            let configured = self.configured.borrow();
            configured.iter().map(|&(other, _)| other).filter(|&other| other != root).collect()
        };
        others.retain(|&other| !is_alive(other, root));
        let gone = {
            let mut configured = self.configured.borrow_mut();
            let is_gone = |other: u32| other == root || others.contains(&other);
            let gone: Vec<(u32, P)> =
                configured.extract_if(.., |&mut (other, _)| is_gone(other)).collect();
            configured.push((root, plugin));
            gone
        };
        // What is dropped may call the host.
        drop(gone);
    }

    pub(super) fn ended(&self, root: u32) {
        let ended = {
            let mut roots = self.configured.borrow_mut();
            roots.iter().position(|&(other, _)| other == root).map(|at| roots.remove(at))
        };
        // What is dropped may call the host.
        drop(ended);
    }

    pub(super) fn len(&self) -> usize {
        self.configured.borrow().len()
    }

    fn get(&self, root: u32) -> Option<(u32, P)> {
        let roots = self.configured.borrow();
        roots.iter().find(|&&(other, _)| other == root).cloned()
    }

    /// The only plugin, if there is one.
    fn only(&self) -> Option<(u32, P)> {
        match self.configured.borrow().as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn oldest(&self) -> Option<u32> {
        self.configured.borrow().first().map(|&(root, _)| root)
    }

    fn any(&self) -> Option<(u32, P)> {
        self.configured.borrow().first().cloned()
    }
}

/// The streams of a VM.
pub(super) struct Streams<P: Plugin> {
    /// What is kept of each, if the plugin keeps something.
    kept: RefCell<ById<Kept<P>>>,
    /// The root of each that began while there were several roots, if nothing else is kept.
    parents: RefCell<ById<u32>>,
    /// Remembered parents at which those that are over are looked for.
    sweep_at: Cell<usize>,
}

struct Kept<P: Plugin> {
    root: u32,
    /// `None` while a callback has it.
    state: Option<P::Stream>,
}

impl<P: Plugin> Streams<P> {
    pub(super) const fn new() -> Self {
        Self {
            kept: RefCell::new(HashMap::with_hasher(BuildHasherDefault::new())),
            parents: RefCell::new(HashMap::with_hasher(BuildHasherDefault::new())),
            sweep_at: Cell::new(FEWEST_SWEPT),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.borrow().len().saturating_add(self.parents.borrow().len())
    }

    pub(super) fn began(&self, stream: u32, root: u32, roots: &Roots<P>) {
        if P::KEEPS_STREAMS {
            let kept = Kept { root, state: Some(P::Stream::default()) };
            let before = self.kept.borrow_mut().insert(stream, kept);
            drop(before);
        } else if roots.only().is_none() {
            self.remember(stream, root);
        }
    }

    pub(super) fn ended(&self, stream: u32) {
        if P::KEEPS_STREAMS {
            let ended = self.kept.borrow_mut().remove(&stream);
            // What is dropped may call the host, and the host may call back.
            drop(ended);
        } else {
            self.parents.borrow_mut().remove(&stream);
        }
    }

    /// The root of a stream, with its plugin. A stream of which nothing is known began when there was one root only.
    pub(super) fn root_of(&self, stream: u32, roots: &Roots<P>) -> Option<(u32, P)> {
        if P::IS_ALIKE {
            return roots.any();
        }
        if let Some(only) = roots.only() {
            return Some(only);
        }
        let root = if P::KEEPS_STREAMS {
            self.kept.borrow().get(&stream).map(|kept| kept.root)
        } else {
            self.parents.borrow().get(&stream).copied()
        };
        roots.get(root.or_else(|| roots.oldest())?)
    }

    /// Takes the state of a stream for a callback; that of an unknown stream is as it was made.
    pub(super) fn take(&self, stream: u32) -> Option<P::Stream> {
        match self.kept.borrow_mut().get_mut(&stream) {
            Some(kept) => kept.state.take(),
            None => Some(P::Stream::default()),
        }
    }

    pub(super) fn put_back(&self, stream: u32, state: P::Stream) {
        let unwanted = match self.kept.borrow_mut().get_mut(&stream) {
            Some(kept) => kept.state.replace(state),
            // It ended meanwhile.
            None => Some(state),
        };
        drop(unwanted);
    }

    /// Remembers the root of a stream until it is over, of which a module that keeps nothing is not
    /// told: whenever they are twice as many as were alive, those that are over are forgotten.
    fn remember(&self, stream: u32, root: u32) {
        let known: Vec<u32> = {
            let mut parents = self.parents.borrow_mut();
            parents.insert(stream, root);
            if parents.len() <= self.sweep_at.get() {
                return;
            }
            parents.keys().copied().filter(|&other| other != stream).collect()
        };
        for other in known {
            if !is_alive(other, stream) {
                self.parents.borrow_mut().remove(&other);
            }
        }
        let left = self.parents.borrow().len();
        self.sweep_at.set(left.saturating_mul(2).max(FEWEST_SWEPT));
    }
}

/// Whether the host still has a context. `current` is that of the running callback.
fn is_alive(context: u32, current: u32) -> bool {
    let alive = host::set_effective_context(context).is_ok();
    // The current context is alive.
    let _ = host::set_effective_context(current);
    alive
}

type ById<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

/// A hash for context ids, which the host counts up: nobody chooses them to collide.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, id: u32) {
        /// 2^64 divided by the golden ratio.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(SPREAD);
    }
}
