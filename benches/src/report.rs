//! The figures as a table, and the goals.

use crate::load::Request;
use crate::rounds::Rounds;
use crate::variants::{
    HANDWRITTEN, HANDWRITTEN_CHAIN, HANDWRITTEN_MAP, LOCAL_RATELIMIT, RATELIMIT, SDK, SDK_CHAIN,
    SDK_ONE_MODULE, STOCK, STOCK_CHAIN, STOCK_FINISHED, Variant,
};

/// Ratios that are told: one variant to another, with the goal if there is one.
const RATIOS: [(&str, &str, Option<f64>); 10] = [
    (SDK, HANDWRITTEN, Some(1.10)),
    (SDK, STOCK, Some(0.85)),
    (SDK, STOCK_FINISHED, None),
    (SDK, HANDWRITTEN_MAP, None),
    (HANDWRITTEN_MAP, HANDWRITTEN, None),
    (SDK_CHAIN, STOCK_CHAIN, Some(0.85)),
    (SDK_ONE_MODULE, SDK_CHAIN, None),
    (SDK_ONE_MODULE, HANDWRITTEN_CHAIN, Some(1.10)),
    (SDK_ONE_MODULE, STOCK_CHAIN, Some(0.85)),
    (RATELIMIT, LOCAL_RATELIMIT, None),
];

/// Prints what each variant costs over no filter, then the ratios.
pub(crate) fn print(variants: &[Variant], rounds: &Rounds, request: &Request) {
    let base = Quartiles::of(rounds.base.clone());
    println!(
        "{} rounds, {} header lines; without a filter a request takes {:.1} µs of Envoy's processor time\n",
        rounds.base.len(),
        request.lines.len(),
        base.median
    );
    println!("| µs over no filter, median (and middle half of the rounds) | |");
    println!("| --- | --- |");
    let over: Vec<(&str, Quartiles)> = variants
        .iter()
        .zip(&rounds.costs)
        .skip(1)
        .map(|(variant, costs)| {
            let over = costs.iter().zip(&rounds.base).map(|(cost, base)| cost - base);
            (variant.name, Quartiles::of(over.collect()))
        })
        .collect();
    for (name, Quartiles { lower, median, upper }) in &over {
        println!("| {name} | {median:.2} ({lower:.2} to {upper:.2}) |");
    }
    println!();
    let median = |wanted| over.iter().find(|(name, _)| *name == wanted).map(|(_, q)| q.median);
    for (one, other, goal) in RATIOS {
        if let (Some(a), Some(b)) = (median(one), median(other)) {
            let ratio = a / b;
            let verdict = goal.map_or_else(String::new, |goal| {
                let met = if ratio <= goal { "met" } else { "missed" };
                format!(": the goal, at most {goal:.2}, is {met}")
            });
            println!("{one} / {other} = {ratio:.2}{verdict}");
        }
    }
}

/// Where the middle half of figures lies.
struct Quartiles {
    lower: f64,
    median: f64,
    upper: f64,
}

impl Quartiles {
    /// Of no figures, they are not numbers.
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().saturating_sub(1);
        // Between two figures where there is no middle one.
        let at = |quarters: usize| {
            let place = quarters * last;
            let figure = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
            f64::midpoint(figure(place / 4), figure(place.div_ceil(4)))
        };
        Self { lower: at(1), median: at(2), upper: at(3) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_figures_lie_between_the_quartiles() {
        let check = |figures: &[f64], expected: [f64; 3]| {
            let Quartiles { lower, median, upper } = Quartiles::of(figures.to_vec());
            let off = |(a, b): (f64, f64)| (a - b).abs() > 1e-9;
            let found = [lower, median, upper];
            assert!(!found.into_iter().zip(expected).any(off), "{found:?}, expected {expected:?}");
        };
        check(&[3.0, 1.0, 2.0, 5.0, 4.0], [2.0, 3.0, 4.0]);
        check(&[1.0, 2.0, 4.0], [1.5, 2.0, 3.0]);
        check(&[1.0, 2.0], [1.5, 1.5, 1.5]);
        check(&[7.0], [7.0, 7.0, 7.0]);
        assert!(Quartiles::of(Vec::new()).median.is_nan());
    }
}
