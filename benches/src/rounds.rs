//! Rounds: in each, every variant serves the same number of requests, in an order of its own.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::arguments::Arguments;
use crate::envoy::Envoy;
use crate::load::{Client, Request};
use crate::variants::Variant;

/// Requests of a variant in a round that count.
const REQUESTS: usize = 400;

/// Requests before those, which bring the code of the variant back into the caches.
const SETTLING: usize = 40;

/// Requests of each variant before the first round. Envoy's engine compiles what is hot anew meanwhile.
const WARMING: usize = 6000;

/// How long Envoy is given to finish what it does after an answer.
const IDLE: Duration = Duration::from_millis(1);

/// What the rounds gave.
pub(crate) struct Rounds {
    /// For each variant, in their order, processor time per request in microseconds, by round.
    pub(crate) costs: Vec<Vec<f64>>,
    /// For each round, the same of the variant without a filter: of before and after the others.
    pub(crate) base: Vec<f64>,
}

/// Begins rounds until the time is over. The first variant is the one without a filter.
///
/// # Errors
///
/// A variant does not answer, or Envoy has ended.
pub(crate) fn measure(
    envoy: &Envoy,
    variants: &[Variant],
    request: &Request,
    arguments: &Arguments,
) -> Result<Rounds> {
    let connect = |variant: &Variant| Client::connect(envoy.listener(variant)?, request);
    let mut clients = variants.iter().map(connect).collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        client.send(WARMING)?;
    }
    let mut rounds = Rounds { costs: vec![Vec::new(); variants.len()], base: Vec::new() };
    let Some((none, others)) = clients.split_first_mut() else { return Ok(rounds) };
    let begin = Instant::now();
    while begin.elapsed() < arguments.measuring {
        let before = cost(envoy, none)?;
        for index in order(others.len(), rounds.base.len()) {
            if let (Some(client), Some(costs)) =
                (others.get_mut(index), rounds.costs.get_mut(index + 1))
            {
                costs.push(cost(envoy, client)?);
            }
        }
        let base = f64::midpoint(before, cost(envoy, none)?);
        rounds.base.push(base);
        if let Some(costs) = rounds.costs.first_mut() {
            costs.push(base);
        }
    }
    Ok(rounds)
}

/// Processor time per request in microseconds.
fn cost(envoy: &Envoy, client: &mut Client<'_>) -> Result<f64> {
    client.send(SETTLING)?;
    sleep(IDLE);
    let before = envoy.processor_time()?;
    let sent = client.send(REQUESTS)?;
    sleep(IDLE);
    let used = envoy.processor_time()?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / f64::from(u32::try_from(sent)?))
}

/// An order of `count` things: another place to begin each round, and other neighbours too.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let strides: Vec<usize> = (1..count.max(2)).filter(|&n| is_coprime(n, count)).collect();
    let stride = strides.get(round % strides.len().max(1)).copied().unwrap_or(1);
    (0..count).map(move |place| (round + place * stride) % count)
}

fn is_coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { is_coprime(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_each_variant_once() {
        for count in 0..20 {
            for round in 0..50 {
                let mut places: Vec<usize> = order(count, round).collect();
                places.sort_unstable();
                assert_eq!(places, (0..count).collect::<Vec<_>>(), "{count} in round {round}");
            }
        }
    }

    #[test]
    fn rounds_begin_in_turn_and_go_on_differently() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| order(5, round).collect()).collect();
        assert_eq!(orders, [[0, 1, 2, 3, 4], [1, 3, 0, 2, 4], [2, 0, 3, 1, 4]]);
    }
}
