//! Plays several requests at once.

use super::exchange::judge_exchange;
use super::watch::Watch;
use super::{Place, callouts, judge_configured};
use crate::proxy::{HostFailure, Proxy, Sending};
use crate::report::Failure;
use crate::scenario::Together;

/// Plays the requests of a step, each on the worker that is dealt to it.
pub(super) fn play(
    step: &Together,
    place: Place<'_>,
    proxy: &mut dyn Proxy,
    deal: &mut dyn FnMut(Option<usize>) -> usize,
    failures: &mut Vec<Failure>,
) -> Result<(), HostFailure> {
    let expected = step.requests.iter().map(|timed| &timed.step.expect).collect();
    let watch = Watch::begin(proxy, expected)?;
    let sending: Vec<Sending<'_>> = step
        .requests
        .iter()
        .map(|timed| Sending {
            after: timed.after,
            worker: deal(timed.step.worker),
            step: &timed.step,
        })
        .collect();
    let (exchanges, made) = proxy.together(&sending, &step.callouts)?;
    for (index, (sent, exchange)) in sending.iter().zip(&exchanges).enumerate() {
        let place = Place { request: Some((index + 1, &sent.step.request)), ..place };
        let mut fail = |what: String| failures.push(place.failure(what));
        judge_exchange(&sent.step.expect, exchange, &mut fail);
        if let Some(meanwhile) = &sent.step.meanwhile {
            judge_configured(meanwhile, exchange.configured.as_ref(), &mut fail);
        }
    }
    let mut fail = |what: String| failures.push(place.failure(what));
    callouts::judge(&step.callouts, &made, &mut fail);
    watch.judge(proxy, &mut fail)
}
