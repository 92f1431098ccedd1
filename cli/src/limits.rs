//! What guests may use, as the command line says it.

use anyhow::{Context, Result};
use clap::Args;
use tollgate_host::limits::Limits;

/// Limits on the command line.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LimitOptions {
    /// Set what guests may use, as in `--limit memory_bytes=64M --limit time_per_call=1s`; `--limit help=`
    /// lists all. May be given several times.
    #[arg(long = "limit", value_name = "NAME=BOUND")]
    limits: Vec<String>,
}

impl LimitOptions {
    /// The limits: those that were set, else the defaults.
    ///
    /// # Errors
    ///
    /// The first that names no limit or has no bound of its kind.
    pub(crate) fn read(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        for option in &self.limits {
            let (name, bound) = option
                .split_once('=')
                .with_context(|| format!("--limit {option}: write NAME=BOUND"))?;
            if name == "help" {
                let lines = Limits::describe().into_iter().map(|(name, what, default)| {
                    format!("  {name} (default {default})\n      {what}")
                });
                let lines = lines.collect::<Vec<_>>().join("\n");
                anyhow::bail!("the limits are\n{lines}");
            }
            limits.set(name, bound)?;
        }
        Ok(limits)
    }
}
