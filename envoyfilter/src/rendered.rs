//! What comes of a policy: documents, and notes to who renders them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::lint::{Finding, lint};

/// What comes of a policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// The documents, in the order in which they are written.
    pub documents: Vec<Document>,
    /// What the target does otherwise than the policy says, where requests do not depend on it.
    pub notes: Vec<String>,
}

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The name of a file for it.
    pub file: String,
    /// What it is for; lines without `#`.
    pub comment: String,
    /// What it says.
    pub value: Value,
    /// What it is written in.
    pub syntax: Syntax,
}

/// What a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl Document {
    pub(crate) fn new(file: &str, comment: &str, value: Value) -> Self {
        Self { file: file.to_owned(), comment: comment.to_owned(), value, syntax: Syntax::Yaml }
    }

    /// For who reads JSON only.
    pub(crate) fn json(file: &str, value: Value) -> Self {
        Self { syntax: Syntax::Json, ..Self::new(file, "", value) }
    }

    /// As it is written.
    ///
    /// # Errors
    ///
    /// When YAML cannot carry a text, which none that a policy can have is.
    pub fn to_text(&self) -> Result<String, serde_saphyr::ser::Error> {
        if self.syntax == Syntax::Json {
            return Ok(format!("{:#}\n", self.value));
        }
        let mut text = String::new();
        for line in self.comment.lines() {
            let _ = writeln!(text, "# {line}");
        }
        text += &to_yaml(&self.value)?;
        Ok(text)
    }
}

impl Rendered {
    pub(crate) fn of(document: Document) -> Self {
        Self { documents: vec![document], notes: Vec::new() }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Notes the traps in what is rendered. Those are the policy's: no target makes any of its own.
    pub(crate) fn note_traps(&mut self) {
        // What cannot be written is told to who writes it.
        let text = self.to_text().unwrap_or_default();
        for Finding { rule, what, why, fix, .. } in lint(&text).unwrap_or_default() {
            let note = format!("{rule}: {what}. {why} So {fix}.");
            // Each patch of a filter may lead into the same one.
            if !self.notes.contains(&note) {
                self.note(note);
            }
        }
    }

    /// All documents as one text.
    ///
    /// # Errors
    ///
    /// As [`Document::to_text`].
    pub fn to_text(&self) -> Result<String, serde_saphyr::ser::Error> {
        let documents = self.documents.iter().map(Document::to_text);
        Ok(documents.collect::<Result<Vec<_>, _>>()?.join("---\n"))
    }
}

/// A value as YAML, in its own order.
pub(crate) fn to_yaml(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    // Lines stay whole: a reference that is folded cannot be copied.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options)
}

/// Puts a field into an object.
pub(crate) fn put(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(key.to_owned(), value);
    }
}
