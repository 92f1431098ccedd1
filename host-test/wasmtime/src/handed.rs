//! Memory that the host had a guest allocate for its answers, and that the guest has not freed, as far as
//! that can be seen.
//!
//! A guest frees memory within itself. What can be seen is where its allocator puts the next answer: what
//! is given out anew was free. So memory that is never given out again has leaked, or is kept.

use std::collections::BTreeMap;

/// As many pieces are told apart; what comes beyond is only counted.
const MOST_PIECES: usize = 1 << 16;

/// Pieces of memory by their addresses, each with its end.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pieces: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Handed {
    /// The guest's allocator gave this memory.
    pub(crate) fn add(&mut self, address: u64, size: u64) {
        let end = address.saturating_add(size);
        // Most often the same piece is given out again. Pieces do not overlap, so that none reaches into it.
        if let Some((&start, piece_end)) = self.pieces.range_mut(..end).next_back()
            && start == address
        {
            let old = piece_end.saturating_sub(address);
            self.bytes = self.bytes.saturating_sub(old).saturating_add(size);
            *piece_end = end;
            return;
        }
        // From the end backwards, all that reach into this one come first.
        while let Some((&start, &piece_end)) = self.pieces.range(..end).next_back()
            && piece_end > address
        {
            self.pieces.remove(&start);
            self.bytes = self.bytes.saturating_sub(piece_end.saturating_sub(start));
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.pieces.len() < MOST_PIECES {
            self.pieces.insert(address, end);
        }
    }

    /// How many bytes were handed out and not seen to be free.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_again_was_free() {
        let check = |pieces: &[(u64, u64)], expected| {
            let mut handed = Handed::default();
            for &(address, size) in pieces {
                handed.add(address, size);
            }
            assert_eq!(handed.bytes(), expected, "{pieces:?}");
        };
        check(&[], 0);
        check(&[(8, 8), (8, 8), (8, 8)], 8);
        check(&[(8, 8), (16, 8), (24, 8)], 24);
        check(&[(8, 8), (16, 8), (8, 4)], 12);
        check(&[(8, 8), (16, 8), (16, 4), (16, 8)], 16);
        check(&[(8, 8), (20, 8), (8, 16)], 16);
        check(&[(8, 8), (16, 8), (12, 8)], 8);
        check(&[(8, 32), (16, 8)], 8);
        check(&[(16, 8), (8, 32)], 32);
        check(&[(u64::MAX, 8)], 8);
    }
}
