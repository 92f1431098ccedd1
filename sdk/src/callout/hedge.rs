//! A second try beside the first, when that takes long.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Backoff, CalloutError, Retry, RetryBudget};
use crate::runtime::timeout;

/// How a call that takes long is made a second time, while the first is still waited for.
///
/// The first good answer wins. The other call is dropped: over gRPC it is cancelled, over HTTP its answer
/// goes nowhere. So this is for calls that may be made twice.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollgate::callout::{CalloutError, Hedge, Hedged, HttpCall, RetryBudget, Try};
///
/// async fn price(budget: &RetryBudget) -> Result<Vec<u8>, CalloutError> {
///     let call = HttpCall::get("prices", "/today").timeout(Duration::from_millis(500));
///     let hedge = Hedge::after(Duration::from_millis(50)).within(budget);
///     let Hedged { answer, by } = hedge.run(|| call.send()).await?;
///     if by == Try::Second {
///         tollgate::log::debug!("the first call was slow");
///     }
///     Ok(answer.body)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "calls are made by awaiting `run`"]
pub struct Hedge<'a> {
    delay: Duration,
    retry: Retry<'a>,
}

/// The answer to a call that may have been made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedged<T> {
    /// The answer.
    pub answer: T,
    /// Which call it is the answer to.
    pub by: Try,
}

/// One of two calls that ask the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Try {
    /// The one that was made first.
    First,
    /// The one that was made when the first took long.
    Second,
}

impl Hedge<'_> {
    /// Calls once more when there is no answer after `delay`.
    ///
    /// A call that fails before that is not made again: [`Retry::hedged`] does both.
    pub const fn after(delay: Duration) -> Self {
        Self::of(delay, Retry::new(1, Backoff::new(Duration::ZERO, Duration::ZERO)))
    }

    /// Second calls come out of a budget; when that is spent, the first is waited for alone.
    pub fn within(self, budget: &RetryBudget) -> Hedge<'_> {
        Hedge { delay: self.delay, retry: self.retry.within(budget) }
    }
}

impl<'a> Hedge<'a> {
    pub(super) const fn of(delay: Duration, retry: Retry<'a>) -> Self {
        Self { delay, retry }
    }

    /// Calls, once more if that takes long, and gives the first good answer.
    ///
    /// # Errors
    ///
    /// The [`CalloutError`] of the call that failed last, when none has a good answer.
    pub async fn run<T>(
        self,
        call: impl AsyncFn() -> Result<T, CalloutError>,
    ) -> Result<Hedged<T>, CalloutError> {
        let budget = self.retry.budget();
        self.retry.run(async || twice(self.delay, budget, &call).await).await
    }
}

async fn twice<T>(
    delay: Duration,
    budget: Option<&RetryBudget>,
    call: impl AsyncFn() -> Result<T, CalloutError>,
) -> Result<Hedged<T>, CalloutError> {
    let mut first = pin!(call());
    if let Ok(early) = timeout(delay, first.as_mut()).await {
        return early.map(|answer| Hedged { answer, by: Try::First });
    }
    if !budget.is_none_or(RetryBudget::withdraw) {
        return first.await.map(|answer| Hedged { answer, by: Try::First });
    }
    let mut second = pin!(call());
    let mut runs = [true; 2];
    poll_fn(|context| {
        let [first_runs, second_runs] = &mut runs;
        let failed = match poll(first_runs, first.as_mut(), context) {
            Some(Ok(answer)) => return Poll::Ready(Ok(Hedged { answer, by: Try::First })),
            Some(Err(error)) => Some(error),
            None => None,
        };
        let failed = match poll(second_runs, second.as_mut(), context) {
            Some(Ok(answer)) => return Poll::Ready(Ok(Hedged { answer, by: Try::Second })),
            Some(Err(error)) => Some(error),
            None => failed,
        };
        match failed {
            Some(error) if runs == [false; 2] => Poll::Ready(Err(error)),
            Some(_) | None => Poll::Pending,
        }
    })
    .await
}

/// Polls a call if it has not ended, and gives its outcome when it does.
fn poll<T>(
    runs: &mut bool,
    call: Pin<&mut impl Future<Output = T>>,
    context: &mut Context<'_>,
) -> Option<T> {
    if !*runs {
        return None;
    }
    match call.poll(context) {
        Poll::Ready(outcome) => {
            *runs = false;
            Some(outcome)
        }
        Poll::Pending => None,
    }
}
