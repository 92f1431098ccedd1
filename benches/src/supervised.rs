//! A child process that ends with us, however we end: as `tollgate-host-envoy` has it, where it is not
//! public.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Gets a folder and a program with its arguments, writes the program's process id to `pid` there, and
/// kills it by that id once standard input ends, which it does with us.
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
pub(crate) struct Supervised {
    shell: Child,
}

impl Supervised {
    /// Starts a program that keeps its files in `folder`; what it writes goes to the file `log` there.
    ///
    /// # Errors
    ///
    /// The shell cannot be started, or the file cannot be made.
    pub(crate) fn start(command: &[OsString], folder: &Path) -> io::Result<Self> {
        let log = File::create(folder.join("log"))?;
        let shell = Command::new("sh")
            .args(["-c", SUPERVISOR, "sh"])
            .arg(folder)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
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
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
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
