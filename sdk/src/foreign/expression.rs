//! Expressions of CEL that the host evaluates over its attributes.

use super::{ForeignError, call};

/// An expression of the Common Expression Language, compiled by the host and evaluated over the attributes
/// of a stream. Envoy has it when it is built with a parser for them, as its own releases are.
///
/// Dropping it frees it in the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Expression {
    token: Vec<u8>,
}

impl Expression {
    /// Compiles an expression, such as `request.method == "GET"`.
    ///
    /// # Errors
    ///
    /// [`ForeignError`] when the host has no such function, or does not understand the expression.
    pub fn compile(expression: &str) -> Result<Self, ForeignError> {
        call("expr_create", expression.as_bytes()).map(|token| Self { token })
    }

    /// Evaluates it in the stream that is being handled. The bytes are those of an attribute;
    /// [`Value::decode`](crate::attributes::Value::decode) reads them.
    ///
    /// # Errors
    ///
    /// [`ForeignError`] when the expression has no value here.
    pub fn evaluate(&self) -> Result<Vec<u8>, ForeignError> {
        call("expr_evaluate", &self.token)
    }
}

impl Drop for Expression {
    fn drop(&mut self) {
        // What the host does not free it keeps; there is nobody to tell.
        let _freed = call("expr_delete", &self.token);
    }
}
