//! Setting Envoy's wall clock while it runs.
//!
//! A small C library, preloaded into Envoy, adds a shift to the wall clock that it reads from a file.
//! `libfaketime` does the same for most programs, but Envoy hangs in it before it starts (measured with
//! Envoy 1.40 and libfaketime 0.9.10).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_host::scenario::ClockStep;

const SOURCE: &str = include_str!("clock.c");

/// The C compiler: `$CC`, or else `cc`.
pub(crate) fn compiler() -> OsString {
    std::env::var_os("CC").unwrap_or_else(|| "cc".into())
}

/// The wall clock of one Envoy, which can be set.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    file: PathBuf,
    shared: File,
    shift_nanos: i64,
}

impl Clock {
    /// A clock that lives in `folder` and shows the right time.
    ///
    /// # Errors
    ///
    /// [`NoClock`] when `compiler` does not make the library.
    pub(crate) fn new(compiler: &OsStr, folder: &Path) -> Result<Self, NoClock> {
        let [library, source, file] =
            ["clock.so", "clock.c", "clock"].map(|name| folder.join(name));
        fs::write(&source, SOURCE).map_err(NoClock::Io)?;
        compile(compiler, &source, &library)?;
        fs::write(&file, 0_i64.to_ne_bytes()).map_err(NoClock::Io)?;
        let shared = File::options().write(true).open(&file).map_err(NoClock::Io)?;
        Ok(Self { library, file, shared, shift_nanos: 0 })
    }

    /// Sets the clock to `time`, since the Unix epoch.
    pub(crate) fn set(&mut self, time: Duration) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.shift_nanos = 0;
        self.step(match time.checked_sub(now) {
            Some(by) => ClockStep::Forward(by),
            None => ClockStep::Back(now.saturating_sub(time)),
        })
    }

    /// Variables of the environment for a process whose clock this is.
    pub(crate) fn variables(&self) -> [OsString; 2] {
        let variable = |name: &str, value: &Path| {
            let mut variable = OsString::from(name);
            variable.push("=");
            variable.push(value);
            variable
        };
        [variable("LD_PRELOAD", &self.library), variable("TOLLGATE_CLOCK", &self.file)]
    }

    /// Sets the clock forward or back.
    pub(crate) fn step(&mut self, by: ClockStep) -> io::Result<()> {
        let nanos = |by: Duration| i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.shift_nanos = match by {
            ClockStep::Forward(by) => self.shift_nanos.saturating_add(nanos(by)),
            ClockStep::Back(by) => self.shift_nanos.saturating_sub(nanos(by)),
        };
        self.shared.write_all_at(&self.shift_nanos.to_ne_bytes(), 0)
    }
}

/// Envoy's wall clock cannot be set here.
#[derive(Debug)]
pub(crate) enum NoClock {
    /// There is no C compiler.
    NoCompiler {
        /// What was tried.
        compiler: OsString,
        /// Why it did not start.
        error: io::Error,
    },
    /// The C compiler failed.
    CompilerFailed {
        /// What was run.
        compiler: OsString,
        /// What it said.
        words: String,
    },
    /// Its files cannot be written.
    Io(io::Error),
}

impl fmt::Display for NoClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`clock` steps and `peers` on Envoy need a C compiler: ")?;
        match self {
            Self::NoCompiler { compiler, error } => write!(
                f,
                "`{}` does not start ({error}); install gcc or clang, or name one with $CC",
                compiler.display()
            ),
            Self::CompilerFailed { compiler, words } => {
                write!(f, "`{}` failed: {words}", compiler.display())
            }
            Self::Io(error) => write!(f, "its files cannot be written: {error}"),
        }
    }
}

impl std::error::Error for NoClock {}

fn compile(compiler: &OsStr, source: &Path, library: &Path) -> Result<(), NoClock> {
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .args([library, source])
        .output()
        .map_err(|error| NoClock::NoCompiler { compiler: compiler.into(), error })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(NoClock::CompilerFailed { compiler: compiler.into(), words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_tells_what_to_install() {
        let check = |compiler: &str, part: &str| {
            let folder = tempfile::tempdir().unwrap();
            let error = Clock::new(OsStr::new(compiler), folder.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{error} lacks {part}");
        };
        check("no-such-compiler", "`no-such-compiler` does not start");
        check("no-such-compiler", "install gcc or clang");
        check("false", "`false` failed");
    }
}
