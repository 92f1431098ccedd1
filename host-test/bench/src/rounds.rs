//! Rounds: in each, everything that is compared has its turn once, in an order of the round's own.

use std::time::{Duration, Instant};

/// Fewer rounds than these tell nothing, whatever time they take.
const FEWEST: usize = 5;

/// Begins rounds until `measuring` is over; each gives the order in which `count` things are measured.
pub(crate) fn rounds(count: usize, measuring: Duration) -> impl Iterator<Item = Vec<usize>> {
    let begin = Instant::now();
    (0..)
        .take_while(move |&round| round < FEWEST || begin.elapsed() < measuring)
        .map(move |round| order(count, round))
}

/// An order of `count` things: another place to begin each round, and other neighbours too.
fn order(count: usize, round: usize) -> Vec<usize> {
    let strides: Vec<usize> = (1..count.max(2)).filter(|&n| is_coprime(n, count)).collect();
    let stride = strides.get(round % strides.len().max(1)).copied().unwrap_or(1);
    (0..count).map(|place| (round + place * stride) % count).collect()
}

fn is_coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { is_coprime(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_each_thing_once() {
        for count in 0..20 {
            for round in 0..50 {
                let mut places = order(count, round);
                places.sort_unstable();
                assert_eq!(places, (0..count).collect::<Vec<_>>(), "{count} in round {round}");
            }
        }
    }

    #[test]
    fn rounds_begin_in_turn_and_go_on_differently() {
        let orders: Vec<Vec<usize>> = rounds(5, Duration::ZERO).take(3).collect();
        assert_eq!(orders, [[0, 1, 2, 3, 4], [1, 3, 0, 2, 4], [2, 0, 3, 1, 4]]);
    }

    #[test]
    fn time_that_is_over_leaves_as_many_rounds_as_tell_something() {
        assert_eq!(rounds(2, Duration::ZERO).count(), FEWEST);
    }
}
