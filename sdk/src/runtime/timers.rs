//! One tick of a root, many timers.
//!
//! The proxy's clock may be set, so that it says nothing of how long something took. A tick does: its
//! period has passed. The clock tells only how much of a period is over, and never more than all of it.
//!
//! On Envoy a tick that is due comes when it was due, whatever period is set until then: for a nearer timer
//! the root is switched off and on again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::running;
use crate::host;

/// The longest period, about 24 days: Envoy reads the number as signed.
const LONGEST_PERIOD: u32 = i32::MAX.unsigned_abs();
const NANOS_PER_MILLI: u64 = 1_000_000;

thread_local! {
    /// By root.
    static TIMERS: RefCell<BTreeMap<u32, Timers>> = const { RefCell::new(BTreeMap::new()) };
}

/// The root has ticked.
pub(crate) fn tick(root: u32) {
    // The host may call back while it is asked for the time.
    let wall = wall();
    let (woken, period) = TIMERS.with_borrow_mut(|timers| {
        // Where nothing waits, nothing has to tick.
        timers.get_mut(&root).map_or((Vec::new(), Some(0)), |timers| timers.ticked(wall))
    });
    arm(period.map(Arm::new));
    for timer in woken {
        timer.fire();
    }
}

/// A root is gone, if the context is one.
pub(super) fn ended(context: u32) {
    let timers = TIMERS.with_borrow_mut(|timers| timers.remove(&context));
    drop(timers);
}

/// Forgets the timers of a root, which may be gone, if nobody waits for one.
pub(super) fn forget_unused(root: u32) {
    TIMERS.with_borrow_mut(|timers| {
        if timers.get(&root).is_some_and(|timers| timers.due.is_empty()) {
            timers.remove(&root);
        }
    });
}

/// How many roots have timers.
pub(crate) fn kept() -> usize {
    TIMERS.with_borrow(BTreeMap::len)
}

/// Has a root tick at once, which wakes its own task, if it has one.
pub(super) fn wake_soon(root: u32) {
    let timer = Rc::new(Timer::of_task(root));
    let wall = wall();
    let period = TIMERS
        .with_borrow_mut(|timers| timers.entry(root).or_default().add(Duration::ZERO, wall, timer));
    arm(period);
}

/// Has a root tick at once: its tick polls what is ready.
pub(super) fn soon(root: u32) {
    let wall = wall();
    let period = TIMERS.with_borrow_mut(|timers| timers.entry(root).or_default().hasten(wall));
    arm(period);
}

/// Waits for as long as said, and up to a millisecond longer. Time passes in ticks of the proxy: also
/// while nothing else happens, and whatever becomes of its clock.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { duration, timer: None }
}

/// Waits for a task no longer than said. What is not done by then is dropped.
///
/// # Errors
///
/// [`Elapsed`] when the time is over first.
pub async fn timeout<T>(duration: Duration, task: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut task = pin!(task);
    let mut sleep = pin!(sleep(duration));
    poll_fn(|context| match task.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over first")
    }
}

impl Error for Elapsed {}

/// Waits: see [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    duration: Duration,
    timer: Option<(Rc<Timer>, u32)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some((timer, _)) = &self.timer {
            if timer.has_fired.get() {
                return Poll::Ready(());
            }
            timer.waker.replace(Some(context.waker().clone()));
            return Poll::Pending;
        }
        // Outside of a task nobody would wake it.
        let Some(task) = running() else { return Poll::Pending };
        let timer = Rc::new(Timer::default());
        timer.waker.replace(Some(context.waker().clone()));
        let wall = wall();
        let period = TIMERS.with_borrow_mut(|timers| {
            let timers = timers.entry(task.root).or_default();
            timers.add(self.duration, wall, Rc::clone(&timer))
        });
        self.timer = Some((timer, task.root));
        arm(period);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((timer, root)) = &self.timer {
            // The tick that was set for it finds nothing, and sets the next one. Natively a thread
            // may end with its tasks, and has no timers by then.
            let _ = TIMERS.try_with(|timers| {
                if let Some(timers) = timers.borrow_mut().get_mut(root) {
                    timers.due.retain(|_, other| !Rc::ptr_eq(other, timer));
                }
            });
        }
    }
}

#[derive(Debug, Default)]
struct Timer {
    has_fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Wakes the task of this context as well.
    task: Option<u32>,
}

impl Timer {
    fn of_task(context: u32) -> Self {
        Self { task: Some(context), ..Self::default() }
    }

    fn fire(&self) {
        self.has_fired.set(true);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(context) = self.task {
            super::RUNTIME.with(|runtime| runtime.wake(super::TaskId::of_root(context)));
        }
    }
}

/// The timers of a root, in nanoseconds since the first of them was set.
#[derive(Debug, Default)]
struct Timers {
    /// By the time when they are due, in the order in which they were set.
    due: BTreeMap<(u64, u64), Rc<Timer>>,
    set: u64,
    now: u64,
    /// When the running period began, by `now`.
    began: u64,
    /// Its length in milliseconds; 0 when the root does not tick.
    period: u32,
    /// The clock at the last look.
    wall: u64,
}

impl Timers {
    /// Sets a timer, and gives the period to set if it is another one.
    fn add(&mut self, after: Duration, wall: u64, timer: Rc<Timer>) -> Option<Arm> {
        self.look(wall);
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.set = self.set.wrapping_add(1);
        self.due.insert((self.now.saturating_add(after), self.set), timer);
        let ticks_in_time = self.first().is_some_and(|first| self.next_tick() <= first);
        let is_running = self.period > 0;
        if is_running && ticks_in_time {
            return None;
        }
        Some(Arm { is_running, period: self.rearm() })
    }

    /// Has the root tick as soon as it can, and gives the period to set if it is another one.
    fn hasten(&mut self, wall: u64) -> Option<Arm> {
        self.look(wall);
        if self.first().is_some_and(|first| first <= self.now) {
            // A tick is due as it is.
            return None;
        }
        self.add(Duration::ZERO, wall, Rc::default())
    }

    /// A period is over: gives the timers that are due, and the period to set if it is another one.
    fn ticked(&mut self, wall: u64) -> (Vec<Rc<Timer>>, Option<u32>) {
        self.now = self.now.max(self.next_tick());
        self.wall = wall;
        self.began = self.now;
        let later = self.due.split_off(&(self.now, u64::MAX));
        let due = std::mem::replace(&mut self.due, later).into_values().collect();
        let before = self.period;
        let period = self.rearm();
        (due, Some(period).filter(|&period| period != before))
    }

    /// Begins a period that ends when the first timer is due, and gives its length.
    fn rearm(&mut self) -> u32 {
        let left = self.first().map(|first| first.saturating_sub(self.now));
        self.began = self.now;
        self.period = left.map_or(0, |left| {
            let millis = left.div_ceil(NANOS_PER_MILLI).max(1);
            u32::try_from(millis).unwrap_or(LONGEST_PERIOD).min(LONGEST_PERIOD)
        });
        self.period
    }

    /// Takes over what the clock says of the running period.
    fn look(&mut self, wall: u64) {
        let passed = wall.saturating_sub(self.wall);
        self.wall = wall;
        if self.period > 0 {
            self.now = self.now.saturating_add(passed).min(self.next_tick());
        }
    }

    fn next_tick(&self) -> u64 {
        self.began.saturating_add(u64::from(self.period).saturating_mul(NANOS_PER_MILLI))
    }

    fn first(&self) -> Option<u64> {
        self.due.first_key_value().map(|(&(due, _), _)| due)
    }
}

/// A host without a clock has one that stands: timers are then late by up to a period.
fn wall() -> u64 {
    host::current_time().unwrap_or(0)
}

/// The period that a root is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arm {
    /// A longer one is running.
    is_running: bool,
    period: u32,
}

impl Arm {
    const fn new(period: u32) -> Self {
        Self { is_running: false, period }
    }
}

fn arm(arm: Option<Arm>) {
    let Some(Arm { is_running, period }) = arm else { return };
    let switched_off = if is_running { host::set_tick_period(0) } else { Ok(()) };
    if let Err(error) = switched_off.and_then(|()| host::set_tick_period(period)) {
        log::error!("timers do not run: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done, at which millisecond of the clock: a timer is set, or the period is over.
    enum Step {
        Set { after: u64, wall: u64 },
        Tick { wall: u64 },
    }
    use Step::{Set, Tick};

    /// The periods that are set, those for which the root is switched off before, and the timers that
    /// fire by their number.
    fn check(steps: &[Step], expected: &[(Option<u32>, &[usize])], switched_off: &[u32]) {
        let mut timers = Timers::default();
        let mut all: Vec<Rc<Timer>> = Vec::new();
        let mut found = Vec::new();
        let mut again = Vec::new();
        for step in steps {
            match step {
                Set { after, wall } => {
                    let timer = Rc::new(Timer::default());
                    all.push(Rc::clone(&timer));
                    let after = Duration::from_millis(*after);
                    let arm = timers.add(after, wall * NANOS_PER_MILLI, timer);
                    again.extend(arm.filter(|arm| arm.is_running).map(|arm| arm.period));
                    found.push((arm.map(|arm| arm.period), Vec::new()));
                }
                Tick { wall } => {
                    let (fired, period) = timers.ticked(wall * NANOS_PER_MILLI);
                    let number = |timer: &Rc<Timer>| {
                        all.iter().position(|other| Rc::ptr_eq(other, timer)).unwrap_or(usize::MAX)
                    };
                    found.push((period, fired.iter().map(number).collect()));
                }
            }
        }
        let expected: Vec<_> =
            expected.iter().map(|(period, fired)| (*period, fired.to_vec())).collect();
        assert_eq!(found, expected);
        assert_eq!(again, switched_off);
    }

    #[test]
    fn a_timer_fires_when_its_time_is_over_and_the_tick_stops() {
        check(
            &[Set { after: 20, wall: 1_000 }, Tick { wall: 1_020 }],
            &[(Some(20), &[]), (Some(0), &[0])],
            &[],
        );
        let steps = [Set { after: 0, wall: 5 }, Tick { wall: 6 }];
        check(&steps, &[(Some(1), &[]), (Some(0), &[0])], &[]);
    }

    #[test]
    fn a_nearer_timer_shortens_the_period_and_a_farther_one_does_not() {
        check(
            &[
                Set { after: 100, wall: 0 },
                Set { after: 200, wall: 10 },
                Set { after: 20, wall: 30 },
                Tick { wall: 50 },
                Tick { wall: 100 },
                Tick { wall: 210 },
            ],
            &[
                (Some(100), &[]),
                (None, &[]),
                (Some(20), &[]),
                (Some(50), &[2]),
                (Some(110), &[0]),
                (Some(0), &[1]),
            ],
            &[20],
        );
    }

    #[test]
    fn a_clock_that_leaps_moves_no_timer_by_more_than_the_running_period() {
        // Forward: the second timer counts from the end of the period at the latest.
        check(
            &[
                Set { after: 10, wall: 0 },
                Set { after: 5, wall: 3_600_000 },
                Tick { wall: 3_600_000 },
            ],
            &[(Some(10), &[]), (None, &[]), (Some(5), &[0])],
            &[],
        );
        // Back: no time has passed that is known of.
        check(
            &[Set { after: 10, wall: 1_000 }, Set { after: 5, wall: 0 }, Tick { wall: 5 }],
            &[(Some(10), &[]), (Some(5), &[]), (None, &[1])],
            &[5],
        );
    }
}
