//! WASI as Envoy serves it to filters: output goes to the log, the environment is the VM's, there are no
//! files and no arguments.

use std::time::Duration;

use tollgate_abi::{Answer, LogLevel, Reply, Status, Stub};

use super::clock::nanoseconds;
use super::{Scope, World};

/// `errno` of WASI preview 1.
const EBADF: u32 = 8;
const EINVAL: u32 = 28;
pub(super) const ENOTCAPABLE: u32 = 76;

/// What the monotonic clock shows when a world begins: Go takes zero for a clock that does not work.
const MONOTONIC_EPOCH: Duration = Duration::from_hours(1);

/// The most random bytes that Envoy gives at once.
const MOST_RANDOM_BYTES: u64 = 64 << 10;

impl World {
    /// Takes note of a call of a function that only answers.
    pub fn note_stub(&mut self, stub: &Stub, errno: u32) {
        self.host_calls += 1;
        let name = stub.name();
        match stub.why(errno) {
            None => self.note(|| format!("    {name}(…) = ok")),
            Some(why) => {
                let text = format!("{name}(…) = {errno}: {why}");
                self.note(|| format!("    {text}"));
                self.recent.stub(text);
            }
        }
    }

    pub(super) fn fd_write(&mut self, fd: u32, data: &[u8]) -> Reply {
        let level = match fd {
            1 => LogLevel::Info,
            2 => LogLevel::Error,
            _ => return errno(EBADF, format!("file descriptor {fd} is not open")),
        };
        self.recent.wrote(data);
        // As on Envoy: each write is a line, whether it ends one or not, and nothing is none.
        if data.is_empty() {
            return Reply::Done(Answer::Size(0));
        }
        match self.write_log(level, data.strip_suffix(b"\n").unwrap_or(data)) {
            Ok(()) => Reply::Done(Answer::Size(data.len())),
            Err(trap) => trap,
        }
    }

    /// The environment variables of the guest's VM, in the order of their names.
    pub(super) fn environment(&self, scope: &Scope) -> Vec<Vec<u8>> {
        let environment = self.plugin_of(scope).map(|plugin| &plugin.environment);
        let variable = |(name, value): (&String, &String)| format!("{name}={value}").into_bytes();
        environment.into_iter().flatten().map(variable).collect()
    }

    pub(super) fn random_get(&mut self, size: u64) -> Reply {
        match usize::try_from(size) {
            Ok(length) if size <= MOST_RANDOM_BYTES => {
                let bytes = std::iter::repeat_with(|| self.random.next().to_le_bytes());
                Reply::Done(Answer::Fill(bytes.flatten().take(length).collect()))
            }
            _ => errno(EINVAL, format!("{size} bytes are more than {MOST_RANDOM_BYTES}")),
        }
    }

    pub(super) fn clock_time(&self, clock: u32) -> Reply {
        match clock {
            0 => Reply::Done(Answer::U64(nanoseconds(self.clock.wall()))),
            1 => {
                let time = self.clock.passed().saturating_add(MONOTONIC_EPOCH);
                Reply::Done(Answer::U64(nanoseconds(time)))
            }
            _ => errno(EINVAL, format!("there is no clock {clock}")),
        }
    }
}

pub(super) fn clock_resolution(clock: u32) -> Reply {
    match clock {
        0 | 1 => Reply::Done(Answer::U64(1)),
        _ => errno(EINVAL, format!("there is no clock {clock}")),
    }
}

pub(super) fn sizes(strings: &[Vec<u8>]) -> Reply {
    let size = strings.iter().map(|string| string.len().saturating_add(1)).sum();
    Reply::Done(Answer::Sizes { count: strings.len(), size })
}

fn errno(errno: u32, why: String) -> Reply {
    Reply::refused(Status::from(errno), why)
}
