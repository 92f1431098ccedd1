//! What guests did while something went wrong, for those who have to find out why.

use std::fmt;

use serde::Serialize;

use crate::engine::Frame;
use crate::scenario::Fault;

/// What guests did in a step that may explain what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The first guests that trapped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traps: Vec<TrapReport>,
    /// The last host calls that were refused, each with its answer and the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// How many were refused before them.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused_before: u64,
    /// The first calls that were refused because of when they came.
    #[serde(skip)]
    pub untimely: Vec<String>,
    /// Streams that came to no end because a filter held them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Those of them whose client waited for the end, and did not leave on purpose.
    #[serde(skip)]
    pub endless: Vec<String>,
    /// The faults that a scenario asks for and that a call met.
    #[serde(skip)]
    pub struck: Vec<Fault>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for trap in &self.traps {
            write!(f, "\n{trap}")?;
        }
        for held in &self.held {
            write!(f, "\n{held}")?;
        }
        if self.refused.is_empty() {
            return Ok(());
        }
        f.write_str("\nhost calls that were refused")?;
        if self.refused_before > 0 {
            write!(f, ", the last {} of {}", self.refused.len(), self.total_refused())?;
        }
        f.write_str(":")?;
        for call in &self.refused {
            write!(f, "\n  {call}")?;
        }
        Ok(())
    }
}

impl Account {
    fn total_refused(&self) -> u64 {
        let shown = u64::try_from(self.refused.len()).unwrap_or(u64::MAX);
        self.refused_before.saturating_add(shown)
    }
}

/// How a guest trapped: what it was doing, on what, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrapReport {
    /// The plugin, and where its VM runs.
    pub guest: String,
    /// The callback with its arguments, or `start`.
    pub callback: String,
    /// Method and path, when the callback is about a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What happened, on one line.
    pub message: String,
    /// What the guest itself said of it: the message of its panic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<String>,
    /// The functions that were running, innermost first; empty when not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<Frame>,
    /// What the callback was about: headers, a part of a body, an answer, a configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input: Vec<String>,
    /// The last host calls of the callback, each with its answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    /// How many the callback made before them.
    #[serde(skip_serializing_if = "is_zero")]
    pub calls_before: u64,
}

impl TrapReport {
    /// What happened, without what a transcript says before it: the input and the host calls.
    pub fn outcome(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            f.write_str(&self.message)?;
            for line in self.panic.iter().flat_map(|panic| panic.lines()) {
                write!(f, "\n  | {line}")?;
            }
            for (depth, frame) in self.backtrace.iter().enumerate() {
                write!(f, "\n  {depth}: {frame}")?;
            }
            Ok(())
        })
    }
}

impl fmt::Display for TrapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guest, callback, .. } = self;
        write!(f, "{guest} trapped in {callback}")?;
        if let Some(request) = &self.request {
            write!(f, " of {request}")?;
        }
        write!(f, ": {}", self.outcome())?;
        if !self.input.is_empty() {
            f.write_str("\n  its input:")?;
        }
        for input in &self.input {
            write!(f, "\n    {input}")?;
        }
        if self.calls.is_empty() {
            return Ok(());
        }
        f.write_str("\n  its last host calls")?;
        if self.calls_before > 0 {
            write!(f, ", after {} others", self.calls_before)?;
        }
        f.write_str(":")?;
        for call in &self.calls {
            write!(f, "\n    {call}")?;
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
