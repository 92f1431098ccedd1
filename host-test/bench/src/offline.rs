//! Measuring on the offline host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use tollgate_abi::CallbackKind;
use tollgate_host::engine::Module;
use tollgate_host::limits::Limits;
use tollgate_host::offline::{Loader, Offline, Run};
use tollgate_host::proxy::{Cost, Exchange, Outcome, Proxy, ProxyHost, StartError};
use tollgate_host::scenario::{AdvanceStep, FilterUse, HostName};

use crate::count::{Counted, Crossings};
use crate::metered::{Meter, Readings};
use crate::report::{
    CallbackCost, FunctionCost, Inside, Memory, Report, Starting, Target, Traffic,
};
use crate::rounds::rounds;
use crate::{NotMeasured, Spread, Subject};

/// How often a module is compiled; it takes long.
const COMPILATIONS: usize = 3;

/// How often a proxy is started.
const STARTS: usize = 15;

/// Requests before the first that counts: tables grow with the first.
const WARMING: usize = 1000;

/// How long the requests last that a subject gets in a round, about. Long enough for the clock, and short
/// enough that what else the machine does strikes all subjects alike.
const TURN: Duration = Duration::from_millis(2);

/// No more requests than these are sent at one instant of the virtual time.
const MOST_AT_ONCE: usize = 1000;

/// Virtual time between two turns, in which quotas fill again.
const PAUSE: Duration = Duration::from_secs(1);

/// Where modules come from.
#[derive(Clone, Copy)]
pub struct Loaders<'a> {
    /// Compiles a module, whatever was compiled before.
    pub compile: &'a Loader<'a>,
    /// Takes a module from the cache, where it is after the first time.
    pub load: &'a Loader<'a>,
}

/// Measures subjects for about so long, after they have started and warmed up.
///
/// # Errors
///
/// [`NotMeasured`] when one does not start, or the host fails while it runs.
pub fn offline(
    subjects: &[Subject],
    loaders: Loaders<'_>,
    limits: Limits,
    measuring: Duration,
) -> Result<Report, NotMeasured> {
    let mut candidates = subjects
        .iter()
        .map(|subject| Candidate::prepare(subject, loaders, limits))
        .collect::<Result<Vec<_>, _>>()?;
    let mut count = 0;
    for order in rounds(candidates.len(), measuring) {
        for index in order {
            if let Some(candidate) = candidates.get_mut(index) {
                candidate.turn()?;
            }
        }
        count += 1;
    }
    let first = candidates.first().map(|first| first.micros.clone()).unwrap_or_default();
    let targets = candidates.into_iter().map(|candidate| candidate.report(&first)).collect();
    Ok(Report { on: HostName::Wasmtime, rounds: count, base_micros: None, targets })
}

/// A subject that is being measured.
struct Candidate<'a> {
    subject: &'a Subject,
    start: Starting,
    /// What one pass over its requests does.
    counted: Counted,
    cost: Totals,
    plain: Proxied<'a>,
    metered: Proxied<'a>,
    meter: Meter,
    /// How many requests a turn has.
    turn: usize,
    micros: Vec<f64>,
    callbacks: BTreeMap<CallbackKind, Metered>,
    answers: BTreeMap<String, u64>,
    configured_bytes: Option<u64>,
    warm_bytes: Option<u64>,
}

/// What the meter gave of one callback.
#[derive(Default)]
struct Metered {
    /// Microseconds per request, by round.
    micros: Vec<f64>,
    times: u64,
    fuel: u64,
}

/// What one pass over the requests of a subject costs.
#[derive(Clone, Copy, Default)]
struct Totals {
    host_calls: u64,
    fuel: u64,
}

impl<'a> Candidate<'a> {
    fn prepare(
        subject: &'a Subject,
        loaders: Loaders<'_>,
        limits: Limits,
    ) -> Result<Self, NotMeasured> {
        let (start, modules) = starting(subject, loaders, limits)?;
        let (counted, cost) = count(subject, &modules, limits)?;
        let mut plain = Proxied::start(subject, &modules, limits)?;
        let meter = Meter::default();
        let modules: Vec<_> = modules.into_iter().map(|module| meter.on(module)).collect();
        let mut metered = Proxied::start(subject, &modules, limits)?;
        let configured_bytes = meter.take().configured_bytes;
        metered.serve(WARMING)?;
        metered.pause()?;
        meter.take();
        // The second half shows how long a request takes.
        plain.serve(WARMING / 2)?;
        let taken = timed(|| plain.serve(WARMING / 2))?;
        let turn = requests_in(TURN, taken / u32::try_from(WARMING / 2).unwrap_or(1));
        plain.pause()?;
        let warm_bytes = plain.memory_bytes;
        Ok(Self {
            subject,
            start,
            counted,
            cost,
            plain,
            metered,
            meter,
            turn: turn.next_multiple_of(subject.requests.len()),
            micros: Vec::new(),
            callbacks: BTreeMap::new(),
            answers: BTreeMap::new(),
            configured_bytes,
            warm_bytes,
        })
    }

    /// Lets the subject serve the requests of a round, once plain and once metered.
    fn turn(&mut self) -> Result<(), NotMeasured> {
        let taken = timed(|| self.plain.serve(self.turn))?;
        self.micros.push(per_request(taken, self.turn));
        self.plain.pause()?;

        for _ in 0..self.turn {
            let exchange = self.metered.send()?;
            *self.answers.entry(answer(&exchange)).or_default() += 1;
        }
        let Readings { callbacks, .. } = self.meter.take();
        for (kind, taken) in callbacks {
            let sum = self.callbacks.entry(kind).or_default();
            sum.micros.push(per_request(taken.time, self.turn));
            sum.times = sum.times.saturating_add(taken.times.into());
            sum.fuel = sum.fuel.saturating_add(taken.fuel);
        }
        self.metered.pause()?;
        self.meter.take();
        Ok(())
    }

    fn report(self, first: &[f64]) -> Target {
        let pass = self.subject.requests.len();
        let counts = &self.counted;
        let traffic = |crossings: &Crossings| Traffic {
            host_calls: share(crossings.calls, pass),
            bytes_from_guest: share(crossings.bytes_from_guest, pass),
            bytes_to_guest: share(crossings.bytes_to_guest, pass),
        };
        let mut functions: Vec<_> = counts.functions.iter().collect();
        functions.sort_by_key(|(_, crossings)| std::cmp::Reverse(crossings.calls));
        let functions = functions
            .into_iter()
            .map(|(function, of)| FunctionCost { function: function.name(), traffic: traffic(of) });
        let functions: Vec<FunctionCost> = functions.collect();
        let metered = self.turn * self.micros.len();
        let callbacks = self.callbacks.into_iter().map(|(kind, sum)| CallbackCost {
            callback: kind.name(),
            times: share(sum.times, metered),
            micros: Spread::of(sum.micros),
            fuel: share(sum.fuel, metered),
            traffic: counts.callbacks.get(&kind).map(traffic).unwrap_or_default(),
        });
        let callbacks = callbacks.collect();
        let bytes = |of: fn(&Traffic) -> f64| functions.iter().map(|one| of(&one.traffic)).sum();
        let inside = Inside {
            start: self.start,
            fuel: share(self.cost.fuel, pass),
            traffic: Traffic {
                host_calls: share(self.cost.host_calls, pass),
                bytes_from_guest: bytes(|traffic| traffic.bytes_from_guest),
                bytes_to_guest: bytes(|traffic| traffic.bytes_to_guest),
            },
            functions,
            callbacks,
            memory: Memory {
                start_bytes: self.configured_bytes,
                warm_bytes: self.warm_bytes,
                end_bytes: self.plain.memory_bytes,
                requests: self.plain.served,
            },
        };
        let ratios = self.micros.iter().zip(first).map(|(own, first)| own / first).collect();
        Target {
            name: self.subject.name.clone(),
            requests: u64::try_from(metered).unwrap_or(u64::MAX),
            answers: self.answers,
            micros: Spread::of(self.micros.clone()),
            ratio: Spread::of(ratios),
            micros_by_round: self.micros,
            inside: Some(inside),
        }
    }
}

/// A running proxy that gets the requests of a subject.
struct Proxied<'a> {
    subject: &'a Subject,
    run: Run,
    /// How many requests it has had.
    served: u64,
    next: usize,
    memory_bytes: Option<u64>,
}

impl<'a> Proxied<'a> {
    fn start(
        subject: &'a Subject,
        modules: &[Arc<dyn Module>],
        limits: Limits,
    ) -> Result<Self, NotMeasured> {
        let run = with_offline(subject, modules, limits, |host| host.start_run(&subject.scenario));
        let name = || subject.name.clone();
        let run = run.map_err(|error| NotMeasured::Start { name: name(), error })?;
        Ok(Self { subject, run, served: 0, next: 0, memory_bytes: None })
    }

    fn serve(&mut self, requests: usize) -> Result<(), NotMeasured> {
        for _ in 0..requests {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<Exchange, NotMeasured> {
        let requests = &self.subject.requests;
        let step = requests.get(self.next).or(requests.first());
        let step =
            step.ok_or_else(|| NotMeasured::NoRequest { name: self.subject.name.clone() })?;
        self.next = (self.next + 1) % requests.len();
        let exchange = self
            .run
            .exchange(0, step)
            .map_err(|failure| NotMeasured::Failed { name: self.subject.name.clone(), failure })?;
        self.served += 1;
        self.memory_bytes = exchange.cost.and_then(|cost| cost.memory_bytes);
        Ok(exchange)
    }

    /// Lets virtual time pass.
    fn pause(&mut self) -> Result<(), NotMeasured> {
        let step = AdvanceStep::new(PAUSE);
        let passed = self.run.advance(&step);
        passed
            .map(|_| ())
            .map_err(|failure| NotMeasured::Failed { name: self.subject.name.clone(), failure })
    }
}

/// The processor time that something takes; the host and its guests run on one thread.
fn timed(job: impl FnOnce() -> Result<(), NotMeasured>) -> Result<Duration, NotMeasured> {
    let begin = ThreadTime::try_now()?;
    job()?;
    Ok(begin.try_elapsed()?)
}

/// How long a subject takes to start, and its modules.
fn starting(
    subject: &Subject,
    loaders: Loaders<'_>,
    limits: Limits,
) -> Result<(Starting, Vec<Arc<dyn Module>>), NotMeasured> {
    let refused = |error| NotMeasured::Start { name: subject.name.clone(), error };
    let load = |loader: &Loader<'_>| -> Result<Vec<Arc<dyn Module>>, NotMeasured> {
        subject.scenario.filters.iter().map(|filter| loader(filter).map_err(refused)).collect()
    };
    let compile_millis = median_millis(COMPILATIONS, || load(loaders.compile))?.0;
    load(loaders.load)?;
    let (load_millis, modules) = median_millis(STARTS, || load(loaders.load))?;
    let start = || {
        with_offline(subject, &modules, limits, |host| host.start(&subject.scenario).map(|_| ()))
            .map_err(refused)
    };
    let start_millis = median_millis(STARTS, start)?.0;
    Ok((Starting { compile_millis, load_millis, start_millis }, modules))
}

/// Does something several times: how long it takes, in the middle, and what came of it last.
fn median_millis<T>(
    times: usize,
    mut job: impl FnMut() -> Result<T, NotMeasured>,
) -> Result<(f64, T), NotMeasured> {
    let mut millis = Vec::new();
    loop {
        let begin = Instant::now();
        let done = job()?;
        millis.push(begin.elapsed().as_secs_f64() * 1e3);
        if millis.len() >= times {
            return Ok((Spread::of(millis).median, done));
        }
    }
}

/// What one pass over the requests of a warm subject does, and costs.
fn count(
    subject: &Subject,
    modules: &[Arc<dyn Module>],
    limits: Limits,
) -> Result<(Counted, Totals), NotMeasured> {
    let run = with_offline(subject, modules, limits, |host| {
        host.start_recorded(&subject.scenario).map_err(|(error, _)| error)
    });
    let run = run.map_err(|error| NotMeasured::Start { name: subject.name.clone(), error })?;
    let mut proxied = Proxied { subject, run, served: 0, next: 0, memory_bytes: None };
    let passes = WARMING.div_ceil(subject.requests.len());
    for _ in 0..passes {
        proxied.serve(subject.requests.len())?;
        proxied.pause()?;
        proxied.run.take_transcript();
    }
    let mut totals = Totals::default();
    for _ in &subject.requests {
        if let Some(Cost { host_calls, fuel, .. }) = proxied.send()?.cost {
            totals.host_calls = totals.host_calls.saturating_add(host_calls);
            totals.fuel = totals.fuel.saturating_add(fuel.unwrap_or_default());
        }
    }
    Ok((Counted::of(&proxied.run.take_transcript()), totals))
}

/// Lends a host that takes these modules for a subject's filters, in their order.
fn with_offline<T>(
    subject: &Subject,
    modules: &[Arc<dyn Module>],
    limits: Limits,
    then: impl FnOnce(&Offline<'_>) -> T,
) -> T {
    let loader = |wanted: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        let place =
            subject.scenario.filters.iter().position(|filter| filter.source == wanted.source);
        let module = place.and_then(|place| modules.get(place));
        module.cloned().ok_or_else(|| StartError::Module("a filter without a module".into()))
    };
    then(&Offline::new(HostName::Wasmtime, &loader).with_limits(limits))
}

fn answer(exchange: &Exchange) -> String {
    match &exchange.outcome {
        Outcome::Response(response) => response.status.to_string(),
        Outcome::Reset => "reset".into(),
        Outcome::Left(_) => "left".into(),
        Outcome::Unanswered => "none".into(),
        Outcome::Refused(alert) => alert.to_string(),
    }
}

/// How many requests fit in a time, if each takes so long.
fn requests_in(time: Duration, each: Duration) -> usize {
    let fit = time.as_nanos() / each.as_nanos().max(1);
    usize::try_from(fit).unwrap_or(MOST_AT_ONCE).clamp(1, MOST_AT_ONCE)
}

fn per_request(time: Duration, requests: usize) -> f64 {
    time.as_secs_f64() * 1e6 / u32::try_from(requests).map_or(f64::INFINITY, f64::from)
}

/// A sum over requests as a figure for each.
fn share(sum: u64, requests: usize) -> f64 {
    // Sums of calls, fuel and bytes are far below what a floating-point number tells apart.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let share = sum as f64 / requests.max(1) as f64;
    share
}
