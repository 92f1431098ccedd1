//! From the text to a tree of fields with their places.

use std::fmt;

use super::Wrong;

/// How deep messages may stand in each other.
const MOST_DEPTH: usize = 64;

/// A field as often as it is written: once, or with a list in brackets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) at: usize,
    pub(super) values: Vec<Node>,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Message(Vec<Field>),
    /// What stands in quotes, without its escapes.
    Text(Vec<u8>),
    /// With its sign.
    Number(String),
    Word(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(_) => f.write_str("{ … }"),
            Self::Text(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Number(text) | Self::Word(text) => f.write_str(text),
        }
    }
}

/// Reads the fields of a message that is the whole text.
pub(super) fn message(text: &str) -> Result<Vec<Field>, Wrong> {
    let mut reader = Reader { text: text.as_bytes(), at: 0, depth: 0 };
    let fields = reader.fields(None)?;
    Ok(fields)
}

/// A whole number: decimal, octal after `0`, hexadecimal after `0x`.
pub(super) fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let lower = digits.to_ascii_lowercase();
    let number = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16),
        (None, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8),
        (None, _) => lower.parse(),
    };
    number.ok().map(|number| sign * i128::from(number))
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.at += 1,
                b'#' => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, Wrong> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let got = match String::from_utf8_lossy(rest).chars().next() {
            Some(found) if found.is_control() => format!("`{}`", found.escape_default()),
            Some(found) => format!("`{found}`"),
            None => "the end of the text".into(),
        };
        Err(Wrong::at(self.at, format!("expected {expected}, got {got}")))
    }

    /// Reads fields up to `end`, or to the end of the text.
    fn fields(&mut self, end: Option<u8>) -> Result<Vec<Field>, Wrong> {
        let mut fields = Vec::new();
        loop {
            self.skip();
            match (self.peek(), end) {
                (None, None) => return Ok(fields),
                (Some(byte), Some(end)) if byte == end => {
                    self.at += 1;
                    return Ok(fields);
                }
                (_, _) => fields.push(self.field(end)?),
            }
        }
    }

    fn field(&mut self, end: Option<u8>) -> Result<Field, Wrong> {
        let at = self.at;
        let name = self.word();
        if name.is_empty() {
            return match end {
                Some(b'>') => self.wrong("a field or `>`"),
                Some(_) => self.wrong("a field or `}`"),
                None => self.wrong("a field"),
            };
        }
        let has_colon = self.take(b':');
        self.skip();
        let values = match self.peek() {
            Some(b'[') => self.list()?,
            Some(b'{' | b'<') => vec![self.value()?],
            _ if has_colon => vec![self.value()?],
            _ => return self.wrong("`:` or `{`"),
        };
        if !self.take(b',') {
            self.take(b';');
        }
        Ok(Field { name, at, values })
    }

    fn list(&mut self) -> Result<Vec<Node>, Wrong> {
        self.at += 1;
        let mut values = Vec::new();
        if self.take(b']') {
            return Ok(values);
        }
        loop {
            self.skip();
            values.push(self.value()?);
            if self.take(b']') {
                return Ok(values);
            }
            if !self.take(b',') {
                return self.wrong("`,` or `]`");
            }
        }
    }

    fn value(&mut self) -> Result<Node, Wrong> {
        let at = self.at;
        let value = match self.peek() {
            Some(open @ (b'{' | b'<')) => {
                if self.depth == MOST_DEPTH {
                    let what = format!("more than {MOST_DEPTH} messages in each other");
                    return Err(Wrong::at(at, what));
                }
                self.at += 1;
                self.depth += 1;
                let fields = self.fields(Some(if open == b'{' { b'}' } else { b'>' }))?;
                self.depth -= 1;
                Value::Message(fields)
            }
            Some(b'"' | b'\'') => Value::Text(self.texts()?),
            Some(b'-' | b'0'..=b'9' | b'.') => self.number()?,
            Some(byte) if is_word(byte) => Value::Word(self.word()),
            _ => return self.wrong("a value"),
        };
        Ok(Node { at, value })
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(byte) = self.peek().filter(|&byte| is_word(byte)) {
            word.push(char::from(byte));
            self.at += 1;
        }
        word
    }

    fn number(&mut self) -> Result<Value, Wrong> {
        let mut text = String::new();
        if self.peek() == Some(b'-') {
            self.at += 1;
            self.skip();
            text.push('-');
        }
        let is_part = |byte: u8| is_word(byte) || byte == b'.';
        while let Some(byte) = self.peek().filter(|&byte| is_part(byte)) {
            text.push(char::from(byte));
            self.at += 1;
        }
        if text == "-" { self.wrong("a number") } else { Ok(Value::Number(text)) }
    }

    /// Reads pieces of text that stand one after another and are one.
    fn texts(&mut self) -> Result<Vec<u8>, Wrong> {
        let mut bytes = Vec::new();
        while let Some(quote @ (b'"' | b'\'')) = self.peek() {
            let start = self.at;
            self.at += 1;
            loop {
                match self.peek() {
                    Some(byte) if byte == quote => break,
                    None | Some(b'\n') => {
                        return Err(Wrong::at(start, "text without its closing quote"));
                    }
                    Some(b'\\') => self.escape(&mut bytes)?,
                    Some(byte) => {
                        bytes.push(byte);
                        self.at += 1;
                    }
                }
            }
            self.at += 1;
            self.skip();
        }
        Ok(bytes)
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        let start = self.at;
        let unknown = || {
            let what = "an escape that is not one of \\n \\r \\t \\a \\b \\f \\v \\\\ \\' \\\" \\? \\123 \\xff \\u00ff \\U000000ff";
            Wrong::at(start, what)
        };
        self.at += 1;
        let kind = self.peek().ok_or_else(unknown)?;
        self.at += 1;
        bytes.push(match kind {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'v' => 0x0b,
            b'\\' | b'\'' | b'"' | b'?' => kind,
            b'0'..=b'7' => {
                self.at -= 1;
                let number = self.digits(8, 1, 3).ok_or_else(unknown)?;
                u8::try_from(number).map_err(|_| unknown())?
            }
            b'x' | b'X' => {
                let number = self.digits(16, 1, 2).ok_or_else(unknown)?;
                u8::try_from(number).map_err(|_| unknown())?
            }
            b'u' | b'U' => {
                let length = if kind == b'u' { 4 } else { 8 };
                let number = self.digits(16, length, length).ok_or_else(unknown)?;
                let character = char::from_u32(number).ok_or_else(unknown)?;
                let mut buffer = [0; 4];
                bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                return Ok(());
            }
            _ => return Err(unknown()),
        });
        Ok(())
    }

    fn digits(&mut self, radix: u32, least: usize, most: usize) -> Option<u32> {
        let mut number = 0;
        let mut count = 0;
        while count < most {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(radix));
            let Some(digit) = digit else { break };
            number = number * radix + digit;
            count += 1;
            self.at += 1;
        }
        (count >= least).then_some(number)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
