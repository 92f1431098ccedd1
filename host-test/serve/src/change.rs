//! Filters that are exchanged while the proxy runs. Whoever exchanges them has loaded their modules.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tollgate_host::engine::Module;
use tollgate_host::scenario::FilterUse;

/// A filter for a place in the chain. New streams find it if it takes its configuration; those that are
/// under way end on the old one.
pub struct Change {
    /// The place, counted from 0.
    pub place: usize,
    /// The filter with its configuration.
    pub filter: FilterUse,
    /// Its module.
    pub module: Arc<dyn Module>,
}

/// Where changes come from, on any thread.
#[derive(Clone)]
pub struct Changer(UnboundedSender<Change>);

/// The end of a proxy at which changes arrive.
pub struct Changes(UnboundedReceiver<Change>);

/// A way for changes to a proxy.
pub fn changes() -> (Changer, Changes) {
    let (sender, receiver) = unbounded_channel();
    (Changer(sender), Changes(receiver))
}

impl Changer {
    /// Asks for a change; what comes of it is told by the proxy. Whether the proxy is still there.
    pub fn ask(&self, change: Change) -> bool {
        self.0.send(change).is_ok()
    }
}

impl Changes {
    /// The next change; none will come once nobody can ask.
    pub(crate) async fn next(&mut self) -> Change {
        match self.0.recv().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }
}
