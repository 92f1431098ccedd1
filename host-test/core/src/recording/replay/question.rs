//! By what a callout of the recording is known again.

use crate::offline::{CalloutId, Outgoing, Output};
use crate::scenario::HeaderLine;

/// What a callout sends at once.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Question(Vec<Outgoing>);

impl Question {
    /// The questions that outputs begin.
    pub(super) fn all(outputs: &[Output]) -> Vec<(CalloutId, Self)> {
        let mut all: Vec<(CalloutId, Self)> = Vec::new();
        for output in outputs {
            let Output::Callout(id, sent) = output else { continue };
            if matches!(sent, Outgoing::Head { .. }) {
                all.push((*id, Self(Vec::new())));
            }
            if let Some((_, Self(parts))) = all.iter_mut().find(|(own, _)| own == id) {
                parts.push(sent.clone());
            }
        }
        all
    }

    /// The same without the values that are redacted.
    pub(super) fn without(&self, redacted: &[String]) -> Self {
        let is_kept =
            |(name, _): &HeaderLine| redacted.iter().all(|hidden| hidden.as_bytes() != name);
        let mut kept = self.clone();
        for part in &mut kept.0 {
            if let Outgoing::Head { headers, .. } = part {
                headers.retain(is_kept);
            }
        }
        kept
    }
}
