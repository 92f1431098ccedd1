//! Each trap is found, in a resource with that mistake alone; correct resources have none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tollgate_envoyfilter::lint::{Finding, RULES, Resources, Rule, lint};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(folder().join(file)).unwrap()
}

/// The files of a folder by their names, with what they say.
fn files(name: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder().join(name)).unwrap();
    let name_of = |file: PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<String> =
        entries.map(|entry| format!("{name}/{}", name_of(entry.unwrap().path()))).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

#[test]
fn every_seeded_mistake_is_found_where_it_stands() {
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    for (file, text) in files("traps") {
        let findings = lint(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let told: Vec<String> = findings
            .iter()
            .map(|finding| format!("{} at {}:{}", finding.rule, finding.line, finding.column))
            .collect();
        let expected = text.lines().next().unwrap().trim_start_matches("# ");
        if told != [expected] {
            wrong.push(format!("{file}: {expected}, not {told:?}"));
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
    let text = read("correct/tcp.yaml");
    let inline = format!("inline_bytes: {}", "A".repeat(1_600_000));
    let text = text.replace("filename: /var/local/wasm/tcp-guard.wasm", &inline);
    let rules: Vec<&str> = lint(&text).unwrap().iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["inline-too-large"]);
}

#[test]
fn correct_resources_have_no_traps() {
    for (file, text) in files("correct") {
        let findings = lint(&text).unwrap();
        assert!(findings.is_empty(), "{file}: {findings:#?}");
    }
}

#[test]
fn halves_of_a_pair_may_be_in_two_files() {
    let pair = read("correct/pair.yaml");
    let (start, second) = pair.split_at(pair.find("  - applyTo: HTTP_FILTER").unwrap());
    let (head, _) = start.split_at(start.find("  - applyTo").unwrap());
    let resources = |text: &str| Resources::parse(text).unwrap();
    let (extension, filter) = (resources(start), resources(&format!("{head}{second}")));
    let rules = |findings: Vec<Finding>| findings.iter().map(|it| it.rule).collect::<Vec<_>>();
    assert_eq!(rules(extension.traps(&[])), ["unasked-extension"]);
    assert_eq!(rules(filter.traps(&[])), ["unknown-extension"]);
    let both = [&extension, &filter];
    assert_eq!(both.map(|file| rules(file.traps(&both)).len()), [0, 0]);
}

#[test]
fn lists_are_looked_into() {
    let list = |kind: &str, item: &str| {
        format!("kind: {kind}\nitems:\n- {}\n", read(item).replace('\n', "\n  "))
    };
    let rules = |text: &str| lint(text).unwrap().iter().map(|it| it.rule).collect::<Vec<_>>();
    for kind in ["List", "EnvoyFilterList"] {
        assert_eq!(rules(&list(kind, "traps/bootstrap.yaml")), ["bootstrap"], "{kind}");
        assert_eq!(rules(&list(kind, "correct/pair.yaml")), [""; 0], "{kind}");
    }
}

/// `BLESS=1` writes the table of the guide anew.
#[test]
fn the_guide_lists_every_rule() {
    let file = folder().join("../../../docs/guide/traps.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, table) = text.split_at(text.find("| --- ").unwrap());
    // What would end a cell is escaped.
    let row = |Rule { id, why, fix }: &Rule| {
        format!("| `{id}` | {} | {} |\n", why.replace('|', "\\|"), fix.replace('|', "\\|"))
    };
    let rows: String = RULES.iter().map(|rule| row(rule)).collect();
    let expected = format!("| --- | --- | --- |\n{rows}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, format!("{head}{expected}")).unwrap();
    } else {
        assert_eq!(table, expected, "review {} with BLESS=1", file.display());
    }
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    let error = lint("kind: EnvoyFilter\nspec: [").unwrap_err();
    assert_eq!(error.line, 2, "{error}");
    assert_eq!(lint("{ kind: [ EnvoyFilter ], spec: 1 }\n---\n- 1\n").unwrap(), []);
}
