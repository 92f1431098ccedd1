//! Clocks: time that passes, and the wall clock, which can be set.

use std::time::Duration;

use tollgate_abi::{Answer, Reply};

use super::{Scope, World};
use crate::chance::{Chance, Choice};
use crate::scenario::ClockStep;

/// What the wall clock shows when a world begins: 2026-01-01T00:00:00Z, since the Unix epoch.
pub const EPOCH: Duration = Duration::from_hours(490_896);

const NANOSECONDS_OF_A_YEAR: usize = 365 * 86_400 * 1_000_000_000;

/// The clocks of a world.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    passed: Duration,
    wall: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self { passed: Duration::ZERO, wall: EPOCH }
    }
}

impl Clock {
    /// One that starts at a moment of the year after [`EPOCH`].
    pub(super) fn of(seed: u64) -> Self {
        let by = Chance::of(seed, Choice::Clock).one_of(NANOSECONDS_OF_A_YEAR);
        let by = u64::try_from(by).map_or(Duration::ZERO, Duration::from_nanos);
        Self { passed: Duration::ZERO, wall: EPOCH.saturating_add(by) }
    }

    /// Time since the world began.
    pub fn passed(&self) -> Duration {
        self.passed
    }

    /// What the wall clock shows, since the Unix epoch.
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// Lets time pass until `passed` is reached.
    pub(crate) fn advance_to(&mut self, passed: Duration) {
        let by = passed.saturating_sub(self.passed);
        self.passed = self.passed.saturating_add(by);
        self.wall = self.wall.saturating_add(by);
    }

    /// Sets the wall clock to what it is to show; no time passes.
    pub(crate) fn set(&mut self, wall: Duration) {
        self.wall = wall;
    }

    /// Sets the wall clock forward or back; no time passes.
    pub(crate) fn step(&mut self, by: ClockStep) {
        self.wall = match by {
            ClockStep::Forward(by) => self.wall.saturating_add(by),
            ClockStep::Back(by) => self.wall.saturating_sub(by),
        };
    }
}

/// The ticks of a root context.
///
/// As on Envoy: a tick that is due comes when it is due, whatever other period is set until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    /// The time to the tick after the next.
    pub(crate) period: Duration,
    pub(crate) due: Duration,
}

/// Nanoseconds in 64 bits, as the border has them; they last until the year 2554.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    pub(super) fn current_time(&self) -> Reply {
        Reply::Done(Answer::U64(nanoseconds(self.clock.wall())))
    }

    pub(super) fn set_tick_period(&mut self, scope: &Scope, period_millis: u32) -> Reply {
        let now = self.clock.passed();
        let root = self.root_of(scope);
        let period = Duration::from_millis(u64::from(period_millis));
        if let (Some(root), Some(vm)) = (root, self.vm_mut(scope.vm)) {
            match vm.ticks.get_mut(&root) {
                _ if period.is_zero() => drop(vm.ticks.remove(&root)),
                Some(tick) => tick.period = period,
                None => {
                    let due = now.saturating_add(period);
                    vm.ticks.insert(root, Tick { period, due });
                }
            }
        }
        Reply::OK
    }
}
