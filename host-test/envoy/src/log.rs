//! What Envoy writes: its own lines, and those of the guests in them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use tollgate_abi::LogLevel;
use tollgate_host::proxy::LogLine;

/// The format of a line, for `--log-format`. With `--log-format-escaped` a message is one line.
pub(crate) const FORMAT: &str = "envoy|%l|%n|%v";

/// How many of Envoy's own lines are kept for a report.
const KEPT: usize = 50;

/// The log of a running Envoy, read as it grows.
pub(crate) struct Log {
    file: File,
    /// What is read of a line that is not whole yet.
    rest: Vec<u8>,
    /// What stands before a guest's text, the longest first.
    prefixes: Vec<Vec<u8>>,
    guests: Vec<LogLine>,
    /// What tells why it did not start: lines of the guests, and what the Wasm host found wrong.
    words: Vec<String>,
    own: VecDeque<String>,
}

impl Log {
    /// Opens the log of an Envoy that runs filters which are configured so.
    pub(crate) fn open(file: &Path, filters: &[Value]) -> io::Result<Self> {
        Ok(Self {
            file: File::open(file)?,
            rest: Vec::new(),
            prefixes: prefixes(filters),
            guests: Vec::new(),
            words: Vec::new(),
            own: VecDeque::new(),
        })
    }

    /// Reads what has come since.
    pub(crate) fn read_on(&mut self) -> io::Result<()> {
        self.file.read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let tail = self.rest.split_off(whole);
        let lines = std::mem::replace(&mut self.rest, tail);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            self.take(line.strip_suffix(b"\n").unwrap_or(line));
        }
        Ok(())
    }

    /// The lines of the guests since the start.
    pub(crate) fn guests(&self) -> &[LogLine] {
        &self.guests
    }

    /// What a refused guest and the Wasm host said, one per line; nothing when no guest was refused.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refused =
            |line: &String| line.starts_with("Plugin ") && line.contains("failed to load");
        let at = self.words.iter().position(refused)?;
        Some(self.words.get(..=at)?.join("\n"))
    }

    /// How many words tell of refusals so far.
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }

    /// What guests and the Wasm host said since there were so many words.
    pub(crate) fn words_since(&self, words: usize) -> String {
        self.words.get(words..).unwrap_or_default().join("\n")
    }

    /// The last lines of Envoy itself.
    pub(crate) fn last_lines(&self) -> String {
        self.own.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn take(&mut self, line: &[u8]) {
        let Some(record) = Record::parse(line) else {
            return self.keep(String::from_utf8_lossy(line).into_owned());
        };
        let is_wasm = record.component == b"wasm";
        let guest = self.prefixes.iter().find_map(|prefix| record.message.strip_prefix(&**prefix));
        if let Some(text) = guest.filter(|_| is_wasm) {
            self.words.push(String::from_utf8_lossy(text).into_owned());
            return self.guests.push(LogLine { level: record.level, message: text.to_vec() });
        }
        let is_bad = matches!(record.level, LogLevel::Warn | LogLevel::Error | LogLevel::Critical);
        if is_bad {
            let text = String::from_utf8_lossy(&record.message).into_owned();
            if is_wasm {
                self.words.push(text.clone());
            }
            self.keep(text);
        }
    }

    fn keep(&mut self, line: String) {
        if self.own.len() == KEPT {
            self.own.pop_front();
        }
        self.own.push_back(line);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Record {
    level: LogLevel,
    component: Vec<u8>,
    message: Vec<u8>,
}

impl Record {
    fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"envoy|")?;
        let mut parts = rest.splitn(3, |&byte| byte == b'|');
        let level = match parts.next()? {
            b"trace" => LogLevel::Trace,
            b"debug" => LogLevel::Debug,
            b"info" => LogLevel::Info,
            b"warning" => LogLevel::Warn,
            b"error" => LogLevel::Error,
            b"critical" => LogLevel::Critical,
            _ => return None,
        };
        let component = parts.next()?.to_vec();
        Some(Self { level, component, message: unescape(parts.next()?) })
    }
}

/// What Envoy puts before a guest's text. A root context goes without the plugin's name, and an empty
/// part goes with its blank.
fn prefixes(filters: &[Value]) -> Vec<Vec<u8>> {
    let label = |parts: &[&str]| {
        let parts = parts.iter().filter(|part| !part.is_empty());
        let parts: String = parts.flat_map(|part| [" ", part]).collect();
        format!("wasm log{parts}: ").into_bytes()
    };
    let both = |filter: &Value| {
        let text = |path| filter.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (root_id, vm_id) = (text("/config/root_id"), text("/config/vm_config/vm_id"));
        [label(&[text("/config/name"), root_id, vm_id]), label(&[root_id, vm_id])]
    };
    let mut prefixes: Vec<Vec<u8>> = filters.iter().flat_map(both).collect();
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
    prefixes
}

/// Undoes the escapes of C, which is what Envoy writes.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    loop {
        let (byte, rest) = match text {
            [] => return bytes,
            [b'\\', rest @ ..] => escaped(rest),
            [byte, rest @ ..] => (*byte, rest),
        };
        bytes.push(byte);
        text = rest;
    }
}

/// The byte that stands behind a backslash, and what follows.
fn escaped(text: &[u8]) -> (u8, &[u8]) {
    let octal = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok();
    if let Some((digits, rest)) = text.split_first_chunk::<3>()
        && let Some(byte) = octal(digits)
    {
        return (byte, rest);
    }
    match text {
        [b'n', rest @ ..] => (b'\n', rest),
        [b'r', rest @ ..] => (b'\r', rest),
        [b't', rest @ ..] => (b'\t', rest),
        [literal, rest @ ..] => (*literal, rest),
        [] => (b'\\', text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    #[test]
    fn escapes_are_undone() {
        let check = |escaped: &str, expected: &[u8]| {
            assert_eq!(unescape(escaped.as_bytes()), expected, "{escaped}");
        };
        // As Envoy 1.40 wrote them.
        check(r"a\377b\nc\000\rd", b"a\xffb\nc\0\rd");
        check(
            r#"\303\251\"quote\"\'back\\slash\ttab|pipe"#,
            "é\"quote\"'back\\slash\ttab|pipe".as_bytes(),
        );
        check("", b"");
        check(r"\\377", br"\377");
        // As it does not.
        check(r"\", b"\\");
        check(r"\8", b"8");
    }

    /// Reads lines of an Envoy with a plugin `limit` without a root id and one `tag` with root id `r r`.
    fn read(lines: &[u8]) -> Log {
        let filters = [
            json!({ "config": { "name": "limit" } }),
            json!({ "config": { "name": "tag", "root_id": "r r" } }),
        ];
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines).unwrap();
        let mut log = Log::open(file.path(), &filters).unwrap();
        log.read_on().unwrap();
        log
    }

    fn check(line: &str, expected: Option<(LogLevel, &str)>) {
        let log = read(format!("{line}\n").as_bytes());
        let guests: Vec<(LogLevel, &[u8])> =
            log.guests().iter().map(|line| (line.level, line.message.as_slice())).collect();
        let expected: Vec<(LogLevel, &[u8])> =
            expected.into_iter().map(|(level, text)| (level, text.as_bytes())).collect();
        assert_eq!(guests, expected, "{line}");
    }

    #[test]
    fn a_guests_line_loses_what_envoy_puts_before_it() {
        check("envoy|info|wasm|wasm log limit: hello", Some((LogLevel::Info, "hello")));
        check("envoy|warning|wasm|wasm log: of the root", Some((LogLevel::Warn, "of the root")));
        check("envoy|error|wasm|wasm log tag r r: a: b|c", Some((LogLevel::Error, "a: b|c")));
        check("envoy|critical|wasm|wasm log r r: ", Some((LogLevel::Critical, "")));
        check(
            r"envoy|trace|wasm|wasm log limit: two\nlines",
            Some((LogLevel::Trace, "two\nlines")),
        );
    }

    #[test]
    fn lines_of_envoy_are_not_a_guests() {
        check("envoy|trace|wasm|[vm->host] env.proxy_log(2, 1, 0)", None);
        check("envoy|info|main|wasm log limit: not from the Wasm host", None);
        check("envoy|info|wasm|wasm log stranger: hello", None);
        check("Segmentation fault", None);
    }

    #[test]
    fn a_line_counts_once_it_is_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let filters = [json!({ "config": { "name": "limit" } })];
        let mut log = Log::open(file.path(), &filters).unwrap();
        file.write_all(b"envoy|info|wasm|wasm log limit: he").unwrap();
        log.read_on().unwrap();
        assert_eq!(log.guests().len(), 0);
        file.write_all(b"llo\n").unwrap();
        log.read_on().unwrap();
        assert_eq!(log.guests()[0].message, b"hello");
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_guest_and_host() {
        let log = read(
            b"envoy|info|main|starting\n\
              envoy|error|wasm|wasm log: invalid configuration: rules: an empty list\n\
              envoy|error|wasm|Wasm VM failed Failed to configure base Wasm plugin\n\
              envoy|critical|wasm|Plugin limit failed to load\n\
              envoy|critical|wasm|Plugin configured to fail closed failed to load\n\
              envoy|critical|main|error `Unable to create Wasm plugin limit`\n\
              Unable to create Wasm plugin limit\n",
        );
        assert_eq!(
            log.refusal().unwrap(),
            "invalid configuration: rules: an empty list\n\
             Wasm VM failed Failed to configure base Wasm plugin\n\
             Plugin limit failed to load"
        );
        assert!(log.last_lines().ends_with("\nUnable to create Wasm plugin limit"));
        assert_eq!(read(b"envoy|critical|main|cannot bind\n").refusal(), None);
    }
}
