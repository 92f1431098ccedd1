//! A report as CI systems read it.
//!
//! Source: the schema of Jenkins' xUnit plugin, which GitLab, GitHub's actions and others read.

use std::io;

use quick_xml::Writer;
use quick_xml::events::BytesText;

use super::{Case, Report, Verdict};

impl Report {
    /// The report as `JUnit` writes one: a suite for each file, in order.
    ///
    /// # Errors
    ///
    /// When the writer cannot write.
    pub fn junit(&self) -> io::Result<String> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        let suites: Vec<&[Case]> = self.cases.chunk_by(|one, next| one.file == next.file).collect();
        let all = counts(&self.cases);
        let whole = writer.create_element("testsuites").with_attributes(attributes(&all));
        whole.write_inner_content(|writer| {
            for cases in suites {
                let Some(first) = cases.first() else { continue };
                let counts = counts(cases);
                writer
                    .create_element("testsuite")
                    .with_attribute(("name", printable(&first.file).as_str()))
                    .with_attributes(attributes(&counts))
                    .write_inner_content(|writer| {
                        cases.iter().try_for_each(|case| write_case(writer, case))
                    })?;
            }
            Ok(())
        })?;
        let mut bytes = writer.into_inner();
        bytes.push(b'\n');
        let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
        Ok(format!("{head}{}", String::from_utf8_lossy(&bytes)))
    }
}

fn write_case(writer: &mut Writer<Vec<u8>>, case: &Case) -> io::Result<()> {
    let took = seconds(case);
    let element = writer
        .create_element("testcase")
        .with_attribute(("name", printable(&case.name).as_str()))
        .with_attribute(("classname", printable(&case.file).as_str()))
        .with_attribute(("file", printable(&case.file).as_str()))
        .with_attribute(("time", took.as_str()));
    if case.verdict == Ok(Verdict::Passed) && case.runs == 1 {
        return element.write_empty().map(drop);
    }
    let inside = element.write_inner_content(|writer| {
        write_runs(writer, case)?;
        match &case.verdict {
            Ok(Verdict::Passed) => Ok(()),
            Ok(Verdict::Skipped { reason }) => {
                let reason = printable(reason.trim());
                let skipped = writer.create_element("skipped");
                skipped.with_attribute(("message", reason.as_str())).write_empty().map(drop)
            }
            Ok(Verdict::Failed { failures }) => failures
                .iter()
                .try_for_each(|failure| write_wrong(writer, "failure", &failure.to_string())),
            Err(why) => write_wrong(writer, "error", why),
        }
    });
    inside.map(drop)
}

/// How many runs a case has, and how to have the one again that failed.
fn write_runs(writer: &mut Writer<Vec<u8>>, case: &Case) -> io::Result<()> {
    if case.runs == 1 {
        return Ok(());
    }
    let properties = [("runs", Some(case.runs.to_string())), ("again", case.again())];
    let inside = writer.create_element("properties").write_inner_content(|writer| {
        for (name, value) in &properties {
            let Some(value) = value else { continue };
            let property = writer.create_element("property").with_attribute(("name", *name));
            property.with_attribute(("value", printable(value).as_str())).write_empty()?;
        }
        Ok(())
    });
    inside.map(drop)
}

fn write_wrong(writer: &mut Writer<Vec<u8>>, kind: &str, text: &str) -> io::Result<()> {
    let text = printable(text);
    let first = text.lines().next().unwrap_or_default();
    let element = writer.create_element(kind).with_attribute(("message", first));
    element.write_text_content(BytesText::new(&text)).map(drop)
}

/// How many cases there are, of each verdict, and how long they took.
fn counts(cases: &[Case]) -> [(&'static str, String); 5] {
    let count = |is: fn(&Result<Verdict, String>) -> bool| {
        cases.iter().filter(|case| is(&case.verdict)).count().to_string()
    };
    let took: std::time::Duration = cases.iter().map(|case| case.took).sum();
    [
        ("tests", cases.len().to_string()),
        ("failures", count(|verdict| matches!(verdict, Ok(Verdict::Failed { .. })))),
        ("skipped", count(|verdict| matches!(verdict, Ok(Verdict::Skipped { .. })))),
        ("errors", count(Result::is_err)),
        ("time", format!("{:.3}", took.as_secs_f64())),
    ]
}

fn attributes<'a>(
    counts: &'a [(&'static str, String)],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    counts.iter().map(|&(name, ref value)| (name, value.as_str()))
}

fn seconds(case: &Case) -> String {
    format!("{:.3}", case.took.as_secs_f64())
}

/// A text without the characters that XML cannot say.
fn printable(text: &str) -> String {
    let is_sayable = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
            || c > '\u{ffff}'
    };
    text.chars().map(|c| if is_sayable(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::Account;
    use crate::report::{Failure, Replay};
    use crate::scenario::HostName;

    #[test]
    fn a_report_reads_as_of_junit() {
        let case = |file: &str, name: &str, verdict| Case {
            file: file.into(),
            name: name.into(),
            host: HostName::Wasmtime,
            runs: if name == "varies" { 7 } else { 1 },
            verdict,
            took: Duration::from_millis(1500),
        };
        let failure = Failure {
            replay: Replay::default(),
            place: "step 1".into(),
            what: "a < \"b\"\u{1}\n- c".into(),
            account: Account::default(),
        };
        let replay = Replay { variant: Some("request body split at 1".into()), seed: Some(7) };
        let varied = Failure { replay, ..failure.clone() };
        let report: Report = [
            case("a.yaml", "passes & so on", Ok(Verdict::Passed)),
            case("a.yaml", "fails", Ok(Verdict::Failed { failures: vec![failure] })),
            case("b.yaml", "varies", Ok(Verdict::Failed { failures: vec![varied] })),
            case("b.yaml", "does not run", Ok(Verdict::Skipped { reason: "why".into() })),
            case("c.yaml", "cannot be read", Err("line 1 <".into())),
        ]
        .into_iter()
        .collect();
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5" failures="2" skipped="1" errors="1" time="7.500">
  <testsuite name="a.yaml" tests="2" failures="1" skipped="0" errors="0" time="3.000">
    <testcase name="passes &amp; so on" classname="a.yaml" file="a.yaml" time="1.500"/>
    <testcase name="fails" classname="a.yaml" file="a.yaml" time="1.500">
      <failure message="step 1: a &lt; &quot;b&quot;�">step 1: a &lt; &quot;b&quot;�
- c</failure>
    </testcase>
  </testsuite>
  <testsuite name="b.yaml" tests="2" failures="1" skipped="1" errors="0" time="3.000">
    <testcase name="varies" classname="b.yaml" file="b.yaml" time="1.500">
      <properties>
        <property name="runs" value="7"/>
        <property name="again" value="tollgate test b.yaml --seed 7 --variant &apos;request body split at 1&apos;"/>
      </properties>
      <failure message="seed 7: request body split at 1: step 1: a &lt; &quot;b&quot;�">seed 7: request body split at 1: step 1: a &lt; &quot;b&quot;�
- c</failure>
    </testcase>
    <testcase name="does not run" classname="b.yaml" file="b.yaml" time="1.500">
      <skipped message="why"/>
    </testcase>
  </testsuite>
  <testsuite name="c.yaml" tests="1" failures="0" skipped="0" errors="1" time="1.500">
    <testcase name="cannot be read" classname="c.yaml" file="c.yaml" time="1.500">
      <error message="line 1 &lt;">line 1 &lt;</error>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(report.junit().unwrap(), expected);
    }
}
