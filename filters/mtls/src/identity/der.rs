//! DER, as far as certificates need it: elements of definite, minimal length, read once from left to right.
//!
//! Source: ITU-T X.690, sections 8.1 and 10.1.

/// A tag of one byte, as all of a certificate are.
pub(super) type Tag = u8;

pub(super) const BOOLEAN: Tag = 0x01;
pub(super) const INTEGER: Tag = 0x02;
pub(super) const BIT_STRING: Tag = 0x03;
pub(super) const OCTET_STRING: Tag = 0x04;
pub(super) const OBJECT_IDENTIFIER: Tag = 0x06;
pub(super) const UTC_TIME: Tag = 0x17;
pub(super) const GENERALIZED_TIME: Tag = 0x18;
pub(super) const SEQUENCE: Tag = 0x30;

/// Bytes that are no DER, or not what stands at this place of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidDer;

/// Elements that follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The tag of the next element, if there is one.
    pub(super) fn peek(&self) -> Option<Tag> {
        self.0.first().copied()
    }

    /// The next element: its tag and its content.
    pub(super) fn any(&mut self) -> Result<(Tag, &'a [u8]), InvalidDer> {
        let (&tag, rest) = self.0.split_first().ok_or(InvalidDer)?;
        // The tag of several bytes, which nothing here has.
        if tag & 0x1f == 0x1f {
            return Err(InvalidDer);
        }
        let (&first, rest) = rest.split_first().ok_or(InvalidDer)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) =
                    rest.split_at_checked(usize::from(first & 0x0f)).ok_or(InvalidDer)?;
                let length = digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit));
                let is_minimal = digits.first().is_some_and(|&digit| digit != 0) && length >= 0x80;
                if is_minimal { (length, rest) } else { return Err(InvalidDer) }
            }
            _ => return Err(InvalidDer),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(InvalidDer)?;
        self.0 = rest;
        Ok((tag, content))
    }

    /// The content of the next element, which has this tag.
    pub(super) fn next(&mut self, tag: Tag) -> Result<&'a [u8], InvalidDer> {
        self.any()
            .and_then(|(found, content)| if found == tag { Ok(content) } else { Err(InvalidDer) })
    }

    /// The content of the next element, if that has this tag.
    pub(super) fn optional(&mut self, tag: Tag) -> Result<Option<&'a [u8]>, InvalidDer> {
        if self.peek() == Some(tag) { self.next(tag).map(Some) } else { Ok(None) }
    }

    /// The elements within the next one, which has this tag.
    pub(super) fn within(&mut self, tag: Tag) -> Result<Self, InvalidDer> {
        self.next(tag).map(Self)
    }

    /// That there are no more.
    pub(super) fn end(self) -> Result<(), InvalidDer> {
        if self.0.is_empty() { Ok(()) } else { Err(InvalidDer) }
    }
}

/// A truth: one byte, all bits or none.
pub(super) fn boolean(content: &[u8]) -> Result<bool, InvalidDer> {
    match content {
        [0] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(InvalidDer),
    }
}
