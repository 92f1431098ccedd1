//! What is measured: filters with their configuration, and the requests that are sent to them.

use std::num::NonZeroUsize;

use tollgate_host::scenario::{FilterUse, RequestStep, Scenario, Step};

use crate::NotMeasured;

/// A chain of filters and the requests that it gets, again and again.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the report.
    pub name: String,
    pub(crate) scenario: Scenario,
    pub(crate) requests: Vec<RequestStep>,
}

impl Subject {
    /// The filters of a scenario and its requests, each as often as the scenario sends it. They have one
    /// worker, and those of streams at once come one after another. What else happens in the scenario, and what it expects, does not matter.
    ///
    /// # Errors
    ///
    /// [`NotMeasured::NoRequest`] when it has none.
    pub fn of(name: String, mut scenario: Scenario) -> Result<Self, NotMeasured> {
        scenario.workers = NonZeroUsize::MIN;
        let requests: Vec<RequestStep> = scenario
            .steps
            .iter()
            .flat_map(Step::requests)
            .flat_map(|step| std::iter::repeat_n(step, step.repeat.get()))
            .cloned()
            .collect();
        if requests.is_empty() {
            return Err(NotMeasured::NoRequest { name });
        }
        Ok(Self { name, scenario, requests })
    }

    /// Its filters, in order.
    pub fn filters(&self) -> impl Iterator<Item = &FilterUse> {
        self.scenario.filters.iter()
    }
}
