//! A report as a page that needs nothing else: styles and plots are in it.

use std::fmt::Write;

use crate::plot::{Distribution, Stack, distributions, escape, legend, stacks};
use crate::report::{CallbackCost, FunctionCost, Inside, Report, Target};
use crate::table::{bytes, memory, number, spread};

const STYLE: &str = include_str!("report.css");

/// The page of a report.
pub fn html(report: &Report) -> String {
    let over = match report.base_micros {
        Some(_) => "µs of processor time per request, over no filter",
        None => "µs per request",
    };
    let rows: Vec<Distribution<'_>> = report
        .targets
        .iter()
        .map(|target| Distribution {
            name: &target.name,
            figures: &target.micros_by_round,
            spread: target.micros,
        })
        .collect();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>What filters cost</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>What filters cost</h1>\n<p>Measured on {}, in {} rounds that take every target in turn.",
        report.on, report.rounds
    );
    if let Some(base) = &report.base_micros {
        let _ = write!(
            page,
            " Without a filter a request takes {} µs of Envoy’s processor time.",
            spread(base)
        );
    }
    page.push_str("</p>\n<h2>Time</h2>\n");
    page.push_str(&distributions(&rows, over));
    page.push_str(
        "<p class=\"note\">How many rounds gave which time; the line below is the middle half of the rounds, \
         the upright one the median. Rounds that something else disturbed may lie outside.</p>\n",
    );
    page.push_str(&summary(report, over));
    let inside: Vec<(&str, &Inside)> = report
        .targets
        .iter()
        .filter_map(|target| Some((target.name.as_str(), target.inside.as_ref()?)))
        .collect();
    if !inside.is_empty() {
        page.push_str(&crossings(&inside));
    }
    for target in &report.targets {
        page.push_str(&details(target));
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// What happens on the border, as plots of all targets.
fn crossings(inside: &[(&str, &Inside)]) -> String {
    let callbacks: Vec<(&str, Vec<(&str, f64)>)> = inside
        .iter()
        .map(|(name, inside)| {
            let parts = inside.callbacks.iter().map(|cost| (cost.callback, cost.micros.median));
            (*name, parts.collect())
        })
        .collect();
    let functions: Vec<(&str, Vec<(&str, f64)>)> = inside
        .iter()
        .map(|(name, inside)| {
            let parts =
                inside.functions.iter().map(|cost| (cost.function, cost.traffic.host_calls));
            (*name, parts.collect())
        })
        .collect();
    format!(
        "<h2>Callbacks</h2>\n{}<h2>Host calls</h2>\n{}",
        bars(&callbacks, "µs per request in each callback"),
        bars(&functions, "host calls per request")
    )
}

fn bars(rows: &[(&str, Vec<(&str, f64)>)], unit: &str) -> String {
    let mut labels: Vec<&str> = Vec::new();
    for (label, _) in rows.iter().flat_map(|(_, parts)| parts) {
        if !labels.contains(label) {
            labels.push(label);
        }
    }
    let place = |label: &str| labels.iter().position(|known| *known == label).unwrap_or_default();
    let rows: Vec<Stack<'_>> = rows
        .iter()
        .map(|(name, parts)| {
            let parts = parts.iter().map(|&(label, size)| (place(label), size)).collect();
            Stack { name, parts }
        })
        .collect();
    stacks(&rows, &labels, unit) + &legend(&labels)
}

fn summary(report: &Report, over: &str) -> String {
    let mut rows = Vec::new();
    for target in &report.targets {
        let mut row = vec![target.name.clone(), spread(&target.micros), spread(&target.ratio)];
        if let Some(inside) = &target.inside {
            let traffic = &inside.traffic;
            row.extend([number(inside.fuel), number(traffic.host_calls), bytes(traffic)]);
        }
        rows.push(row);
    }
    let head = ["target", over, "ratio to the first", "fuel", "host calls", "bytes copied"];
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    table(head.get(..columns).unwrap_or(&head), &rows)
}

fn details(target: &Target) -> String {
    let answers: Vec<String> =
        target.answers.iter().map(|(answer, times)| format!("{answer} × {times}")).collect();
    let mut html = format!(
        "<h2>{}</h2>\n<p>Answers: {}.</p>\n",
        escape(&target.name),
        escape(&answers.join(", "))
    );
    let Some(inside) = &target.inside else { return html };
    let start = inside.start;
    let _ = writeln!(
        html,
        "<p>Compiled in {:.1} ms. From the cache: loaded in {:.2} ms, started and configured in {:.2} ms.</p>\n\
         <p>Memory: {}.</p>",
        start.compile_millis,
        start.load_millis,
        start.start_millis,
        escape(&memory(&inside.memory))
    );
    let rows: Vec<Vec<String>> = inside
        .callbacks
        .iter()
        .map(|CallbackCost { callback, times, micros, fuel, traffic }| {
            let (times, fuel) = (number(*times), number(*fuel));
            let calls = number(traffic.host_calls);
            vec![(*callback).to_owned(), times, spread(micros), fuel, calls, bytes(traffic)]
        })
        .collect();
    let head = ["callback", "times", "µs", "fuel", "host calls", "bytes copied"];
    html.push_str(&table(&head, &rows));
    let rows: Vec<Vec<String>> = inside
        .functions
        .iter()
        .map(|FunctionCost { function, traffic }| {
            vec![(*function).to_owned(), number(traffic.host_calls), bytes(traffic)]
        })
        .collect();
    html.push_str(&table(&["host function", "times", "bytes copied"], &rows));
    html
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = String::from("<table>\n<tr>");
    for cell in head {
        let _ = write!(html, "<th>{}</th>", escape(cell));
    }
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    html
}
