//! Figures that scatter, told by where they lie.

use serde::Serialize;

/// Where figures lie. Of no figures, all are not numbers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// A twentieth lies below.
    pub lowest: f64,
    /// A quarter lies below.
    pub lower: f64,
    /// Half lies below.
    pub median: f64,
    /// A quarter lies above.
    pub upper: f64,
    /// A twentieth lies above.
    pub highest: f64,
}

impl Spread {
    /// Where these figures lie; between two of them in proportion.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().saturating_sub(1);
        let at = |twentieths: usize| {
            let (place, rest) = (twentieths * last / 20, twentieths * last % 20);
            let figure = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
            let below = figure(place);
            match u32::try_from(rest) {
                Ok(rest @ 1..) => below + (figure(place + 1) - below) * f64::from(rest) / 20.0,
                Ok(0) | Err(_) => below,
            }
        };
        Self { lowest: at(1), lower: at(5), median: at(10), upper: at(15), highest: at(19) }
    }

    /// The same in proportion to a figure.
    pub(crate) fn over(self, by: f64) -> Self {
        let Self { lowest, lower, median, upper, highest } = self;
        Self {
            lowest: lowest / by,
            lower: lower / by,
            median: median / by,
            upper: upper / by,
            highest: highest / by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_figures_lie_between_the_quarters() {
        let check = |figures: &[f64], expected: [f64; 3]| {
            let Spread { lower, median, upper, .. } = Spread::of(figures.to_vec());
            let off = |(a, b): (f64, f64)| (a - b).abs() > 1e-9;
            let found = [lower, median, upper];
            assert!(!found.into_iter().zip(expected).any(off), "{found:?}, expected {expected:?}");
        };
        check(&[3.0, 1.0, 2.0, 5.0, 4.0], [2.0, 3.0, 4.0]);
        check(&[1.0, 2.0, 4.0], [1.5, 2.0, 3.0]);
        check(&[1.0, 2.0], [1.25, 1.5, 1.75]);
        check(&[7.0], [7.0, 7.0, 7.0]);
        assert!(Spread::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn nine_tenths_of_the_figures_lie_between_the_outer_ones() {
        let spread = Spread::of((0..=20).map(f64::from).collect());
        assert!((spread.lowest - 1.0).abs() < 1e-9 && (spread.highest - 19.0).abs() < 1e-9);
    }
}
