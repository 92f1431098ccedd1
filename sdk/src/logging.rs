//! Log lines, through the `log` crate to the log of the proxy.
//!
//! Prefix and level belong to the thread: natively, the filters of several workers run side by side.

use std::cell::Cell;

use log::{Level, LevelFilter, Log, Metadata, Record};
use tollgate_abi::LogLevel;

use crate::host;

/// A host that cannot say its level is given what an operator would want to see.
const DEFAULT_LEVEL: LevelFilter = LevelFilter::Info;

thread_local! {
    static PREFIX: Cell<&'static str> = const { Cell::new("") };
    static LEVEL: Cell<LevelFilter> = const { Cell::new(DEFAULT_LEVEL) };
}

/// Sends log lines of this thread to the host, each after `prefix` and a colon.
pub(crate) fn install(prefix: &'static str) {
    PREFIX.set(prefix);
    // Natively, all threads but the first find the logger installed.
    let _ = log::set_logger(&ProxyLog);
    set_level(DEFAULT_LEVEL);
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("no message").replace('\n', " ");
        let line = match info.location() {
            Some(location) => format!("{prefix}: panic at {location}: {message}"),
            None => format!("{prefix}: panic: {message}"),
        };
        let _ = host::log(LogLevel::Critical, line.as_bytes());
    }));
}

/// Takes over the level at which the host logs.
pub(crate) fn follow_host() {
    set_level(host::log_level().map_or(DEFAULT_LEVEL, level_filter));
}

fn set_level(level: LevelFilter) {
    LEVEL.set(level);
    // The level of the `log` crate is that of the whole program. It may be too high for this thread.
    log::set_max_level(log::max_level().max(level));
}

fn level_filter(level: LogLevel) -> LevelFilter {
    /// The level of Envoy at which nothing is logged.
    const OFF: LogLevel = LogLevel::Unknown(6);
    match level {
        LogLevel::Trace => LevelFilter::Trace,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Critical | OFF => LevelFilter::Off,
        LogLevel::Unknown(_) => DEFAULT_LEVEL,
    }
}

struct ProxyLog;

impl Log for ProxyLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LEVEL.get()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        let line = format!("{}: {}", PREFIX.get(), record.args());
        // A host that takes no log lines cannot be told so.
        let _ = host::log(level, line.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_level_of_a_host_is_a_level() {
        let check = |number: u32, expected| {
            assert_eq!(level_filter(LogLevel::from(number)), expected, "{number}");
        };
        check(0, LevelFilter::Trace);
        check(4, LevelFilter::Error);
        check(5, LevelFilter::Off);
        check(6, LevelFilter::Off);
        check(7, LevelFilter::Info);
        check(u32::MAX, LevelFilter::Info);
    }
}
