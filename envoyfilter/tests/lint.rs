//! Each trap is found, in a resource with that mistake alone; correct resources have none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tollgate_envoyfilter::lint::{Finding, RULES, Resources, lint};

fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn every_seeded_mistake_is_found_where_it_stands() {
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    for (file, text) in files("tests/lint/traps") {
        let name = file.display();
        let findings = lint(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let told: Vec<String> = findings
            .iter()
            .map(|finding| format!("{} at {}:{}", finding.rule, finding.line, finding.column))
            .collect();
        let expected = text.lines().next().unwrap().trim_start_matches("# ");
        if told != [expected] {
            wrong.push(format!("{name}: {expected}, not {told:?}"));
        }
        found.extend(findings.iter().map(|finding| finding.rule));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // It takes a text of more than a megabyte.
    let large = "inline-too-large";
    let seeded = RULES.iter().map(|rule| rule.id).filter(|rule| *rule != large);
    let unseeded: Vec<&str> = seeded.filter(|rule| !found.contains(rule)).collect();
    assert!(unseeded.is_empty(), "no file for {unseeded:?}");
}

#[test]
fn a_module_that_no_cluster_stores_is_found() {
    let (_, text) = files("tests/lint/correct")
        .into_iter()
        .find(|(file, _)| file.ends_with("tcp.yaml"))
        .unwrap();
    let inline = format!("inline_bytes: {}", "A".repeat(1_600_000));
    let text = text.replace("filename: /var/local/wasm/tcp-guard.wasm", &inline);
    let rules: Vec<&str> = lint(&text).unwrap().iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["inline-too-large"]);
}

#[test]
fn correct_resources_have_no_traps() {
    for (file, text) in files("tests/lint/correct") {
        let findings = lint(&text).unwrap();
        assert!(findings.is_empty(), "{}: {findings:#?}", file.display());
    }
}

#[test]
fn halves_of_a_pair_may_be_in_two_files() {
    let (_, pair) = files("tests/lint/correct")
        .into_iter()
        .find(|(file, _)| file.ends_with("pair.yaml"))
        .unwrap();
    let (start, second) = pair.split_at(pair.find("  - applyTo: HTTP_FILTER").unwrap());
    let (head, _) = start.split_at(start.find("  - applyTo").unwrap());
    let read = |text: &str| Resources::parse(text).unwrap();
    let (extension, filter) = (read(start), read(&format!("{head}{second}")));
    let rules = |findings: Vec<Finding>| findings.iter().map(|it| it.rule).collect::<Vec<_>>();
    assert_eq!(rules(extension.traps(&[])), ["unasked-extension"]);
    assert_eq!(rules(filter.traps(&[])), ["unknown-extension"]);
    let both = [&extension, &filter];
    assert_eq!(both.map(|file| rules(file.traps(&both)).len()), [0, 0]);
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    let error = lint("kind: EnvoyFilter\nspec: [").unwrap_err();
    assert_eq!(error.line, 2, "{error}");
    assert_eq!(lint("{ kind: [ EnvoyFilter ], spec: 1 }\n---\n- 1\n").unwrap(), []);
}
