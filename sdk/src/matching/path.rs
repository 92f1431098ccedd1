//! Paths: what a rule says of them, and which paths of requests can be compared at all.
//!
//! A path is compared segment by segment, percent-decoded, without its query and without one slash at
//! its end; letters keep their case. A path that two servers may read in two ways is not compared but
//! told as [`AmbiguousPath`]: nothing is merged, removed or decoded twice, since nobody here knows what
//! the upstream does.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Which paths a rule is for.
///
/// - `{ exact: /orders }`: this path.
/// - `{ prefix: /orders }`: this path and all below it, such as `/orders/7`, not `/orders7`.
/// - `{ suffix: /orders }`: this path and all that end with its segments, such as `/users/7/orders`.
/// - `{ template: "/users/{id}/orders" }`: any text, but not none, for each segment in braces.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct PathPattern {
    segments: Vec<Segment>,
    more: More,
}

/// Where a path may have more segments than its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Nowhere,
    Before,
    After,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    /// Any text, by this name.
    Captured(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Written {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Template(String),
}

impl PathPattern {
    /// The path `text` alone.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`] when no request that can be compared has this path.
    pub fn exact(text: &str) -> Result<Self, InvalidPath> {
        Ok(Self { segments: texts(text)?, more: More::Nowhere })
    }

    /// The path `text` and all below it; `/` is every path.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`] when no request that can be compared has this path.
    pub fn prefix(text: &str) -> Result<Self, InvalidPath> {
        Ok(Self { segments: texts(text)?, more: More::After })
    }

    /// The path `text` and all that end with its segments; `/` is every path.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`] when no request that can be compared has this path.
    pub fn suffix(text: &str) -> Result<Self, InvalidPath> {
        Ok(Self { segments: texts(text)?, more: More::Before })
    }

    /// Paths like `text`, in which segments such as `{id}` stand for any text.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`] when no request that can be compared has such a path, or when the braces are
    /// missing, name nothing, or name two segments alike.
    pub fn template(text: &str) -> Result<Self, InvalidPath> {
        let mut segments: Vec<Segment> = Vec::new();
        for part in parts(text)? {
            let segment = match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if is_name(name) => Segment::Captured(name.to_owned()),
                None if !part.contains(['{', '}']) => Segment::Text(part.to_owned()),
                Some(_) | None => {
                    return Err(InvalidPath::Braces { segment: part.to_owned() });
                }
            };
            if matches!(segment, Segment::Captured(_)) && segments.contains(&segment) {
                return Err(InvalidPath::Repeated { segment: part.to_owned() });
            }
            segments.push(segment);
        }
        if !segments.iter().any(|segment| matches!(segment, Segment::Captured(_))) {
            return Err(InvalidPath::NoBraces { path: text.to_owned() });
        }
        Ok(Self { segments, more: More::Nowhere })
    }

    /// The JSON Schema of what [`Self::template`] takes.
    pub fn template_schema() -> Schema {
        json_schema!({ "type": "string", "pattern": template_pattern() })
    }

    /// Whether the path is one of these.
    pub fn matches(&self, path: RequestPath<'_>) -> bool {
        let before = match self.more {
            More::Before => path.segments().count().saturating_sub(self.segments.len()),
            More::Nowhere | More::After => 0,
        };
        let mut found = path.segments().skip(before);
        self.segments.iter().all(|segment| match (segment, found.next()) {
            (Segment::Text(text), Some(found)) => path.reads(found, text),
            (Segment::Captured(_), Some(found)) => !found.is_empty(),
            (_, None) => false,
        }) && (self.more == More::After || found.next().is_none())
    }

    /// What a path has at the segment `{name}`, as it came: percent-encoded. `None` when the path does
    /// not match, or when no segment has the name.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollgate::matching::{PathPattern, RequestPath};
    ///
    /// let orders = PathPattern::template("/users/{id}/orders")?;
    /// let path = RequestPath::read(b"/users/7%20b/orders?all")?;
    /// assert_eq!(orders.capture(path, "id"), Some(&b"7%20b"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn capture<'a>(&self, path: RequestPath<'a>, name: &str) -> Option<&'a [u8]> {
        if !self.matches(path) {
            return None;
        }
        let is_named = |segment: &Segment| matches!(segment, Segment::Captured(n) if n == name);
        path.segments().nth(self.segments.iter().position(is_named)?)
    }

    /// The names of the segments in braces, in order.
    pub fn captured(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|own| match own {
            Segment::Captured(name) => Some(name.as_str()),
            Segment::Text(_) => None,
        })
    }

    /// What a path has at each segment in braces, in order, percent-decoded. `None` when the path does
    /// not match.
    pub fn captures<'a>(
        &'a self,
        path: RequestPath<'a>,
    ) -> Option<impl Iterator<Item = Vec<u8>> + 'a> {
        let segments = self.segments.iter().zip(path.segments());
        let captured = segments.filter(|(own, _)| matches!(own, Segment::Captured(_)));
        let decoded = |segment| Decoded::of(segment).map(|(byte, _)| byte).collect();
        self.matches(path).then(|| captured.map(move |(_, segment)| decoded(segment)))
    }
}

impl TryFrom<Written> for PathPattern {
    type Error = InvalidPath;

    fn try_from(written: Written) -> Result<Self, InvalidPath> {
        match written {
            Written::Exact(text) => Self::exact(&text),
            Written::Prefix(text) => Self::prefix(&text),
            Written::Suffix(text) => Self::suffix(&text),
            Written::Template(text) => Self::template(&text),
        }
    }
}

/// A segment of text in a JSON Schema: no dot segment, nothing of which `parts` would say that it is
/// unclear.
const TEXT: &str = r"(?!\.{1,2}(/|$))[^/%?#;\\{}\x00-\x1f\x7f]+";

fn template_pattern() -> String {
    format!(r"^(?=.*\{{)(/(\{{[a-z][a-z0-9_]{{0,31}}\}}|{TEXT}))+$")
}

impl JsonSchema for PathPattern {
    fn schema_name() -> Cow<'static, str> {
        "PathPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let path = format!("^(/|(/{TEXT})+)$");
        let template = template_pattern();
        let form = |name: &str, pattern: &str, description: &str| {
            json_schema!({
                "type": "object",
                "properties": {
                    name: { "type": "string", "pattern": pattern, "description": description },
                },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "oneOf": [
                form("exact", &path, "This path alone."),
                form("prefix", &path, "This path and all below it."),
                form("suffix", &path, "This path and all that end with it."),
                form("template", &template, "Paths like this; {name} is any one segment."),
            ]
        })
    }
}

fn texts(text: &str) -> Result<Vec<Segment>, InvalidPath> {
    parts(text)?
        .map(|part| match part {
            _ if part.contains(['{', '}']) => {
                Err(InvalidPath::Template { segment: part.to_owned() })
            }
            _ => Ok(Segment::Text(part.to_owned())),
        })
        .collect()
}

/// The segments of a rule's path: none for `/`.
fn parts(text: &str) -> Result<impl Iterator<Item = &str>, InvalidPath> {
    let path = || text.to_owned();
    if text.contains('?') {
        return Err(InvalidPath::Query { path: path() });
    }
    if text.contains('%') {
        return Err(InvalidPath::Encoded { path: path() });
    }
    if text.len() > 1 && text.ends_with('/') {
        return Err(InvalidPath::SlashAtEnd { path: path() });
    }
    // A rule is written decoded: its spaces come as %20.
    RequestPath::read(text.replace(' ', "_").as_bytes())
        .map_err(|why| InvalidPath::Ambiguous { path: path(), why })?;
    let below = text.strip_prefix('/').unwrap_or(text);
    Ok(below.split('/').filter(|part| !part.is_empty()))
}

/// Whether this names a segment: 1 to 32 of `a-z`, `0-9` and `_`, a letter first.
fn is_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The path of a request, which every server reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPath<'a> {
    /// Without query, and without the slash at its beginning and one at its end.
    inner: &'a [u8],
    is_encoded: bool,
}

impl<'a> RequestPath<'a> {
    /// Reads what a request has in `:path`.
    ///
    /// # Errors
    ///
    /// [`AmbiguousPath`] for what servers read in different ways.
    pub fn read(path: &'a [u8]) -> Result<Self, AmbiguousPath> {
        let path = Self::literal(path).ok_or(AmbiguousPath::NoSlash)?;
        for segment in path.segments() {
            if matches!(segment, b"." | b"..") {
                return Err(AmbiguousPath::Dots);
            }
            if segment.is_empty() {
                return Err(AmbiguousPath::Slashes);
            }
            check(segment)?;
        }
        Ok(Self { is_encoded: true, ..path })
    }

    /// The path as it came: nothing is decoded. `None` when it does not begin with a slash.
    pub(super) fn literal(path: &'a [u8]) -> Option<Self> {
        let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
        let inner = path.strip_prefix(b"/")?;
        // Of `//` neither slash is the one at the end.
        let is_slash = inner == b"/";
        let inner = inner.strip_suffix(b"/").filter(|_| !is_slash).unwrap_or(inner);
        Some(Self { inner, is_encoded: false })
    }

    /// The path as all servers read it: percent-decoded, and without a slash at its end.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollgate::matching::RequestPath;
    ///
    /// assert_eq!(RequestPath::read(b"/us%65rs/7/?all")?.decoded(), b"/users/7");
    /// assert_eq!(RequestPath::read(b"/")?.decoded(), b"/");
    /// # Ok::<(), tollgate::matching::AmbiguousPath>(())
    /// ```
    pub fn decoded(self) -> Vec<u8> {
        let mut path = vec![b'/'];
        if self.is_encoded {
            path.extend(Decoded::of(self.inner).map(|(byte, _)| byte));
        } else {
            path.extend(self.inner);
        }
        path
    }

    fn segments(self) -> impl Iterator<Item = &'a [u8]> {
        // Splitting nothing gives one empty segment.
        let at_most = if self.inner.is_empty() { 0 } else { usize::MAX };
        self.inner.split(|&byte| byte == b'/').take(at_most)
    }

    fn reads(self, segment: &[u8], text: &str) -> bool {
        if self.is_encoded {
            Decoded::of(segment).map(|(byte, _)| byte).eq(text.bytes())
        } else {
            segment == text.as_bytes()
        }
    }
}

/// The bytes of a text, percent-decoded once, and whether they were encoded. What is no encoding
/// stays as it is.
pub(crate) struct Decoded<'a>(&'a [u8]);

impl<'a> Decoded<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Self {
        Self(text)
    }
}

impl Iterator for Decoded<'_> {
    type Item = (u8, bool);

    fn next(&mut self) -> Option<(u8, bool)> {
        let (&first, rest) = self.0.split_first()?;
        let (byte, rest) = match (first, rest) {
            (b'%', [high, low, rest @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => ((high << 4 | low, true), rest),
                _ => ((first, false), rest_of(self.0)),
            },
            _ => ((first, false), rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

fn rest_of(bytes: &[u8]) -> &[u8] {
    bytes.split_first().map_or(&[], |(_, rest)| rest)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether all servers read this segment alike.
fn check(segment: &[u8]) -> Result<(), AmbiguousPath> {
    let mut before = 0;
    let mut decoded = Decoded::of(segment);
    while let Some((byte, was_encoded)) = decoded.next() {
        match (byte, was_encoded) {
            (0..b' ' | 0x7f, _) | (b' ', false) => return Err(AmbiguousPath::Control),
            (b'/' | b'.' | b'?' | b'#', true) => return Err(AmbiguousPath::Encoded),
            (b'\\', _) => return Err(AmbiguousPath::Backslash),
            (b';', _) => return Err(AmbiguousPath::Parameters),
            (b'#', false) => return Err(AmbiguousPath::Fragment),
            (b'%', false) => return Err(AmbiguousPath::Percent),
            (b'%', true) => {
                // The digits may be encoded themselves.
                let mut after = Decoded::of(decoded.0);
                let mut is_digit = || after.next().is_some_and(|(byte, _)| digit(byte).is_some());
                if is_digit() && is_digit() {
                    return Err(AmbiguousPath::EncodedTwice);
                }
            }
            _ if is_overlong(before, byte) => return Err(AmbiguousPath::Overlong),
            _ => {}
        }
        before = byte;
    }
    Ok(())
}

/// Whether a lenient decoder of UTF-8 would read these bytes as a character that has a shorter form, as
/// `%c0%af` for a slash.
fn is_overlong(before: u8, byte: u8) -> bool {
    matches!((before, byte), (_, 0xc0 | 0xc1 | 0xf5..) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f))
}

/// Why a path may be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// It is missing, or does not begin with a slash.
    NoSlash,
    /// Two slashes follow each other.
    Slashes,
    /// A segment is `.` or `..`.
    Dots,
    /// A slash, a dot, `?` or `#` is percent-encoded.
    Encoded,
    /// A percent sign is itself encoded, before what would be an encoding.
    EncodedTwice,
    /// A percent sign is not followed by two hexadecimal digits.
    Percent,
    /// A backslash, encoded or not.
    Backslash,
    /// A semicolon, encoded or not: some servers drop what follows it.
    Parameters,
    /// A fragment.
    Fragment,
    /// A control character, encoded or not, or a space.
    Control,
    /// A character is encoded in more bytes than it needs.
    Overlong,
}

impl fmt::Display for AmbiguousPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "the path does not begin with a slash",
            Self::Slashes => "the path has an empty segment",
            Self::Dots => "the path has a dot segment",
            Self::Encoded => "the path has an encoded slash, dot, ? or #",
            Self::EncodedTwice => "the path is encoded twice",
            Self::Percent => "the path has a percent sign that encodes nothing",
            Self::Backslash => "the path has a backslash",
            Self::Parameters => "the path has a semicolon",
            Self::Fragment => "the path has a fragment",
            Self::Control => "the path has a control character or a space",
            Self::Overlong => "the path has a character that is not UTF-8",
        })
    }
}

impl Error for AmbiguousPath {}

/// Why a text is no [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPath {
    /// It has a query, which is never compared.
    Query {
        /// The text.
        path: String,
    },
    /// It has a percent sign: paths are compared decoded.
    Encoded {
        /// The text.
        path: String,
    },
    /// It ends with a slash.
    SlashAtEnd {
        /// The text.
        path: String,
    },
    /// A request with this path would never be compared.
    Ambiguous {
        /// The text.
        path: String,
        /// Why not.
        why: AmbiguousPath,
    },
    /// It has a brace and is no template.
    Template {
        /// The segment with the brace.
        segment: String,
    },
    /// It is a template without a segment in braces.
    NoBraces {
        /// The text.
        path: String,
    },
    /// Braces enclose something else than the name of a segment.
    Braces {
        /// The segment.
        segment: String,
    },
    /// Two segments have one name.
    Repeated {
        /// The later segment.
        segment: String,
    },
}

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query { path } => write!(f, "{path:?} has a query; leave it out"),
            Self::Encoded { path } => write!(f, "{path:?} has a %; write the decoded character"),
            Self::SlashAtEnd { path } => {
                write!(f, "{path:?} ends with a slash, which is not compared; leave it out")
            }
            Self::Ambiguous { path, why } => write!(f, "{path:?} matches no request: {why}"),
            Self::Template { segment } => write!(f, "{segment:?} has a brace; write `template`"),
            Self::NoBraces { path } => {
                write!(f, "{path:?} names no segment such as {{id}}; write `exact`")
            }
            Self::Braces { segment } => {
                write!(f, "{segment:?} is not {{name}}: 1 to 32 of a-z, 0-9 and _, a letter first")
            }
            Self::Repeated { segment } => write!(f, "{segment:?} stands twice; name one anew"),
        }
    }
}

impl Error for InvalidPath {}
