//! What the tests of the command share: the command itself, and modules built by it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

pub mod envoy;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;

/// The repository's folder, where the command runs.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of the built-in filters' modules, built once for all tests of a program.
pub fn modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("filters");
        let output = tollgate(&["build", "--out", folder.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    })
}

pub fn tollgate(arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("tollgate").unwrap();
    command.current_dir(root()).env_remove("TOLLGATE_ENVOY").args(arguments).output().unwrap()
}

/// Whether the program is there; a test that needs it passes without it, except with `CI=true`.
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_found = std::env::split_paths(&paths).any(|folder| folder.join(program).is_file());
    if !is_found {
        let required = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!required, "{program} is not installed");
        println!("skipped: {program} is not installed");
    }
    is_found
}
