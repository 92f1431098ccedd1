//! Text of a bounded length, whatever a guest makes long: what is cut off is never made.

use std::fmt::{self, Write};

/// As much of a value's text as one line of a report shows.
const MOST_BYTES: usize = 300;

/// The text of a value, cut off where a line of a report ends.
pub fn clip(value: &dyn fmt::Display) -> String {
    clip_to(value, MOST_BYTES)
}

/// The text of a value, of about so many bytes at most.
pub fn clip_to(value: &dyn fmt::Display, most_bytes: usize) -> String {
    let mut clipped = Clipped { text: String::new(), left: most_bytes };
    if write!(clipped, "{value}").is_err() {
        clipped.text.push('…');
    }
    clipped.text
}

struct Clipped {
    text: String,
    left: usize,
}

impl Write for Clipped {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if let Some(left) = self.left.checked_sub(part.len()) {
            self.left = left;
            self.text.push_str(part);
            return Ok(());
        }
        self.text.push_str(part.get(..part.floor_char_boundary(self.left)).unwrap_or_default());
        self.left = 0;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_off_between_characters() {
        let check = |text: &str, most, expected: &str| {
            assert_eq!(clip_to(&text, most), expected, "{text} {most}");
        };
        check("hello", 5, "hello");
        check("hello", 4, "hell…");
        check("héllo", 2, "h…");
        check("", 0, "");
    }
}
