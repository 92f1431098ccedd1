//! Why bytes are not a module, and what they are instead. Modules that a host refuses are elsewhere.

use core::fmt;

use crate::printable::Printable;

/// Bytes that are not a WebAssembly module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidModule {
    /// There are no bytes.
    Empty,
    /// The bytes are something else.
    NotWasm {
        /// What they look like.
        guise: Guise,
    },
    /// The bytes are a component, which wraps modules and which no Proxy-Wasm host loads.
    Component,
    /// The bytes start as a module does and then break the rules.
    Malformed {
        /// Where, in bytes from the start.
        offset: usize,
        /// Which rule.
        reason: String,
    },
}

/// What bytes that are not WebAssembly look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guise {
    /// The text format of WebAssembly.
    Wat,
    /// Other text: YAML, an error page, a Git LFS pointer.
    Text {
        /// How it starts.
        start: String,
    },
    /// Compressed by gzip, as a layer of an OCI image is.
    Gzip,
    /// Compressed by zstd.
    Zstd,
    /// A zip archive.
    Zip,
    /// A tar archive, as an unpacked layer of an OCI image is.
    Tar,
    /// A native library or program.
    Elf,
    /// None of these.
    Unknown {
        /// How it starts, at most four bytes.
        start: Vec<u8>,
    },
}

const MAGIC: &[u8] = b"\0asm";
/// Version 1, layer 0: what the validator takes. Components have a version of their own and layer 1.
const COMPONENT_LAYER: &[u8] = &[1, 0];

impl InvalidModule {
    /// What is wrong with the first bytes, if they cannot start a module.
    pub(crate) fn from_start(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::Empty);
        }
        if !bytes.starts_with(MAGIC) {
            let guise = Guise::of(bytes);
            return Some(Self::NotWasm { guise });
        }
        (bytes.get(6..8) == Some(COMPONENT_LAYER)).then_some(Self::Component)
    }
}

impl From<wasmparser::Error> for InvalidModule {
    fn from(error: wasmparser::Error) -> Self {
        Self::Malformed {
            offset: error.offset(),
            // The validator aligns some of its numbers.
            reason: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

impl Guise {
    /// Judges the first bytes.
    fn of(bytes: &[u8]) -> Self {
        const MAGICS: [(&[u8], Guise); 4] = [
            (b"\x1f\x8b", Guise::Gzip),
            (b"\x28\xb5\x2f\xfd", Guise::Zstd),
            (b"PK\x03\x04", Guise::Zip),
            (b"\x7fELF", Guise::Elf),
        ];
        if let Some((_, guise)) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return guise.clone();
        }
        if bytes.get(257..262) == Some(b"ustar") {
            return Self::Tar;
        }
        match text(bytes) {
            Some(text) if text.trim_start().starts_with("(module") => Self::Wat,
            Some(text) => Self::Text {
                start: text
                    .trim_start()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(32)
                    .collect(),
            },
            None => Self::Unknown { start: bytes.iter().copied().take(4).collect() },
        }
    }
}

/// The start of the bytes as text, if text it is.
fn text(bytes: &[u8]) -> Option<&str> {
    let start = bytes.get(..256).unwrap_or(bytes);
    let valid = match core::str::from_utf8(start) {
        Ok(text) => text,
        // The cut may have halved the last character.
        Err(error) if error.valid_up_to() + 4 > start.len() && bytes.len() > start.len() => {
            core::str::from_utf8(start.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || c.is_ascii_whitespace();
    valid.chars().all(is_text).then_some(valid)
}

impl fmt::Display for InvalidModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("not a WebAssembly module but an empty file; build it again"),
            Self::NotWasm { guise } => write!(f, "not a WebAssembly module but {guise}"),
            Self::Component => f.write_str(
                "not a WebAssembly module but a component; build for wasm32-wasip1 instead of wasm32-wasip2",
            ),
            Self::Malformed { offset, reason } => write!(
                f,
                "not a valid WebAssembly module: {} at byte {offset}; build or fetch it again",
                Printable(reason)
            ),
        }
    }
}

impl fmt::Display for Guise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wat => f.write_str("its text format; assemble it with wat2wasm"),
            Self::Text { start } => {
                write!(f, "text that starts with \"{}\"; give the .wasm file", Printable(start))
            }
            Self::Gzip => f.write_str("gzip data; unpack it first"),
            Self::Zstd => f.write_str("zstd data; unpack it first"),
            Self::Zip => f.write_str("a zip archive; unpack it first"),
            Self::Tar => f.write_str("a tar archive; unpack it first"),
            Self::Elf => f.write_str("native code; build for wasm32-wasip1"),
            Self::Unknown { start } => {
                f.write_str("bytes that start with")?;
                for byte in start {
                    write!(f, " {byte:02x}")?;
                }
                f.write_str("; give the .wasm file")
            }
        }
    }
}

impl core::error::Error for InvalidModule {}
