//! Documents that are like another one but for one place: what a schema and a parser have to judge alike.

use serde_json::Value;

/// The JSON pointers to the document and to all values in it.
pub fn pointers(document: &Value) -> Vec<String> {
    fn collect(value: &Value, pointer: String, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    collect(item, format!("{pointer}/{index}"), found);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    collect(field, format!("{pointer}/{name}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        found.push(pointer);
    }
    let mut found = Vec::new();
    collect(document, String::new(), &mut found);
    found
}

/// The document with each of these texts, and with a value of each other kind, in place of each value.
pub fn with_other_values(document: &Value, texts: &[&str]) -> impl Iterator<Item = Value> {
    let texts = texts.iter().map(|text| Value::from(*text));
    let others = [Value::Null, Value::Array(Vec::new()), Value::Object(serde_json::Map::new())];
    let numbers = [Value::from(0), Value::from(7), Value::from(0.5), Value::from(true)];
    let values: Vec<Value> = texts.chain(others).chain(numbers).collect();
    pointers(document).into_iter().flat_map(move |pointer| {
        let changed = |value: &Value| {
            let mut changed = document.clone();
            if let Some(place) = changed.pointer_mut(&pointer) {
                place.clone_from(value);
            }
            changed
        };
        values.iter().map(changed).collect::<Vec<_>>()
    })
}

/// The document without each of its fields, and with a field `other` beside each.
pub fn with_other_fields(document: &Value) -> impl Iterator<Item = Value> {
    pointers(document).into_iter().flat_map(|pointer| {
        let changed = |change: fn(&mut serde_json::Map<String, Value>, &str)| {
            let (parent, name) = pointer.rsplit_once('/')?;
            let mut changed = document.clone();
            change(changed.pointer_mut(parent)?.as_object_mut()?, name);
            Some(changed)
        };
        let without = changed(|fields, name| drop(fields.remove(name)));
        let with = changed(|fields, _| drop(fields.insert("other".to_owned(), Value::from("x"))));
        without.into_iter().chain(with)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_is_changed() {
        let document = json!({ "a": [1, { "b": 2 }] });
        assert_eq!(pointers(&document), ["/a/0", "/a/1/b", "/a/1", "/a", ""]);
        let changed: Vec<Value> = with_other_values(&document, &["x"]).collect();
        assert_eq!(changed.len(), 5 * 8);
        assert!(changed.contains(&json!({ "a": [1, { "b": "x" }] })));
        let changed: Vec<Value> = with_other_fields(&document).collect();
        assert_eq!(
            changed,
            [
                json!({ "a": [1, {}] }),
                json!({ "a": [1, { "b": 2, "other": "x" }] }),
                json!({}),
                json!({ "a": [1, { "b": 2 }], "other": "x" }),
            ]
        );
    }
}
