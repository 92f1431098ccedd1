//! What can go wrong between here and a registry, and which of it may pass.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::credentials::CredentialError;
use crate::digest::Digest;
use crate::manifest::InvalidManifest;
use crate::reference::Reference;

/// Why an image could not be pushed or read.
#[derive(Debug)]
pub enum Failure {
    /// No answer, or half of one.
    Unreachable {
        /// The request.
        request: String,
        /// What happened.
        error: ureq::Error,
    },
    /// An answer that is not the one that was wanted.
    Status {
        /// The request.
        request: String,
        /// The status of HTTP.
        status: u16,
        /// What the registry says, shortened.
        said: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The registry does not know the upload any more: it has started anew, or another one answered.
    UploadLost {
        /// The request.
        request: String,
    },
    /// The registry lets nobody in, or not with these credentials.
    Refused {
        /// The repository.
        repository: String,
        /// Where the credentials come from; `None` when there are none.
        source: Option<String>,
        /// What the registry says, shortened.
        said: String,
    },
    /// The credentials cannot be read.
    Credentials(CredentialError),
    /// The registry wants a login that is not known, or at a place where credentials are not sent.
    Challenge {
        /// What it wants.
        challenge: String,
        /// Why not.
        why: &'static str,
    },
    /// There is no such image.
    Missing {
        /// The image.
        reference: Reference,
    },
    /// The tag is a version that stands for another image.
    TagTaken {
        /// The image with its tag.
        reference: Reference,
        /// What it stands for.
        stored: Digest,
    },
    /// The registry has, or gives, something else than it should.
    WrongDigest {
        /// What should have it.
        what: String,
        /// The digest that it should have.
        expected: Digest,
        /// What it has.
        found: String,
    },
    /// The registry has, or gives, more or fewer bytes than it should.
    WrongSize {
        /// What should have it.
        what: String,
        /// The bytes that it should have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// The registry gives more than is read.
    TooLarge {
        /// What it is.
        what: String,
        /// What is read at most, in bytes.
        bound: u64,
    },
    /// The registry does not say where to upload to.
    NoLocation {
        /// What it says.
        location: String,
    },
    /// The manifest cannot be read.
    Manifest(InvalidManifest),
    /// An index without an image that a mesh takes.
    NoImage {
        /// The platforms that it has.
        platforms: String,
    },
}

impl Failure {
    /// Whether the same request may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { error, .. } => match error {
                ureq::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
                ureq::Error::Timeout(_)
                | ureq::Error::ConnectionFailed
                | ureq::Error::BodyStalled => true,
                // Names that are not known, certificates that are not trusted, no HTTP.
                _ => false,
            },
            Self::UploadLost { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=599),
            Self::Refused { .. }
            | Self::Credentials(_)
            | Self::Challenge { .. }
            | Self::Missing { .. }
            | Self::TagTaken { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::TooLarge { .. }
            | Self::NoLocation { .. }
            | Self::Manifest(_)
            | Self::NoImage { .. } => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { request, error } => {
                write!(f, "{request}: {error}")?;
                let words = error.to_string();
                if words.contains("InvalidContentType") {
                    f.write_str("; the registry does not speak TLS, allow plain HTTP")?;
                } else if words.contains("UnknownIssuer") {
                    f.write_str("; name the file of the registry's CA")?;
                }
                Ok(())
            }
            Self::Status { request, status, said, retry_after } => {
                write!(f, "{request}: status {status}")?;
                if !said.is_empty() {
                    write!(f, ": {said}")?;
                }
                match retry_after {
                    Some(pause) => write!(f, "; it asks for {} s of patience", pause.as_secs()),
                    None => Ok(()),
                }
            }
            Self::UploadLost { request } => {
                write!(f, "{request}: the registry has forgotten the upload")
            }
            Self::Refused { repository, source: None, said } => {
                write!(
                    f,
                    "{repository}: the registry wants a login, and there are no credentials: {said}"
                )
            }
            Self::Refused { repository, source: Some(source), said } => {
                write!(
                    f,
                    "{repository}: the registry refuses the credentials from {source}: {said}"
                )
            }
            Self::Credentials(error) => write!(f, "{error}"),
            Self::Challenge { challenge, why } => write!(f, "login {challenge:?}: {why}"),
            Self::Missing { reference } => write!(f, "{reference}: there is no such image"),
            Self::TagTaken { reference, stored } => write!(
                f,
                "{reference} is a version and stands for {stored}; push under a new one, or force it"
            ),
            Self::WrongDigest { what, expected, found } => {
                write!(f, "{what}: the registry has {found:?}, not {expected}")
            }
            Self::WrongSize { what, expected, found } => {
                write!(f, "{what}: the registry has {found} bytes, not {expected}")
            }
            Self::TooLarge { what, bound } => write!(f, "{what} is above {bound} bytes"),
            Self::NoLocation { location } => {
                write!(f, "the registry does not say where to upload to: {location:?}")
            }
            Self::Manifest(error) => write!(f, "{error}"),
            Self::NoImage { platforms } => write!(
                f,
                "no image of the index is for linux/amd64, which meshes take everywhere: {platforms}"
            ),
        }
    }
}

// What lies behind is in the text already.
impl std::error::Error for Failure {}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        Self::Credentials(error)
    }
}

impl From<InvalidManifest> for Failure {
    fn from(error: InvalidManifest) -> Self {
        Self::Manifest(error)
    }
}
