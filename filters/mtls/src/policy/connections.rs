//! The schema of a policy for connections: that of one for requests, without what only these have.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::clause::Field;
use super::written::WrittenPolicy;
use super::{ConnectionPolicy, Part};

impl JsonSchema for ConnectionPolicy {
    fn schema_name() -> Cow<'static, str> {
        "ConnectionPolicy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = WrittenPolicy::json_schema(generator);
        schema.insert("description".to_owned(), "Who is connecting, and may they.".into());
        remove(schema.get_mut("properties"), &["answer", "forward"]);
        let definitions = generator.definitions_mut();
        let mut properties = |name: &str, inner: &str, fields: &[&str]| {
            let definition = definitions.get_mut(name);
            remove(definition.and_then(|definition| definition.pointer_mut(inner)), fields);
        };
        properties("Identity", "/properties", &["forwarded"]);
        properties("Rule", "/properties", &["when"]);
        let of_requests = Field::ALL
            .into_iter()
            .filter(|(field, part, ..)| *part == Part::To && !field.is_of_connections());
        for (_, _, name, negated) in of_requests {
            properties("Rule", "/properties/to/items/properties", &[name, negated]);
        }
        if let Some(sources) = definitions.get_mut("Source").and_then(|it| it.get_mut("oneOf"))
            && let Some(sources) = sources.as_array_mut()
        {
            sources.retain(|source| source.get("const").is_none_or(|word| word != "forwarded"));
        }
        schema
    }
}

fn remove(properties: Option<&mut Value>, fields: &[&str]) {
    if let Some(properties) = properties.and_then(Value::as_object_mut) {
        properties.retain(|name, _| !fields.contains(&name.as_str()));
    }
}
