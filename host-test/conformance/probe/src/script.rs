//! The language: one line is `callbacks act words…`.
//!
//! The callbacks are names without `proxy_`, separated by commas; `*` is every callback of a stream or of a
//! connection from `on_request_headers` or `on_new_connection` to `on_delete`. An act is `return N`, `trap`, or a host function without
//! `proxy_` with its arguments in the order of the ABI: a pointer and its length are one word.
//!
//! In a word `\0`, `\n`, `\r`, `\\` and `\xff` are the bytes that they are in Rust, and `""` is the
//! empty word. `-1` is the largest number. Header pairs are `name=value,name=value`; a word without a
//! `=` in their place is passed as the bytes that it is. A line that begins with `#` says nothing.

use tollgate_abi::{CallbackKind, pairs};

use crate::host::{self, HostCall};

/// What the callbacks of a connection and of a stream are, in the order of its life.
const OF_A_STREAM: [&str; 14] = [
    "on_new_connection",
    "on_downstream_data",
    "on_upstream_data",
    "on_downstream_connection_close",
    "on_upstream_connection_close",
    "on_request_headers",
    "on_request_body",
    "on_request_trailers",
    "on_response_headers",
    "on_response_body",
    "on_response_trailers",
    "on_log",
    "on_done",
    "on_delete",
];

/// A whole configuration, read.
#[derive(Debug)]
pub(crate) struct Script(Vec<Line>);

/// One line of it.
#[derive(Debug)]
pub(crate) struct Line {
    callbacks: Vec<String>,
    /// What it does, as written, without the callbacks.
    pub(crate) text: String,
    /// What it does.
    pub(crate) act: Act,
}

/// What a line does.
#[derive(Debug)]
pub(crate) enum Act {
    /// Has the callback return this word.
    Return(u32),
    /// Ends the callback by an instruction that traps.
    Trap,
    /// Calls a host function with these arguments.
    Call(HostCall, Vec<Word>),
}

/// An argument as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Word(String);

impl Script {
    /// Reads a script; the error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        lines.map(Line::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The lines that a callback runs, in order.
    pub(crate) fn lines_for(&self, callback: &str) -> impl Iterator<Item = &Line> {
        self.0.iter().filter(move |line| line.callbacks.iter().any(|name| name == callback))
    }
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let (callbacks, text) =
            line.trim().split_once(' ').ok_or_else(|| format!("`{line}` does nothing"))?;
        let mut words = text.split_whitespace();
        let act = match words.next().unwrap_or_default() {
            "return" => Act::Return(Word::new(words.next().unwrap_or_default()).number()),
            "trap" => Act::Trap,
            name => {
                let call = host::find(name)
                    .ok_or_else(|| format!("`{name}` is not a host function of the ABI"))?;
                Act::Call(call, words.map(Word::new).collect())
            }
        };
        Ok(Self { callbacks: named(callbacks)?, text: text.to_owned(), act })
    }
}

impl Word {
    fn new(text: &str) -> Self {
        Self(if text == "\"\"" { String::new() } else { text.to_owned() })
    }

    /// The number; what is none is 0.
    pub(crate) fn number(&self) -> u32 {
        self.0.parse().or_else(|_| self.0.parse().map(i32::cast_unsigned)).unwrap_or_default()
    }

    /// The number in 64 bits; what is none is 0.
    pub(crate) fn wide(&self) -> i64 {
        self.0.parse().unwrap_or_default()
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        unescape(&self.0)
    }

    /// Header pairs, serialised.
    pub(crate) fn serialized(&self) -> Vec<u8> {
        if !self.0.contains('=') {
            return self.bytes();
        }
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name), unescape(value))
        };
        let lines: Vec<(Vec<u8>, Vec<u8>)> = self.0.split(',').map(pair).collect();
        pairs::encode(&lines).unwrap_or_default()
    }
}

fn named(callbacks: &str) -> Result<Vec<String>, String> {
    if callbacks == "*" {
        return Ok(OF_A_STREAM.map(str::to_owned).to_vec());
    }
    let is_known = |name: &str| CallbackKind::from_name(&format!("proxy_{name}")).is_some();
    match callbacks.split(',').find(|name| !is_known(name)) {
        Some(unknown) => Err(format!("`{unknown}` is not a callback")),
        None => Ok(callbacks.split(',').map(str::to_owned).collect()),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'0') => bytes.push(0),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit().unwrap_or_default(), digit().unwrap_or_default());
                bytes.extend(u8::try_from(high * 16 + low));
            }
            other => bytes.extend(other),
        }
    }
    bytes
}
