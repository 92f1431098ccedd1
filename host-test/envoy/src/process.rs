//! A child process that ends with us, however we end.
//!
//! A shell stands between: it starts the program and reads from a pipe that only we hold. When the pipe
//! closes, because we are done or because we were killed, it kills the program and removes its folder.
//! That takes neither signal handlers nor unsafe code.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Gets a folder and a program with its arguments, writes the program's process id to `pid` there, and
/// kills it by that id once standard input ends. A shell gives what it starts in the background no standard input, hence the third
/// descriptor.
const SUPERVISOR: &str = r#"
folder=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
echo "$child" >"$folder/pid"
{ read -r line <&3; rm -rf "$folder"; kill -9 "$child"; } 2>/dev/null &
watcher=$!
exec 3<&-
wait "$child"
status=$?
kill -9 "$watcher" 2>/dev/null
exit "$status"
"#;

/// A running child process. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Supervised {
    shell: Child,
}

impl Supervised {
    /// Starts a program that keeps its files in `folder`; what it writes goes to the file `output` there,
    /// its process id to the file `pid`. The folder goes with the program.
    ///
    /// # Errors
    ///
    /// The shell cannot be started, or `output` cannot be made.
    pub fn start(command: &[OsString], folder: &Path, output: &str) -> io::Result<Self> {
        let output = File::create(folder.join(output))?;
        let shell = Command::new("sh")
            .args(["-c", SUPERVISOR, "sh"])
            .arg(folder)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal reaches us only; the pipe does the rest.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Whether it ended by itself.
    ///
    /// # Errors
    ///
    /// The operating system does not tell.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.shell.try_wait()?.is_some())
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It has ended or is being killed; there is nobody to tell of an error.
        let _ended = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;

    fn start(script: &str, folder: &Path) -> Supervised {
        Supervised::start(&["sh", "-c", script].map(OsString::from), folder, "output").unwrap()
    }

    fn wait_until(what: &str, holds: impl Fn() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
            sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_child_is_gone_when_its_owner_drops_it() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let child = start("echo $$; exec sleep 1000", folder.path());
        wait_until("the child starts", || fs::read_to_string(&output).unwrap().ends_with('\n'));
        let process = fs::read_to_string(&output).unwrap();
        let process = Path::new("/proc").join(process.trim());
        assert!(process.exists());
        drop(child);
        assert!(!process.exists(), "{}", process.display());
        assert!(!folder.path().exists());
    }

    #[test]
    fn a_child_that_ends_by_itself_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let mut child = start("echo out; echo error >&2", folder.path());
        let begin = Instant::now();
        while !child.has_ended().unwrap() {
            assert!(begin.elapsed() < Duration::from_secs(10));
            sleep(Duration::from_millis(5));
        }
        assert_eq!(fs::read_to_string(&output).unwrap(), "out\nerror\n");
    }
}
