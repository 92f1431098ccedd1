//! The sections of a module, taken apart and put together. What is in them is elsewhere.

use wasmparser::{CustomSectionReader, Parser, Payload};

/// A custom section: bytes that no engine looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Custom<'a> {
    pub(crate) name: &'a str,
    pub(crate) data: &'a [u8],
}

/// A module taken apart.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// The module without custom sections.
    pub(crate) core: Vec<u8>,
    /// The custom sections, in their order.
    pub(crate) customs: Vec<Custom<'a>>,
}

impl<'a> From<&CustomSectionReader<'a>> for Custom<'a> {
    fn from(section: &CustomSectionReader<'a>) -> Self {
        let (name, data) = (section.name(), section.data());
        Self { name, data }
    }
}

/// Takes a module apart.
pub(crate) fn split(bytes: &[u8]) -> Result<Parts<'_>, wasmparser::Error> {
    const HEADER_BYTES: usize = 8;
    let mut core = bytes.get(..HEADER_BYTES).unwrap_or(bytes).to_vec();
    let mut customs = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let Payload::CustomSection(section) = &payload {
            customs.push(Custom::from(section));
        } else if let Some((id, range)) = payload.as_section() {
            push(&mut core, id, &[bytes.get(range).unwrap_or_default()]);
        }
    }
    Ok(Parts { core, customs })
}

/// Adds a custom section at the end of a module.
pub(crate) fn append(module: &mut Vec<u8>, custom: Custom<'_>) {
    const CUSTOM: u8 = 0;
    let name = custom.name.as_bytes();
    let length = leb128(name.len());
    push(module, CUSTOM, &[&length, name, custom.data]);
}

/// The sum of all local variables that the functions of a module declare.
pub(crate) fn locals(bytes: &[u8]) -> Result<u64, wasmparser::Error> {
    let mut sum = 0_u64;
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload? {
            for group in body.get_locals_reader()? {
                let (count, _) = group?;
                sum = sum.saturating_add(u64::from(count));
            }
        }
    }
    Ok(sum)
}

fn push(module: &mut Vec<u8>, id: u8, content: &[&[u8]]) {
    let size = content.iter().map(|part| part.len()).sum();
    module.push(id);
    module.extend_from_slice(&leb128(size));
    for part in content {
        module.extend_from_slice(part);
    }
}

/// Unsigned LEB128, the shortest way.
fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5);
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low & 0x7f);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128_is_as_short_as_can_be() {
        assert_eq!(leb128(0), [0]);
        assert_eq!(leb128(127), [0x7f]);
        assert_eq!(leb128(128), [0x80, 0x01]);
        assert_eq!(leb128(624_485), [0xe5, 0x8e, 0x26]);
    }

    #[test]
    fn parts_make_the_module_again() {
        let text = r#"(module (@custom "a" "1") (memory 1) (func) (@custom "b" "2"))"#;
        let module = wat::parse_str(text).unwrap();
        let parts = split(&module).unwrap();
        assert_eq!(parts.core, wat::parse_str("(module (memory 1) (func))").unwrap());
        let names: Vec<&str> = parts.customs.iter().map(|custom| custom.name).collect();
        assert_eq!(names, ["a", "b"]);
        let mut whole = parts.core;
        for custom in parts.customs {
            append(&mut whole, custom);
        }
        assert_eq!(split(&whole).unwrap().customs.len(), 2);
        assert_eq!(whole.len(), module.len());
    }

    #[test]
    fn locals_are_counted_over_all_functions() {
        let module =
            wat::parse_str("(module (func (local i32 i64)) (func (param i32) (local f32)))");
        assert_eq!(locals(&module.unwrap()).unwrap(), 3);
    }
}
