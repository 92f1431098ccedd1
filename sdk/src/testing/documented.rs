//! Whether a README tells of every key of a configuration, and of no other.

use std::collections::BTreeSet;

use serde_json::Value;

/// The line above the rows of a README that have a key each.
const HEADING: &str = "| field | meaning | default | bounds |";

/// Compares the keys of a configuration with those that a README tells of: in the first cell of a row below
/// `| field | meaning | default | bounds |`, as `` `rules[].limit.per` ``, several with commas between. Every
/// value that has no fields of its own needs a row, and what has fields or items may have one. `whole` are
/// ends of paths whose fields are told elsewhere: they need one row.
///
/// # Errors
///
/// The keys that have no row, and the rows that are of no key.
///
/// # Examples
///
/// ```
/// use schemars::JsonSchema;
/// use tollgate::testing::compare_documented;
///
/// #[derive(serde::Deserialize, JsonSchema)]
/// struct Limit {
///     per: String,
/// }
///
/// let readme = "| field | meaning | default | bounds |\n| --- | --- | --- | --- |\n| `par` | | | |\n";
/// let error = compare_documented(&tollgate::config::schema::<Limit>().to_value(), readme, &[]);
/// assert_eq!(error, Err("without a row: `per`; of no key: `par`".to_owned()));
/// ```
pub fn compare_documented(schema: &Value, readme: &str, whole: &[&str]) -> Result<(), String> {
    let mut keys = Keys { root: schema, whole, leaves: BTreeSet::new(), others: BTreeSet::new() };
    keys.collect(schema, "");
    let rows = readme.lines().skip_while(|line| *line != HEADING).skip(2);
    let told: BTreeSet<String> = rows
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_start_matches('|').split(" | ").next())
        .flat_map(|cell| cell.split(", "))
        .map(|key| key.trim().trim_matches('`').to_owned())
        .collect();
    let list = |keys: Vec<&String>| match keys.as_slice() {
        [] => "none".to_owned(),
        keys => keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
    };
    let missing: Vec<_> = keys.leaves.difference(&told).collect();
    let wrong: Vec<_> =
        told.difference(&keys.leaves).filter(|key| !keys.others.contains(*key)).collect();
    if missing.is_empty() && wrong.is_empty() {
        return Ok(());
    }
    Err(format!("without a row: {}; of no key: {}", list(missing), list(wrong)))
}

struct Keys<'a> {
    root: &'a Value,
    whole: &'a [&'a str],
    /// Values that have no fields of their own, by their paths.
    leaves: BTreeSet<String>,
    /// What has fields or items.
    others: BTreeSet<String>,
}

impl Keys<'_> {
    fn collect(&mut self, schema: &Value, path: &str) {
        let own = path.trim_end_matches("[]").to_owned();
        if self.whole.iter().any(|end| path.ends_with(end)) {
            self.leaves.insert(own);
            return;
        }
        let definition = schema.get("$ref").and_then(Value::as_str);
        if let Some(definition) =
            definition.and_then(|name| self.root.pointer(name.trim_start_matches('#')))
        {
            return self.collect(definition, path);
        }
        match (schema.get("properties").and_then(Value::as_object), schema.get("items")) {
            (Some(fields), _) => {
                for (name, field) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.collect(field, &format!("{path}{dot}{name}"));
                }
                self.others.insert(own);
            }
            (None, Some(items)) => {
                self.others.insert(own);
                self.collect(items, &format!("{path}[]"));
            }
            (None, None) => {
                self.leaves.insert(own);
            }
        }
    }
}
