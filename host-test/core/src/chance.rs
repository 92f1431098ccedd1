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

/// What a host is free to choose, by a seed. Seed 0 takes the first each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chance {
    numbers: Option<Numbers>,
}

/// What is chosen: each by numbers of its own, so that more of one changes nothing of another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// What comes first of what falls on the same instant.
    Order = 1,
    /// When the wall clock starts.
    Clock,
    /// The bytes that guests ask for.
    Bytes,
    /// The worker that gets a request.
    Worker,
}

impl Choice {
    /// Where the numbers of a seed begin.
    pub(crate) fn of(self, seed: u64) -> u64 {
        seed ^ ((self as u64) << 56)
    }
}

impl Chance {
    pub(crate) fn of(seed: u64, choice: Choice) -> Self {
        Self { numbers: (seed != 0).then(|| Numbers::of(choice.of(seed))) }
    }

    /// One of so many, counted from 0.
    pub(crate) fn one_of(&mut self, many: usize) -> usize {
        self.numbers.as_mut().map_or(0, |numbers| numbers.below(many))
    }

    /// An order of so many.
    pub(crate) fn order(&mut self, many: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..many).collect();
        (0..many).map(|_| left.remove(self.one_of(left.len()))).collect()
    }

    /// Whether something that may come later does.
    pub(crate) fn is_late(&mut self) -> bool {
        self.one_of(2) == 1
    }
}
