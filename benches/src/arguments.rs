//! What the command is told.

use std::time::Duration;

use anyhow::{Context, Result, bail};

const USAGE: &str =
    "usage: tollgate-benches [--quick] [--seconds N] [--lines N] [--only TEXT] [--tls]
  --quick      measure for 10 s instead of 50 s
  --seconds N  measure for N seconds
  --lines N    send N header lines with each request, `host` and `x-user` among them; by default 8
  --only TEXT  measure only what has TEXT in its name
  --tls        measure filters that ask who is calling, behind TLS";

/// The arguments of the command.
pub(crate) struct Arguments {
    /// How long rounds are begun.
    pub(crate) measuring: Duration,
    /// How many header lines a request has.
    pub(crate) lines: usize,
    /// What the names of the variants have to contain.
    pub(crate) only: Option<String>,
    /// What is compared.
    pub(crate) set: Set,
}

/// What is compared with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Set {
    /// Chains that do one job, and rate limits.
    #[default]
    Plain,
    /// Filters that ask who is calling, behind TLS.
    Tls,
}

impl Arguments {
    /// Reads them, without the name of the program.
    ///
    /// # Errors
    ///
    /// The usage, for what is not known or not a number.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments =
            Self { measuring: Duration::from_secs(50), lines: 8, only: None, set: Set::default() };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} what?\n{USAGE}"));
            match word.as_str() {
                "--quick" => arguments.measuring = Duration::from_secs(10),
                "--seconds" => {
                    arguments.measuring = Duration::from_secs(value()?.parse().context(USAGE)?);
                }
                "--lines" => arguments.lines = value()?.parse().context(USAGE)?,
                "--only" => arguments.only = Some(value()?),
                "--tls" => arguments.set = Set::Tls,
                _ => bail!("{word}?\n{USAGE}"),
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_refused_with_the_usage() {
        let check = |line: &str, expected: Option<(u64, usize)>| {
            let read = Arguments::read(line.split_whitespace().map(str::to_owned));
            let read = read.ok().map(|read| (read.measuring.as_secs(), read.lines));
            assert_eq!(read, expected, "{line}");
        };
        check("", Some((50, 8)));
        check("--quick --lines 20", Some((10, 20)));
        check("--seconds 5", Some((5, 8)));
        check("--tls --quick", Some((10, 8)));
        check("--seconds", None);
        check("--seconds many", None);
        check("--fast", None);
    }
}
