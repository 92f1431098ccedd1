//! A report for people.

use super::{Case, Report, Verdict};

impl Report {
    /// A line for each case, what was not as expected below it, and the counts.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for case in &self.cases {
            let Case { file, name, host, runs, verdict, .. } = case;
            let place = match runs {
                1 => format!("{host}  {file}: {name}"),
                _ => format!("{host}  {file}: {name} ({runs} runs)"),
            };
            match verdict {
                Ok(Verdict::Passed) => lines.push(format!("ok      {place}")),
                Ok(Verdict::Skipped { reason }) => {
                    lines.push(format!("skipped {place}\n        {}", reason.trim()));
                }
                Ok(Verdict::Failed { failures }) => {
                    lines.push(format!("FAILED  {place}"));
                    lines.extend(failures.iter().map(|failure| {
                        format!("        {}", failure.to_string().replace('\n', "\n        "))
                    }));
                    lines.extend(case.again().map(|again| format!("        again: {again}")));
                }
                // That is an error, which is told as one.
                Err(_) => {}
            }
        }
        lines.push(self.to_string());
        lines.join("\n")
    }
}
