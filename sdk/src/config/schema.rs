//! The JSON Schema of a configuration, from the types that read it.
//!
//! Not here: a schema for values that are written; filters only read.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::borrow::Cow;

use super::strict::{AtLeastOne, Object};

/// The JSON Schema, draft 2020-12, of what [`parse`](super::parse) takes as a `T`.
///
/// It takes every document that is a `T` but for what JSON Schema cannot say: rules between several
/// fields, that a field stands only once, and that a whole number is not written `1.0`.
///
/// # Examples
///
/// ```
/// # use schemars::JsonSchema;
/// # use serde::Deserialize;
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Greeting {
///     /// Whom to greet.
///     to: String,
/// }
///
/// let schema = tollgate::config::schema::<Greeting>();
/// assert_eq!(schema.get("required"), Some(&serde_json::json!(["to"])));
/// assert_eq!(schema.get("additionalProperties"), Some(&serde_json::json!(false)));
/// ```
pub fn schema<T: JsonSchema>() -> Schema {
    // A field that may be absent has the default `None`, which cannot be written.
    let without_null = RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default").is_some_and(serde_json::Value::is_null) {
            schema.remove("default");
        }
    });
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    settings.with_transform(without_null).into_generator().into_root_schema_for::<T>()
}

/// Where a module has a text: its address in the upper half, its length in bytes in the lower. It stays
/// there as long as the module lives.
pub(crate) fn in_memory(text: String) -> u64 {
    let text: &'static str = String::leak(text);
    let half = |number: usize| u64::from(u32::try_from(number).unwrap_or_default());
    half(text.as_ptr().addr()) << 32 | half(text.len())
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for AtLeastOne<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("AtLeastOne_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = <Vec<T>>::json_schema(generator);
        schema.insert("minItems".to_owned(), 1.into());
        schema
    }
}
