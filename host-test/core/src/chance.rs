//! Numbers that look random and are the same in every run.

/// A source of such numbers (`SplitMix64`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    state: u64,
}

impl Numbers {
    /// Those of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 below 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()).saturating_mul(bound as u128) >> 64;
        usize::try_from(wide).unwrap_or_default()
    }
}
