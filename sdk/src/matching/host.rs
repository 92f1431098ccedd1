//! Hosts: what a rule says of them, and which hosts of requests can be compared at all.
//!
//! A host is compared without its port and without one dot at its end, in any case.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Which hosts a rule is for: `api.example.com`, or `*.example.com` for all below it but not itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// The hosts that this text is for.
    ///
    /// # Errors
    ///
    /// [`InvalidHost`] when the text is no name or address, has a port, or a star elsewhere.
    pub fn new(text: &str) -> Result<Self, InvalidHost> {
        let (name, is_suffix) = match text.strip_prefix('*') {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let invalid = |why| InvalidHost { text: text.to_owned(), why };
        let bare = if is_suffix {
            name.strip_prefix('.').ok_or_else(|| invalid(AmbiguousHost::Name))?
        } else {
            name
        };
        match RequestHost::read(bare.as_bytes()) {
            Err(why) => Err(invalid(why)),
            Ok(host) if host.0.len() < bare.len() || (is_suffix && bare.starts_with('[')) => {
                Err(invalid(AmbiguousHost::Port))
            }
            Ok(_) => Ok(Self(text.to_owned())),
        }
    }

    /// Whether the host is one of these.
    pub fn matches(&self, host: RequestHost<'_>) -> bool {
        fits(&self.0, host)
    }
}

/// Whether the host is one that a checked text is for.
pub(super) fn fits(pattern: &str, RequestHost(host): RequestHost<'_>) -> bool {
    let Some(suffix) = pattern.strip_prefix('*') else {
        return host.eq_ignore_ascii_case(pattern.as_bytes());
    };
    // Something has to stand before the dot.
    let start = host.len().checked_sub(suffix.len()).filter(|&start| start > 0);
    let end = start.and_then(|start| host.get(start..)).unwrap_or_default();
    end.eq_ignore_ascii_case(suffix.as_bytes())
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        Self::new(&text)
    }
}

impl JsonSchema for HostPattern {
    fn schema_name() -> Cow<'static, str> {
        "HostPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^((\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])$",
            "description": "A host in any case and without a port; *.example.com is all below example.com.",
        })
    }
}

/// The host that a request is for, which every server reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHost<'a>(&'a [u8]);

impl<'a> RequestHost<'a> {
    /// Reads what a request has in `:authority`.
    ///
    /// # Errors
    ///
    /// [`AmbiguousHost`] for what servers read in different ways.
    pub fn read(authority: &'a [u8]) -> Result<Self, AmbiguousHost> {
        if authority.is_empty() {
            return Err(AmbiguousHost::Missing);
        }
        let end_of_address = authority.iter().position(|&byte| byte == b']');
        let end = match (authority.first(), end_of_address) {
            (Some(b'['), Some(end)) => end.saturating_add(1),
            _ => authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at_checked(end).unwrap_or((authority, &[]));
        match port {
            [] => {}
            [b':', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {}
            _ => return Err(AmbiguousHost::Port),
        }
        if let [b'[', address @ .., b']'] = host {
            let is_part = |&byte: &u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
            return match address {
                [_, ..] if address.iter().all(is_part) => Ok(Self(host)),
                _ => Err(AmbiguousHost::Name),
            };
        }
        let host = host.strip_suffix(b".").unwrap_or(host);
        let is_part = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_label = |label: &[u8]| !label.is_empty() && label.iter().all(is_part);
        if host.split(|&byte| byte == b'.').all(is_label) {
            Ok(Self(host))
        } else {
            Err(AmbiguousHost::Name)
        }
    }

    /// The host as it came.
    pub(super) fn literal(authority: &'a [u8]) -> Self {
        Self(authority)
    }
}

/// Why a host may be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguousHost {
    /// There is none.
    Missing,
    /// Several lines have one.
    Repeated,
    /// What follows it is no port.
    Port,
    /// It is neither a name nor an address: a user stands before it, or a label is empty.
    Name,
}

impl fmt::Display for AmbiguousHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no host",
            Self::Repeated => "there are several hosts",
            Self::Port => "the host has something else than a port after it",
            Self::Name => "the host is neither a name nor an address",
        })
    }
}

impl Error for AmbiguousHost {}

/// A text that is no [`HostPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidHost {
    text: String,
    why: AmbiguousHost,
}

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.why {
            AmbiguousHost::Port => write!(f, "{text:?} has more than a host; leave the port out"),
            AmbiguousHost::Missing | AmbiguousHost::Repeated | AmbiguousHost::Name => {
                write!(
                    f,
                    "{text:?} is not a host; write one such as api.example.com or *.example.com"
                )
            }
        }
    }
}

impl Error for InvalidHost {}
