//! Plays the tests of a suite and judges what each phase left behind.

use super::{Environment, Expected, Pattern, Phase, Test};
use crate::engine::Trap;
use crate::offline::{Left, Offline, Stage};
use crate::proxy::{LogLine, StartError};
use crate::report::{Failure, Verdict};
use crate::scenario::{FilterUse, HeaderLine};

/// Plays one test on the offline host. Of the filter, the module, its configuration and its name count.
///
/// # Errors
///
/// [`StartError`] when the host could not even try: then there is no verdict.
pub fn play(
    test: &Test,
    environment: &Environment,
    filter: &FilterUse,
    host: &Offline<'_>,
) -> Result<Verdict, StartError> {
    let mut judge = Judge { place: "plugin_init".into(), failures: Vec::new() };
    let mut stage = match host.stage(filter, environment.log_level, environment.time) {
        Ok(stage) => stage,
        Err(StartError::Refused { words }) => {
            judge.fail(words);
            return Ok(Verdict::of(judge.failures));
        }
        Err(error @ (StartError::Module(_) | StartError::Host(_))) => return Err(error),
    };
    if let Err(trap) = judge.play(test, &mut stage) {
        judge.fail(trapped(&trap, stage.logs()));
    }
    stage.refuse_what_was_called().map_err(|failure| StartError::Host(Box::new(failure)))?;
    Ok(Verdict::of(judge.failures))
}

struct Judge {
    /// The phase that is judged.
    place: String,
    failures: Vec<Failure>,
}

impl Judge {
    fn play(&mut self, test: &Test, stage: &mut Stage) -> Result<(), Trap> {
        self.logs(&test.plugin_init, stage.logs());
        self.place = "stream_init".into();
        stage.begin(&test.properties)?;
        self.logs(&test.stream_init, stage.logs());
        for (index, Phase { input, expected }) in test.phases.iter().enumerate() {
            let name = input.to_string();
            let same = |phase: &&Phase| phase.input.to_string() == name;
            let is_only = test.phases.iter().filter(same).count() == 1;
            self.place = if is_only {
                name
            } else {
                let before = test.phases.iter().take(index).filter(same).count();
                format!("{name}[{before}]")
            };
            let left = stage.play(input)?;
            self.phase(expected, &left);
            self.logs(&expected.log, stage.logs());
        }
        self.place = "stream_destroy".into();
        stage.end()?;
        self.logs(&test.stream_destroy, stage.logs());
        self.place = "plugin_destroy".into();
        stage.shut_down()
    }

    fn fail(&mut self, what: String) {
        self.failures.push(Failure { place: self.place.clone(), what, ..Failure::default() });
    }

    fn logs(&mut self, patterns: &[Pattern], logs: &[LogLine]) {
        let texts: Vec<Vec<u8>> = logs.iter().map(|line| line.message.clone()).collect();
        self.patterns("log", patterns, &texts);
    }

    fn patterns(&mut self, what: &str, patterns: &[Pattern], texts: &[Vec<u8>]) {
        for pattern in patterns.iter().filter(|pattern| !pattern.holds(texts)) {
            let got = match texts {
                [] => " nothing".into(),
                [one] => format!(" {}", quoted(one)),
                many => listed(many.iter().map(|text| quoted(text))),
            };
            self.fail(format!("{what}: expected {pattern}, got{got}"));
        }
    }

    fn phase(&mut self, expected: &Expected, left: &Left) {
        for (name, value) in &expected.has_header {
            let shown = name.escape_ascii();
            match find(&left.headers, name) {
                Some(got) if got == value => {}
                Some(got) => {
                    let (value, got) = (quoted(value), quoted(got));
                    self.fail(format!("header {shown}: expected {value}, got {got}"));
                }
                None => {
                    let value = quoted(value);
                    self.fail(format!("header {shown}: expected {value}, got no such header"));
                }
            }
        }
        for name in &expected.no_header {
            if let Some(got) = find(&left.headers, name) {
                let name = name.escape_ascii();
                self.fail(format!("header {name}: expected none, got {}", quoted(got)));
            }
        }
        let line = |(name, value): &HeaderLine| [name.as_slice(), b": ", value].concat();
        let lines: Vec<Vec<u8>> = left.headers.iter().map(line).collect();
        self.patterns("headers", &expected.headers, &lines);
        self.patterns("body", &expected.body, std::slice::from_ref(&left.body));
        self.reply(expected, left);
    }

    fn reply(&mut self, expected: &Expected, left: &Left) {
        match (&expected.immediate, &left.reply) {
            (None, None) => {
                if let Some(action) = left.held {
                    self.fail(format!(
                        "immediate: the guest returned {action} without a reply, and nothing lets the stream go on"
                    ));
                }
            }
            (None, Some(reply)) => {
                self.fail(format!("immediate: expected none, got a reply {}", reply.status));
            }
            (Some(_), None) => self.fail("immediate: expected a reply, got none".into()),
            (Some(expected), Some(reply)) => {
                if let Some(status) = expected.http_status.filter(|&is| is != reply.status) {
                    let got = reply.status;
                    self.fail(format!("immediate.http_status: expected {status}, got {got}"));
                }
                let grpc_status = reply.grpc_status.unwrap_or(u32::MAX);
                if let Some(status) = expected.grpc_status.filter(|&is| is != grpc_status) {
                    self.fail(format!(
                        "immediate.grpc_status: expected {status}, got {grpc_status}"
                    ));
                }
                if let Some(details) =
                    expected.details.as_ref().filter(|&details| *details != reply.details)
                {
                    let (details, got) = (quoted(details), quoted(&reply.details));
                    self.fail(format!("immediate.details: expected {details}, got {got}"));
                }
            }
        }
    }
}

fn find<'a>(headers: &'a [HeaderLine], name: &[u8]) -> Option<&'a Vec<u8>> {
    let line = headers.iter().find(|(line, _)| line.eq_ignore_ascii_case(name));
    line.map(|(_, value)| value)
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// Each on a line of its own.
fn listed(lines: impl Iterator<Item = impl ToString>) -> String {
    lines.flat_map(|line| ["\n  ".to_owned(), line.to_string()]).collect()
}

fn trapped(trap: &Trap, logs: &[LogLine]) -> String {
    let logs = listed(logs.iter());
    let logged = if logs.is_empty() { "" } else { "\nit logged:" };
    format!("the guest trapped: {trap}{logged}{logs}")
}
