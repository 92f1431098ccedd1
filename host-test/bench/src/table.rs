//! A report as text for people.

use std::fmt;

use crate::Spread;
use crate::report::{CallbackCost, FunctionCost, Inside, Memory, Report, Target, Traffic};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {}, {} rounds", self.on, self.rounds)?;
        match &self.base_micros {
            Some(base) => writeln!(
                f,
                "; without a filter a request takes {} µs of Envoy's processor time",
                spread(base)
            )?,
            None => writeln!(f)?,
        }
        writeln!(f)?;
        let over =
            if self.base_micros.is_some() { "µs over no filter" } else { "µs per request" };
        let mut rows = vec![
            ["target", over, "ratio", "fuel", "host calls", "bytes copied"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(self.targets.iter().map(summary));
        write!(f, "{}", Rows(&rows))?;
        for target in &self.targets {
            writeln!(f)?;
            write!(f, "{}", Details(target))?;
        }
        Ok(())
    }
}

fn summary(target: &Target) -> Vec<String> {
    let mut row = vec![target.name.clone(), spread(&target.micros), spread(&target.ratio)];
    match &target.inside {
        Some(Inside { fuel, traffic, .. }) => {
            row.extend([number(*fuel), number(traffic.host_calls), bytes(traffic)]);
        }
        None => row.extend(["-", "-", "-"].map(str::to_owned)),
    }
    row
}

/// What there is to say of one subject.
struct Details<'a>(&'a Target);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.name)?;
        let answers = self.0.answers.iter().map(|(answer, times)| format!("{answer} × {times}"));
        writeln!(f, "  answers  {}", answers.collect::<Vec<_>>().join(", "))?;
        let Some(inside) = &self.0.inside else { return Ok(()) };
        let start = inside.start;
        writeln!(
            f,
            "  start    compiled in {:.1} ms; from the cache: loaded in {:.2} ms, started and configured in {:.2} ms",
            start.compile_millis, start.load_millis, start.start_millis
        )?;
        writeln!(f, "  memory   {}", memory(&inside.memory))?;
        let mut rows = vec![
            ["  callback", "times", "µs", "fuel", "host calls", "bytes copied"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(inside.callbacks.iter().map(|cost| {
            let CallbackCost { callback, times, micros, fuel, traffic } = cost;
            let (times, fuel) = (number(*times), number(*fuel));
            let calls = number(traffic.host_calls);
            vec![format!("  {callback}"), times, spread(micros), fuel, calls, bytes(traffic)]
        }));
        write!(f, "{}", Rows(&rows))?;
        let mut rows =
            vec![["  host function", "times", "bytes copied"].map(str::to_owned).to_vec()];
        rows.extend(inside.functions.iter().map(|FunctionCost { function, traffic }| {
            vec![format!("  {function}"), number(traffic.host_calls), bytes(traffic)]
        }));
        write!(f, "{}", Rows(&rows))
    }
}

/// Rows of equal length, in columns; the first to the left, the others to the right.
struct Rows<'a>(&'a [Vec<String>]);

impl fmt::Display for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in self.0 {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "{cell:width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The middle, and where half of the rounds lie.
pub(crate) fn spread(spread: &Spread) -> String {
    let Spread { lower, median, upper, .. } = spread;
    format!("{median:.2} ({lower:.2} to {upper:.2})")
}

/// Whole, or with what is left.
pub(crate) fn number(number: f64) -> String {
    let text = format!("{number:.2}");
    text.strip_suffix(".00").map_or(text.clone(), str::to_owned)
}

/// Bytes out of and into the guest.
pub(crate) fn bytes(traffic: &Traffic) -> String {
    format!("{} out, {} in", number(traffic.bytes_from_guest), number(traffic.bytes_to_guest))
}

pub(crate) fn memory(memory: &Memory) -> String {
    let Memory { start_bytes, warm_bytes, end_bytes, requests } = memory;
    let said = |bytes: &Option<u64>| bytes.map_or("not told".into(), |bytes| bytes.to_string());
    let flat = if memory.is_flat() { "flat" } else { "GROWS" };
    format!(
        "{} bytes once configured, {} warm, {} after {requests} requests: {flat}",
        said(start_bytes),
        said(warm_bytes),
        said(end_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [["a", "µs"], ["long", "1"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(Rows(&rows).to_string(), "a     µs\nlong   1\n");
    }

    #[test]
    fn a_number_is_as_long_as_it_has_to_be() {
        for (given, expected) in [(5.0, "5"), (0.5, "0.50"), (1234.0, "1234"), (0.0, "0")] {
            assert_eq!(number(given), expected);
        }
    }
}
