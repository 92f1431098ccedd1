//! What a host is asked to count, and what becomes of what it refuses.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate::config::NoConfig;
use tollgate::metrics::{Budget, Counters, Gauges, Histograms, Labels};
use tollgate::{
    ConfigureError, Counter, Filter, Gauge, Histogram, LoggedExchange, OnLog, Registration, Root,
    registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status};

use tollgate_host_native::on_host;

use crate::root::with_root;

struct ByTenant;

impl Labels for ByTenant {
    const NAMES: &'static [&'static str] = &["tenant", "code"];
    type Values<'a> = (&'a [u8], u32);
}

struct All {
    counter: Counter,
    gauge: Gauge,
    histogram: Histogram,
    counters: Counters<ByTenant>,
    gauges: Gauges<ByTenant>,
    histograms: Histograms<ByTenant>,
}

fn all(root: &Root) -> All {
    let budget = Budget::new(2);
    All {
        counter: root.counter("alone"),
        gauge: root.gauge("open now"),
        histogram: root.histogram("millis"),
        counters: root.counters("requests", budget),
        gauges: root.gauges("open", budget),
        histograms: root.histograms("sizes", budget),
    }
}

/// What the host is asked about metrics while `test` runs, with metrics instead of their ids, and what
/// is logged.
fn run(
    faulty: &'static [Function],
    test: impl FnOnce(All) + Send + 'static,
) -> (Vec<String>, Vec<String>) {
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let host = {
        let seen = Arc::clone(&seen);
        let mut names = Vec::new();
        let mut has_begun = false;
        move |call: &Call| {
            let (calls, logs) = &mut *seen.lock().unwrap();
            let name = |id: u32, names: &[String]| {
                names.get(usize::try_from(id).unwrap()).unwrap().clone()
            };
            match call {
                // Marks where the test begins.
                Call::GetCurrentTime {} => {
                    has_begun = true;
                    calls.clear();
                }
                Call::Log { level, message } => {
                    logs.push(format!("{level} {}", message.escape_ascii()));
                }
                Call::DefineMetric { kind, name } => {
                    let name = name.escape_ascii().to_string();
                    calls.push(format!("{kind} {name}"));
                    names.push(name);
                }
                Call::IncrementMetric { metric, offset } => {
                    calls.push(format!("{} += {offset}", name(*metric, &names)));
                }
                Call::RecordMetric { metric, value } => {
                    calls.push(format!("{} = {value}", name(*metric, &names)));
                }
                _ => {}
            }
            if has_begun && faulty.contains(&call.function()) {
                return Reply::refused(Status::InternalFailure, "");
            }
            Reply::Done(match call.function() {
                Function::GetLogLevel => Answer::U32(0),
                Function::DefineMetric => Answer::U32(u32::try_from(names.len() - 1).unwrap()),
                Function::GetMetric => Answer::U64(7),
                Function::GetCurrentTime => Answer::U64(0),
                _ => Answer::Nothing,
            })
        }
    };
    with_root(
        host,
        |root| (all(root), root.clock()),
        |(all, clock)| {
            clock.unix_nanos().unwrap();
            test(all);
        },
    );
    let (calls, logs) = &*seen.lock().unwrap();
    (calls.clone(), logs.clone())
}

fn check(test: impl FnOnce(All) + Send + 'static, expected: &[&str]) {
    assert_eq!(run(&[], test).0, expected);
}

#[test]
fn a_metric_is_defined_once_and_then_costs_a_call() {
    check(
        |all| {
            all.counter.add(0);
            all.counter.add(3);
            all.gauge.set(5);
            all.gauge.add(-2);
            all.gauge.add(0);
            all.histogram.record(9);
            all.histogram.record_millis(Duration::from_micros(2_900));
            assert_eq!((all.counter.value(), all.gauge.value()), (Ok(Some(7)), Ok(Some(7))));
        },
        &["alone += 3", "open_now = 5", "open_now += -2", "millis = 9", "millis = 2"],
    );
}

#[test]
fn a_series_is_defined_when_it_is_first_seen_and_what_is_beyond_the_budget_is_folded() {
    check(
        |all| {
            all.counters.add((b"a", 1), 0);
            for tenant in [&b"a"[..], b"b;.;code=.=1", b"a", b"c", b"d", b"a"] {
                all.counters.increment((tenant, 200));
            }
        },
        &[
            "counter tenant=.=a;.;code=.=200;.;requests",
            "tenant=.=a;.;code=.=200;.;requests += 1",
            "counter tenant=.=b%3B.%3Bcode%3D.%3D1;.;code=.=200;.;requests",
            "tenant=.=b%3B.%3Bcode%3D.%3D1;.;code=.=200;.;requests += 1",
            "tenant=.=a;.;code=.=200;.;requests += 1",
            "requests_folded += 1",
            "counter tenant=.=other;.;code=.=other;.;requests",
            "tenant=.=other;.;code=.=other;.;requests += 1",
            "requests_folded += 1",
            "tenant=.=other;.;code=.=other;.;requests += 1",
            "tenant=.=a;.;code=.=200;.;requests += 1",
        ],
    );
}

#[test]
fn gauges_and_histograms_have_labels_as_well() {
    check(
        |all| {
            all.gauges.add((b"a", 1), -1);
            all.gauges.set((b"a", 1), 4);
            all.histograms.record((b"a", 1), 6);
            all.histograms.record_millis((b"a", 1), Duration::from_secs(1));
        },
        &[
            "gauge tenant=.=a;.;code=.=1;.;open",
            "tenant=.=a;.;code=.=1;.;open += -1",
            "tenant=.=a;.;code=.=1;.;open = 4",
            "histogram tenant=.=a;.;code=.=1;.;sizes",
            "tenant=.=a;.;code=.=1;.;sizes = 6",
            "tenant=.=a;.;code=.=1;.;sizes = 1000",
        ],
    );
}

#[test]
fn what_the_host_refuses_to_define_is_told_once_and_asked_for_once() {
    let (calls, logs) = run(&[Function::DefineMetric], |all| {
        for tenant in [&b"a"[..], b"b", b"a", b"c", b"c"] {
            all.counters.increment((tenant, 200));
        }
    });
    let defined = calls.iter().filter(|call| call.starts_with("counter ")).count();
    assert_eq!((defined, calls.len()), (3, 5), "{calls:?}");
    let line = "warn holder: counter requests counts nothing: \
                the proxy refused proxy_define_metric with status internal_failure";
    assert_eq!(logs, [line]);
}

#[test]
fn what_the_host_refuses_to_count_is_told_once() {
    let faulty = &[Function::IncrementMetric, Function::RecordMetric, Function::GetMetric];
    let (_, logs) = run(faulty, |all| {
        for _ in 0..3 {
            all.counters.increment((b"a", 200));
            all.histogram.record(1);
        }
        assert!(all.counter.value().is_err());
    });
    let told = ["counter requests", "histogram millis"].map(|metric| {
        logs.iter().filter(|line| line.contains(&format!("{metric} has missed"))).count()
    });
    assert_eq!((told, logs.len()), ([1, 1], 2), "{logs:?}");
}

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one hands on what it is given"
)]
// SAFETY: every call goes to the allocator of the system as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter left, and nothing to count.
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps what the trait asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what the trait asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn a_series_that_is_there_allocates_nothing() {
    // The host of this test allocates nothing, either.
    let host = |call: &Call| {
        Reply::Done(match call.function() {
            Function::GetLogLevel => Answer::U32(2),
            Function::DefineMetric => Answer::U32(4),
            _ => Answer::Nothing,
        })
    };
    let allocated = with_root(
        host,
        |root| root.counters::<ByTenant>("requests", Budget::new(4)),
        |counters| {
            let count = || {
                let before = ALLOCATED.get();
                for tenant in [&b"a"[..], b"a rather long name; of a tenant"] {
                    counters.increment((tenant, 200));
                }
                ALLOCATED.get() - before
            };
            [count(), count(), count()]
        },
    );
    assert!(allocated[0] > 0, "{allocated:?}");
    assert_eq!(allocated[1..], [0, 0]);
}

struct Forgetful;

impl Filter for Forgetful {
    const NAME: &'static str = "forgetful";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, root: &Root) -> Result<Self, ConfigureError> {
        let _requests = root.counters::<ByTenant>("requests", Budget::new(4));
        Ok(Self)
    }
}

impl OnLog for Forgetful {
    fn on_log(&self, (): &mut (), _: &mut LoggedExchange) {}
}

#[test]
fn a_label_that_the_filter_does_not_say_is_found_when_it_is_configured() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let words = Arc::clone(&said);
    let host = move |call: &Call| match call {
        Call::GetLogLevel {} => Reply::Done(Answer::U32(0)),
        Call::DefineMetric { .. } => Reply::Done(Answer::U32(1)),
        Call::Log { message, .. } => {
            words.lock().unwrap().push(String::from_utf8_lossy(message).into_owned());
            Reply::OK
        }
        _ => Reply::OK,
    };
    let taken = on_host(host, || {
        let Registration { start, call, .. } = registration!(Forgetful);
        start();
        call(Callback::ContextCreate { context: 1, parent: 0 });
        call(Callback::Configure { context: 1, configuration_size: 0 })
    });
    assert_eq!(taken, 0);
    assert_eq!(
        said.lock().unwrap().as_slice(),
        [
            "forgetful: metric requests has the label tenant, which the filter does not say; add it to \
          STATS_TAGS, so that proxies can be told of it"
        ]
    );
}
