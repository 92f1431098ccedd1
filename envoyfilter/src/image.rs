//! A reference to an image: `oci://REPOSITORY[:TAG][@sha256:DIGEST]`. Nothing is pulled here.

use std::fmt;

use serde::Deserialize;

/// Where an image is, and which one it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Image {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Image {
    /// Reads a reference.
    ///
    /// # Errors
    ///
    /// [`InvalidImage`] with the part that is wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tollgate_envoyfilter::Image;
    /// let image = Image::parse("oci://registry.example.com/filters/ratelimit:0.1.0")?;
    /// assert_eq!(image.repository(), "registry.example.com/filters/ratelimit");
    /// assert_eq!((image.tag(), image.digest()), (Some("0.1.0"), None));
    /// # Ok::<(), tollgate_envoyfilter::InvalidImage>(())
    /// ```
    ///
    /// Source: the grammar of references of `distribution/reference`.
    pub fn parse(text: &str) -> Result<Self, InvalidImage> {
        let invalid = |fault| InvalidImage { image: text.to_owned(), fault };
        let rest = text.strip_prefix("oci://").ok_or_else(|| invalid(Fault::Scheme))?;
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => {
                let hex = digest.strip_prefix("sha256:").unwrap_or_default();
                let digest = Digest::parse(hex).ok_or_else(|| invalid(Fault::Digest))?;
                if digest.is_placeholder() {
                    return Err(invalid(Fault::Placeholder));
                }
                (name, Some(digest))
            }
            None => (rest, None),
        };
        // A colon before the last slash is that of a port.
        let tag_at = name.rfind(':').filter(|at| name.rfind('/').is_some_and(|slash| slash < *at));
        let (repository, tag) = match tag_at.and_then(|at| name.split_at_checked(at)) {
            Some((repository, tag)) => (repository, Some(tag.trim_start_matches(':'))),
            None => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(Fault::Tag));
        }
        let (registry, path) = repository.split_once('/').unwrap_or_default();
        if registry.is_empty() || path.split('/').any(|part| !is_path_part(part)) {
            return Err(invalid(Fault::Repository));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// The same name, for the image of this digest.
    pub(crate) fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Registry and repository, without tag and digest.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest: 64 hexadecimal digits.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_ref().map(Digest::hex)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}", self.repository)?;
        match (&self.digest, &self.tag) {
            // A digest says all; whoever pulls by both has only to check more.
            (Some(digest), _) => write!(f, "@sha256:{}", digest.hex()),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

impl TryFrom<String> for Image {
    type Error = InvalidImage;

    fn try_from(text: String) -> Result<Self, InvalidImage> {
        Self::parse(&text)
    }
}

/// A SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest(String);

impl Digest {
    pub(crate) fn parse(hex: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (hex.len() == 64 && hex.bytes().all(is_digit)).then(|| Self(hex.to_owned()))
    }

    /// Whether it is of zeros, which stand in examples for one that is not known.
    fn is_placeholder(&self) -> bool {
        self.0.bytes().all(|digit| digit == b'0')
    }

    fn hex(&self) -> &str {
        &self.0
    }
}

fn is_tag(tag: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=128).contains(&tag.len()) && tag.bytes().all(may) && !tag.starts_with(['.', '-'])
}

fn is_path_part(part: &str) -> bool {
    let may =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    !part.is_empty() && part.bytes().all(may)
}

/// A text that is no [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidImage {
    image: String,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Scheme,
    Repository,
    Tag,
    Digest,
    Placeholder,
}

impl fmt::Display for InvalidImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, fault } = self;
        write!(f, "`{image}` is no image: ")?;
        f.write_str(match fault {
            Fault::Scheme => "it begins with oci://",
            Fault::Repository => {
                "after oci:// stand a registry and a path of a-z, 0-9, `.`, `_` and `-`"
            }
            Fault::Tag => "a tag is 1 to 128 letters, digits, `.`, `_` and `-`",
            Fault::Placeholder => {
                "a digest of zeros is a placeholder; write the one that `tollgate push` prints"
            }
            Fault::Digest => "a digest is sha256: and 64 digits of 0-9 and a-f",
        })
    }
}

impl std::error::Error for InvalidImage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_in_its_parts() {
        let hex = "a".repeat(64);
        let check = |text: &str, repository: &str, tag: Option<&str>, pinned: bool| {
            let image = Image::parse(text).unwrap();
            assert_eq!((image.repository(), image.tag()), (repository, tag), "{text}");
            assert_eq!(image.digest().is_some(), pinned, "{text}");
        };
        check("oci://a.io/b", "a.io/b", None, false);
        check("oci://a.io:5000/b/c:1.0", "a.io:5000/b/c", Some("1.0"), false);
        check("oci://127.0.0.1:5000/b", "127.0.0.1:5000/b", None, false);
        check(&format!("oci://a.io/b:1@sha256:{hex}"), "a.io/b", Some("1"), true);
        let pinned = Image::parse(&format!("oci://a.io/b:1@sha256:{hex}")).unwrap();
        assert_eq!(pinned.to_string(), format!("oci://a.io/b@sha256:{hex}"));
    }

    #[test]
    fn what_is_no_reference_is_told() {
        let check = |text: &str, word: &str| {
            let error = Image::parse(text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        };
        check("a.io/b", "oci://");
        check("oci://b", "registry");
        check("oci:///b", "registry");
        check("oci://a.io/B", "a-z");
        check("oci://a.io//b", "a-z");
        check("oci://a.io/b:", "tag");
        check("oci://a.io/b:.x", "tag");
        check("oci://a.io/b@sha256:abc", "64");
        check(&format!("oci://a.io/b@sha256:{}", "0".repeat(64)), "tollgate push");
        check(&format!("oci://a.io/b@sha512:{}", "a".repeat(64)), "sha256");
    }
}
