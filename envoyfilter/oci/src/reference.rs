//! Names of images: `registry/name`, with a tag, a digest or both.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// What Docker calls its registry, and where that answers.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The longest name and the longest tag, in bytes.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image: where it is, and which one. `oci://` before it is allowed, as meshes write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry, with its port when it has one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name of the repository in its registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or of the index.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository: registry and name.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    /// The image of this digest in the same repository.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// What the registry is asked for: the digest, else the tag, else `latest` as everywhere.
    pub(crate) fn selector(&self) -> &str {
        self.digest().map(Digest::as_str).or(self.tag()).unwrap_or("latest")
    }

    /// The host that answers for the registry, with its port.
    pub(crate) fn api_host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_API } else { &self.registry }
    }

    /// Whether the registry is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = host_of(&self.registry);
        let is_address = |address: std::net::IpAddr| address.is_loopback();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.trim_matches(['[', ']']).parse().is_ok_and(is_address)
    }

    /// Whether the tag is a whole semantic version, as `1.2.0` and `v1.2.0-rc.1` are: such tags stay.
    pub fn has_version_tag(&self) -> bool {
        self.tag().is_some_and(is_version)
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |why| InvalidReference { text: text.to_owned(), why };
        let rest = text.strip_prefix("oci://").unwrap_or(text);
        if rest.contains("://") {
            return Err(invalid("only `oci://` may stand before it"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse();
                (
                    rest,
                    Some(digest.map_err(|_| invalid("the digest is not `sha256:` and 64 digits"))?),
                )
            }
            None => (rest, None),
        };
        let (registry, path) = rest.split_once('/').filter(|(registry, _)| is_registry(registry)).ok_or_else(
            || invalid("write REGISTRY/NAME, with the registry as a host name with a dot or a port, or as `localhost`"),
        )?;
        let (name, tag) = match path.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag.to_owned())),
            None => (path, None),
        };
        let registry = match registry {
            "index.docker.io" | DOCKER_HUB_API => DOCKER_HUB,
            other => other,
        };
        let is_official = registry == DOCKER_HUB && !name.contains('/');
        let name = if is_official { format!("library/{name}") } else { name.to_owned() };
        if name.len() > MAX_NAME || !name.split('/').all(is_component) {
            return Err(invalid(
                "a name is at most 255 bytes: lower-case letters, digits and single separators",
            ));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("a tag is 1 to 128 letters, digits, `_`, `.` and `-`"));
        }
        Ok(Self { registry: registry.to_owned(), name, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidReference {
    text: String,
    why: &'static str,
}

impl fmt::Display for InvalidReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {:?}: {}", self.text, self.why)
    }
}

impl std::error::Error for InvalidReference {}

/// The host without its port; of an IPv6 address in its brackets.
fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    }
}

fn is_registry(text: &str) -> bool {
    let host = host_of(text);
    let is_address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let has_port = host.len() != text.len() && !text.ends_with(':');
    is_address
        || host.split('.').all(is_part)
            && (has_port || host == "localhost" || host.contains('.'))
            && (has_port || host.len() == text.len())
}

/// Lower-case letters and digits, between them `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator = |text: &str| {
        matches!(text, "." | "_" | "__")
            || !text.is_empty() && text.bytes().all(|byte| byte == b'-')
    };
    let ends_plain = |byte: Option<u8>| byte.is_some_and(is_plain);
    ends_plain(text.bytes().next())
        && ends_plain(text.bytes().last())
        && text
            .split(|letter: char| u8::try_from(letter).is_ok_and(is_plain))
            .filter(|between| !between.is_empty())
            .all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// Tags cannot have the `+` of build metadata; `_` stands for it, as Helm has it.
fn is_version(tag: &str) -> bool {
    let version = tag.strip_prefix('v').unwrap_or(tag).replacen('_', "+", 1);
    semver::Version::parse(&version).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[track_caller]
    fn check(text: &str, registry: &str, name: &str, selector: &str) {
        let reference: Reference = text.parse().unwrap();
        let parts = (reference.registry(), reference.name(), reference.selector());
        assert_eq!(parts, (registry, name, selector), "{text}");
    }

    #[test]
    fn references_are_read() {
        check("ghcr.io/acme/limit:1.2.0", "ghcr.io", "acme/limit", "1.2.0");
        check("oci://ghcr.io/acme/limit", "ghcr.io", "acme/limit", "latest");
        check("localhost/a", "localhost", "a", "latest");
        check("registry:5000/a/b__c/d--e:x", "registry:5000", "a/b__c/d--e", "x");
        check("[::1]:5000/a:x", "[::1]:5000", "a", "x");
        check(&format!("127.0.0.1:5000/a:x@{EMPTY}"), "127.0.0.1:5000", "a", EMPTY);
        check("docker.io/limit:1", "docker.io", "library/limit", "1");
        check("index.docker.io/acme/limit:1", "docker.io", "acme/limit", "1");
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in [
            "",
            "limit",
            "acme/limit:1",
            "https://ghcr.io/a",
            "ghcr.io/",
            "ghcr.io/A",
            "ghcr.io/a//b",
            "ghcr.io/a..b",
            "ghcr.io/-a",
            "ghcr.io/a:",
            "ghcr.io/a:.x",
            "ghcr.io/a@sha256:00",
            "ghcr.io/../a",
            "ghcr.io:/a",
            "a.b@c.d/e",
            "ghcr.io/a?b",
            &format!("ghcr.io/{}", "a".repeat(256)),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        let is_loopback = |text: &str| text.parse::<Reference>().unwrap().is_loopback();
        assert!(
            ["localhost:1/a", "a.localhost/a", "127.9.0.1:1/a", "[::1]:1/a"]
                .map(is_loopback)
                .iter()
                .all(|it| *it)
        );
        assert!(
            !["10.0.0.1:1/a", "localhost.example.com/a", "[::2]:1/a"]
                .map(is_loopback)
                .iter()
                .any(|it| *it)
        );
    }

    #[test]
    fn whole_versions_are_versions() {
        let is = |tag: &str| is_version(tag);
        assert!(["1.2.0", "v1.2.0", "1.2.0-rc.1", "1.2.0_build.5"].map(is).iter().all(|it| *it));
        assert!(!["1", "1.2", "latest", "v1", "main-1.2.0"].map(is).iter().any(|it| *it));
    }
}
