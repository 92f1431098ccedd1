//! Where credentials for a registry come from, in this order: what was given, the environment, Podman's
//! file if the environment names one, Docker's configuration with its helpers, Podman's file.
//!
//! No credential is ever printed: [`Credential`] has no `Debug` that shows it.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use serde::Deserialize;

use crate::reference::Reference;

/// The variables of the environment.
const USER: &str = "TOLLGATE_REGISTRY_USERNAME";
const PASSWORD: &str = "TOLLGATE_REGISTRY_PASSWORD";

/// What Docker calls its own registry in its configuration.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Something that opens a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user with a password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others, as Azure's registries give them out.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Credential::Password",
            Self::IdentityToken(_) => "Credential::IdentityToken",
        })
    }
}

/// Where to look for credentials.
#[derive(Clone, Debug)]
pub enum Login {
    /// These, whatever else there is.
    Given(Credential),
    /// What the environment and the files of the user say.
    Found(Environment),
}

impl Login {
    /// What the environment of this process and the files of its user say.
    pub fn of_this_process() -> Self {
        Self::Found(Environment::of(|name| std::env::var_os(name)))
    }

    /// The credential for an image, with words for its source; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] for a source that is there and cannot be read: it is not passed over.
    pub(crate) fn find(
        &self,
        reference: &Reference,
    ) -> Result<Option<(Credential, String)>, CredentialError> {
        match self {
            Self::Given(credential) => {
                Ok(Some((credential.clone(), "the command line".to_owned())))
            }
            Self::Found(environment) => environment.find(reference),
        }
    }
}

/// The variables that matter, and the files that they and the user's home lead to.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    username: Option<OsString>,
    password: Option<OsString>,
    files: Vec<PathBuf>,
}

impl Environment {
    /// Reads the variables by a function, so that tests need not change their own.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let in_home = |file: &str| home.as_ref().map(|home| home.join(file));
        let docker = path("DOCKER_CONFIG").or_else(|| in_home(".docker"));
        let files = [
            path("REGISTRY_AUTH_FILE"),
            docker.map(|folder| folder.join("config.json")),
            path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
            path("XDG_CONFIG_HOME")
                .or_else(|| in_home(".config"))
                .map(|folder| folder.join("containers/auth.json")),
        ];
        Self {
            username: variable(USER),
            password: variable(PASSWORD),
            files: files.into_iter().flatten().collect(),
        }
    }

    fn find(&self, reference: &Reference) -> Result<Option<(Credential, String)>, CredentialError> {
        let text = |value: &OsString| value.to_str().map(str::to_owned);
        match (&self.username, &self.password) {
            (None, None) => {}
            (Some(username), Some(password)) => {
                let both = text(username).zip(text(password));
                let (username, password) = both.ok_or(CredentialError::HalfGiven)?;
                let credential = Credential::Password { username, password };
                return Ok(Some((credential, format!("${USER} and ${PASSWORD}"))));
            }
            (Some(_), None) | (None, Some(_)) => return Err(CredentialError::HalfGiven),
        }
        for file in &self.files {
            if let Some(credential) = in_file(file, reference)? {
                return Ok(Some((credential, file.display().to_string())));
            }
        }
        Ok(None)
    }
}

/// The credential in a file of Docker's form. Podman writes keys for repositories and their folders too;
/// the longest that fits wins.
fn in_file(file: &Path, reference: &Reference) -> Result<Option<Credential>, CredentialError> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(CredentialError::File { file: file.to_owned(), why: error.to_string() });
        }
    };
    // What cannot be read is told below, with the name of the file.
    let written: Written = serde_json::from_slice(&text).unwrap_or_default();
    for key in keys(reference, &written) {
        match get_credential_from_reader(text.as_slice(), &key) {
            Ok(DockerCredential::IdentityToken(token)) => {
                return Ok(Some(Credential::IdentityToken(token)));
            }
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                return Ok(Some(Credential::Password { username, password }));
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            // How helpers say that they have nothing, in the words of Docker's own.
            Err(CredentialRetrievalError::HelperFailure { stdout, .. })
                if stdout.contains("credentials not found") => {}
            Err(error) => {
                return Err(CredentialError::File { file: file.to_owned(), why: words(&error) });
            }
        }
    }
    Ok(None)
}

/// Which keys a file has.
#[derive(Default, Deserialize)]
struct Written {
    #[serde(default)]
    auths: serde_json::Map<String, serde_json::Value>,
}

/// The names under which a credential for an image may stand, the narrowest first. Those of repositories
/// have to be written: helpers know registries alone.
fn keys(reference: &Reference, written: &Written) -> Vec<String> {
    let mut keys = Vec::new();
    let mut key = reference.repository();
    while let Some((folder, _)) = key.rsplit_once('/') {
        let folder = folder.to_owned();
        keys.push(std::mem::replace(&mut key, folder));
    }
    keys.retain(|key| written.auths.contains_key(key));
    keys.push(if key == "docker.io" { DOCKER_HUB_KEY.to_owned() } else { key });
    keys
}

/// A helper may print what it likes; only its name and what it writes to standard error are told.
fn words(error: &CredentialRetrievalError) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, stderr, .. } => {
            format!("{helper} failed: {}", stderr.trim())
        }
        CredentialRetrievalError::HelperCommunicationError => {
            "its credential helper cannot be run".to_owned()
        }
        other => other.to_string(),
    }
}

/// Credentials that are there and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// A user without a password, or the reverse.
    HalfGiven,
    /// A file, or the helper that it names.
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfGiven => write!(f, "set both {USER} and {PASSWORD} as text, or none"),
            Self::File { file, why } => write!(f, "{}: {why}", file.display()),
        }
    }
}

impl std::error::Error for CredentialError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_key_that_is_written_comes_first() {
        let check = |image: &str, written: &[&str], expected: &[&str]| {
            let auths = written.iter().map(|key| ((*key).to_owned(), serde_json::Value::Null));
            let written = Written { auths: auths.collect() };
            assert_eq!(keys(&image.parse().unwrap(), &written), expected, "{image}");
        };
        check("a.io/b/c:1", &[], &["a.io"]);
        check("a.io/b/c:1", &["a.io/b", "a.io/b/c", "a.io/c"], &["a.io/b/c", "a.io/b", "a.io"]);
        check("localhost:5000/b", &["localhost:5000/b"], &["localhost:5000/b", "localhost:5000"]);
        check("docker.io/b", &["docker.io/library"], &["docker.io/library", DOCKER_HUB_KEY]);
    }

    #[test]
    fn no_credential_is_shown() {
        let (username, password) = ("alice".to_owned(), "secret".to_owned());
        for credential in [
            Credential::Password { username, password },
            Credential::IdentityToken("secret".to_owned()),
        ] {
            assert!(!format!("{credential:?}").contains("secret"), "{credential:?}");
        }
    }
}
