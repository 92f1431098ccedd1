//! What the proxy notes of a stream that did not go as it should, in the short words of its access log.
//!
//! Source: Envoy 1.40, `source/common/stream_info/utility.h`, `CORE_RESPONSE_FLAGS`.

/// The word of each bit, from the lowest.
const WORDS: [&str; 30] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC",
    "URX", "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR",
    "UDO",
];

/// `UT`, `LR`, `UR`, `UC`, `UMSDR` and `UPE`.
const BREAKS: i64 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 19 | 1 << 23;

/// The attribute `response.flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(i64);

impl Flags {
    /// The flags of these bits.
    pub const fn new(bits: i64) -> Self {
        Self(bits)
    }

    /// Whether the client was gone before the response was whole: `DC`, or `DR` over HTTP/2.
    pub const fn is_disconnect(self) -> bool {
        self.0 & (1 << 14 | 1 << 28) != 0
    }

    /// Whether the upstream broke off, or was too slow: what a response that had begun does not tell.
    pub const fn is_broken(self) -> bool {
        self.0 & BREAKS != 0
    }

    /// The same, but for what tells that the upstream broke off.
    #[must_use]
    pub const fn without_breaks(self) -> Self {
        Self(self.0 & !BREAKS)
    }

    /// The words, parted by commas; `-` when there is none.
    pub fn words(self) -> String {
        let mut words = String::new();
        for (bit, word) in WORDS.iter().enumerate() {
            if u32::try_from(bit).is_ok_and(|bit| self.0.unsigned_abs() >> bit & 1 == 1) {
                if !words.is_empty() {
                    words.push(',');
                }
                words.push_str(word);
            }
        }
        if words.is_empty() {
            words.push('-');
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bits: i64, expected: &str) {
        assert_eq!(Flags::new(bits).words(), expected);
    }

    #[test]
    fn flags_are_told_as_in_the_access_log() {
        check(0, "-");
        check(0x40, "UC");
        check(0x4000, "DC");
        check(0x100, "NR");
        check(0x100_0000, "NC");
        check(0x20 | 0x8000, "UF,URX");
        check(1 << 29, "UDO");
        check(1 << 40, "-");
    }

    #[test]
    fn a_client_that_left_is_told_from_an_upstream_that_did() {
        assert!(Flags::new(0x4000).is_disconnect() && Flags::new(1 << 28).is_disconnect());
        assert!(!Flags::new(0x40).is_disconnect());
    }

    #[test]
    fn a_response_that_was_broken_off_is_known_by_its_words() {
        for (bit, word) in WORDS.iter().enumerate() {
            let breaks = ["UT", "LR", "UR", "UC", "UMSDR", "UPE"].contains(word);
            let flags = Flags::new(1 << bit);
            assert_eq!((flags.is_broken(), flags.without_breaks().is_broken()), (breaks, false));
        }
    }
}
