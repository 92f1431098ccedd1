//! The figures as a table, and the goals.

use tollgate_host_bench::{Rounds, Spread};

use crate::identity::{MTLS, MTLS_FIRST_NAMES, RBAC, STOCK_MTLS};
use crate::variants::{
    HANDWRITTEN, HANDWRITTEN_CHAIN, HANDWRITTEN_MAP, LOCAL_RATELIMIT, METRICS, RATELIMIT, SDK,
    SDK_CHAIN, SDK_ONE_MODULE, STOCK, STOCK_CHAIN, STOCK_FINISHED, STOCK_METRICS, Variant,
};

/// Ratios that are told: one variant to another, with the goal if there is one.
const RATIOS: [(&str, &str, Option<f64>); 14] = [
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
    (METRICS, STOCK_METRICS, None),
    (MTLS, RBAC, None),
    (MTLS, STOCK_MTLS, None),
    (MTLS_FIRST_NAMES, STOCK_MTLS, None),
];

/// Prints what each variant costs over no filter, then the ratios.
pub(crate) fn print(variants: &[Variant], rounds: Rounds, lines: usize) {
    let base = rounds.base.len();
    println!(
        "{base} rounds, {lines} header lines; without a filter a request takes {:.1} µs of Envoy's processor time\n",
        Spread::of(rounds.base).median
    );
    println!("| µs over no filter, median (and middle half of the rounds) | |");
    println!("| --- | --- |");
    let names = variants.iter().skip(1).map(|variant| variant.name);
    let over: Vec<(&str, Spread)> = names.zip(rounds.over.into_iter().map(Spread::of)).collect();
    for (name, Spread { lower, median, upper, .. }) in &over {
        println!("| {name} | {median:.2} ({lower:.2} to {upper:.2}) |");
    }
    println!();
    let median =
        |wanted| over.iter().find(|(name, _)| *name == wanted).map(|(_, spread)| spread.median);
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
