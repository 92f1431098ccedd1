//! What every test with a real Envoy needs: the binary, and guests.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tollgate_host::scenario::Scenario;
use tollgate_host_envoy::{EnvoyHost, find_envoy};

/// A host over a real Envoy, and a folder with the guests.
pub(crate) struct Stage {
    pub(crate) host: EnvoyHost,
    _guests: TempDir,
}

impl Stage {
    /// Without an Envoy there is none, which is said aloud, and is a failure where `CI` is `true`.
    pub(crate) fn new() -> Option<Self> {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/envoy/venv");
        let envoy = match find_envoy(None, &venv) {
            Ok(envoy) => envoy,
            Err(error) => {
                assert!(env::var("CI").as_deref() != Ok("true"), "{error}");
                // Not the macro, whose output a test that passes keeps to itself.
                let mut stderr = io::stderr();
                writeln!(stderr, "skipped a test with a real Envoy: {error}").unwrap();
                return None;
            }
        };
        let guests = tempfile::tempdir().unwrap();
        for file in
            fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")).unwrap()
        {
            let file = file.unwrap().path();
            let module = wat::parse_file(&file).unwrap();
            let name = file.with_extension("wasm");
            fs::write(guests.path().join(name.file_name().unwrap()), module).unwrap();
        }
        fs::write(guests.path().join("text.wasm"), "not a module").unwrap();
        let host = EnvoyHost::new(envoy, PathBuf::from(guests.path()));
        Some(Self { host, _guests: guests })
    }
}

pub(crate) fn scenario(text: &str) -> Scenario {
    Scenario::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
