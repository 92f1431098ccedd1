//! WASI as Envoy serves it to filters: output goes to the log, there are no files and no arguments.

use tollgate_abi::{Answer, LogLevel, Reply, Status, Stub};

use super::World;
use super::clock::nanoseconds;

/// `errno` of WASI preview 1.
const EBADF: u32 = 8;
const EINVAL: u32 = 28;

/// The most random bytes that Envoy gives at once.
const MOST_RANDOM_BYTES: u64 = 64 << 10;

/// A source of bytes that look random and are the same in every run (`SplitMix64`).
#[derive(Debug, Default)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

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
        match self.write_log(level, data.strip_suffix(b"\n").unwrap_or(data)) {
            Ok(()) => Reply::Done(Answer::Size(data.len())),
            Err(trap) => trap,
        }
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
            1 => Reply::Done(Answer::U64(nanoseconds(self.clock.passed()))),
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

pub(super) fn no_strings_sizes() -> Reply {
    Reply::Done(Answer::Sizes { count: 0, size: 0 })
}

pub(super) fn no_strings() -> Reply {
    Reply::Done(Answer::Strings(Vec::new()))
}

fn errno(errno: u32, why: String) -> Reply {
    Reply::refused(Status::from(errno), why)
}
