//! Expressions over attributes: `expr_create`, `expr_evaluate` and `expr_delete`.
//!
//! A library reads the expressions and knows what operators and functions do. What an attribute is, the
//! properties say: wherever an expression names one, its value is put in its place.
//!
//! Not here: messages of Protocol Buffers that an expression makes, which Envoy has a few of.
//!
//! Source: Envoy, `source/extensions/common/wasm/foreign.cc`; statuses and results were measured on Envoy
//! 1.40.

mod bounds;

use std::collections::{BTreeMap, HashMap};

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};
use cel::objects::Key;
use cel::{IdedExpr, Value as Cel};
use chrono::{DateTime, TimeDelta};

use super::Refusal;
use crate::world::property::{Found, Value};
use crate::world::{Link, Scope, World};
use bounds::Values;
use tollgate_abi::Status;

/// The expressions of all guests, by the root that has created them.
#[derive(Debug, Default)]
pub(in crate::world) struct Expressions {
    by_root: BTreeMap<Link, OfRoot>,
}

#[derive(Debug, Default)]
struct OfRoot {
    /// What the next expression is called by.
    next: u32,
    compiled: BTreeMap<u32, IdedExpr>,
}

/// What an evaluation cannot go on with: the host does not know an attribute that Envoy has.
pub(super) struct Unserved;

const NO_EXPRESSION: Refusal = (Status::BadArgument, "this is no expression that Envoy takes");
const NO_TOKEN: Refusal = (Status::BadArgument, "the arguments are not four bytes");
const NO_VALUE: Refusal = (Status::InternalFailure, "the expression has no value here");
const NO_FORM: Refusal =
    (Status::SerializationFailure, "the value of the expression has no form as bytes");

impl World {
    pub(super) fn create_expression(
        &mut self,
        scope: &Scope,
        source: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let source = str::from_utf8(source).map_err(|_| NO_EXPRESSION)?;
        let parsed = bounds::parse(source)?;
        self.keep(source.len().saturating_mul(bounds::PARSED_BYTES))
            .map_err(|_| (Status::InternalFailure, "too much is kept"))?;
        let of_root = self.expressions_of(scope);
        let token = of_root.next;
        of_root.next = of_root.next.wrapping_add(1);
        if !is_known(&parsed.expr) {
            return Err(NO_EXPRESSION);
        }
        of_root.compiled.insert(token, parsed);
        Ok(token.to_le_bytes().to_vec())
    }

    pub(super) fn evaluate_expression(
        &mut self,
        scope: &Scope,
        token: &[u8],
    ) -> Result<Result<Vec<u8>, Refusal>, Unserved> {
        let Some(token) = number(token) else { return Ok(Err(NO_TOKEN)) };
        let Some(mut expression) = self.expressions_of(scope).compiled.get(&token).cloned() else {
            return Ok(Err((Status::NotFound, "no expression has this token")));
        };
        // What only names an attribute is that property.
        if let Some(path) = path_of(&expression.expr)
            && let Some(value) = self.attribute(scope, &path)?
        {
            return Ok(value.serialize().ok_or(NO_FORM));
        }
        let mut values = Values::default();
        self.fill(scope, &mut expression, &mut values)?;
        let context = values.bounded();
        // The library writes a type as its name.
        if matches!(&expression.expr, Expr::Call(call) if call.func_name == "type") {
            return Ok(Err(NO_FORM));
        }
        let Ok(value) = Cel::resolve(&expression, &context) else { return Ok(Err(NO_VALUE)) };
        Ok(from_cel(&value).and_then(|value| value.serialize()).ok_or(NO_FORM))
    }

    pub(super) fn delete_expression(
        &mut self,
        scope: &Scope,
        token: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let token = number(token).ok_or(NO_TOKEN)?;
        self.expressions_of(scope).compiled.remove(&token);
        Ok(Vec::new())
    }

    fn expressions_of(&mut self, scope: &Scope) -> &mut OfRoot {
        let root = self.root_of(scope).unwrap_or(scope.effective);
        self.expressions.by_root.entry(Link { vm: scope.vm, root }).or_default()
    }

    fn attribute(&self, scope: &Scope, path: &[String]) -> Result<Option<Value<'_>>, Unserved> {
        match self.find(scope, path.join("\0").as_bytes()) {
            Found::Value(value) => Ok(Some(value)),
            Found::Absent => Ok(None),
            Found::Unserved => Err(Unserved),
        }
    }

    /// Puts values in the place of the attributes that an expression names. One that is absent stays,
    /// and is an error where it is evaluated.
    fn fill(
        &self,
        scope: &Scope,
        expression: &mut IdedExpr,
        values: &mut Values,
    ) -> Result<(), Unserved> {
        if let Some(path) = path_of(&expression.expr) {
            if let Some(value) = self.attribute(scope, &path)?
                && values.take(&value)
                && let Some(value) = to_cel(&path, value)
            {
                let name = format!("@{}", expression.id);
                values.context.add_variable_from_value(name.as_str(), value);
                expression.expr = Expr::Ident(name);
            }
            return Ok(());
        }
        match &mut expression.expr {
            Expr::Select(SelectExpr { operand, field, test: true }) => {
                let Some(mut path) = path_of(&operand.expr) else {
                    return self.fill(scope, operand, values);
                };
                if self.attribute(scope, &path)?.is_some() {
                    path.push(field.clone());
                    let is_there = self.attribute(scope, &path)?.is_some();
                    expression.expr = Expr::Literal(LiteralValue::Boolean(is_there.into()));
                }
                Ok(())
            }
            Expr::Select(select) => self.fill(scope, &mut select.operand, values),
            Expr::Call(CallExpr { target, args, .. }) => {
                let parts = target.as_deref_mut().into_iter().chain(args);
                parts.into_iter().try_for_each(|part| self.fill(scope, part, values))
            }
            Expr::List(list) => {
                list.elements.iter_mut().try_for_each(|part| self.fill(scope, part, values))
            }
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.fill(scope, &mut entry.key, values)?;
                    self.fill(scope, &mut entry.value, values)
                }
                EntryExpr::StructField(_) => Ok(()),
            }),
            Expr::Comprehension(all) => {
                let all = all.as_mut();
                let parts = [
                    &mut all.iter_range,
                    &mut all.accu_init,
                    &mut all.loop_cond,
                    &mut all.loop_step,
                    &mut all.result,
                ];
                parts.into_iter().try_for_each(|part| self.fill(scope, part, values))?;
                bounds::count_elements(&mut all.loop_cond);
                Ok(())
            }
            Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }
}

/// Whether Envoy knows all that an expression is made of.
fn is_known(expression: &Expr) -> bool {
    match expression {
        Expr::Call(CallExpr { func_name, target, args }) => {
            let parts = target.as_deref().into_iter().chain(args);
            KNOWN.contains(&func_name.as_str())
                && parts.into_iter().all(|part| is_known(&part.expr))
        }
        Expr::Select(select) => is_known(&select.operand.expr),
        Expr::List(list) => list.elements.iter().all(|element| is_known(&element.expr)),
        Expr::Map(map) => map.entries.iter().all(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => is_known(&entry.key.expr) && is_known(&entry.value.expr),
            EntryExpr::StructField(_) => false,
        }),
        Expr::Comprehension(all) => {
            let parts =
                [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result];
            parts.into_iter().all(|part| is_known(&part.expr))
        }
        Expr::Struct(_) | Expr::Unspecified => false,
        Expr::Ident(_) | Expr::Literal(_) => true,
    }
}

/// The path of an attribute, if an expression is one: names, and what is selected by name or by a
/// constant.
fn path_of(expression: &Expr) -> Option<Vec<String>> {
    match expression {
        Expr::Ident(name) => Some(vec![name.clone()]),
        Expr::Select(SelectExpr { operand, field, test: false }) => {
            let mut path = path_of(&operand.expr)?;
            path.push(field.clone());
            Some(path)
        }
        Expr::Call(CallExpr { func_name, target: None, args }) if func_name == operators::INDEX => {
            let [operand, index] = args.as_slice() else { return None };
            let mut path = path_of(&operand.expr)?;
            path.push(match &index.expr {
                Expr::Literal(LiteralValue::String(key)) => key.inner().to_owned(),
                Expr::Literal(LiteralValue::Int(index)) => index.inner().to_string(),
                _ => return None,
            });
            Some(path)
        }
        _ => None,
    }
}

/// The value of an attribute as the library knows it; `None` of what has no form.
fn to_cel(path: &[String], value: Value<'_>) -> Option<Cel> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let text = |bytes: &[u8]| Cel::from(String::from_utf8_lossy(bytes).as_ref());
    let key = |bytes: &[u8]| Key::from(String::from_utf8_lossy(bytes).as_ref());
    Some(match (path.as_slice(), value) {
        (["request", "time"], Value::Int(nanos)) => {
            Cel::Timestamp(DateTime::from_timestamp_nanos(nanos).fixed_offset())
        }
        (
            ["request", "duration"]
            | ["response", "backend_latency"]
            | ["upstream", "cx_pool_ready_duration"],
            Value::Int(nanos),
        ) => Cel::Duration(TimeDelta::nanoseconds(nanos)),
        (_, Value::Null) => Cel::Null,
        (_, Value::Bool(value)) => Cel::Bool(value),
        (_, Value::Int(value)) => Cel::Int(value),
        (_, Value::Uint(value)) => Cel::UInt(value),
        (_, Value::Double(value)) => Cel::Float(value),
        (_, Value::Text(value)) => text(&value),
        (_, Value::List(values)) => Cel::from(
            values.into_iter().map(|value| to_cel(&[], value)).collect::<Option<Vec<_>>>()?,
        ),
        (_, Value::Map(values)) => {
            let pair = |(name, value): (Vec<u8>, _)| Some((key(&name), to_cel(&[], value)?));
            Cel::from(values.into_iter().map(pair).collect::<Option<HashMap<_, _>>>()?)
        }
        (_, Value::Headers(lines)) => {
            let lines = lines.iter().map(|(name, value)| (key(name), text(value)));
            Cel::from(lines.collect::<HashMap<_, _>>())
        }
        (_, Value::Parts(parts)) => {
            let pair = |(name, value): (&[u8], _)| Some((key(name), to_cel(&[], value)?));
            Cel::from(parts.into_iter().map(pair).collect::<Option<HashMap<_, _>>>()?)
        }
        (_, Value::Object | Value::Message(_)) => return None,
    })
}

/// What an expression has come to, as the value of a property; `None` of what has no form as bytes.
fn from_cel(value: &Cel) -> Option<Value<'static>> {
    Some(match value {
        Cel::Null => Value::Null,
        Cel::Bool(value) => Value::Bool(*value),
        Cel::Int(value) => Value::Int(*value),
        Cel::UInt(value) => Value::Uint(*value),
        Cel::Float(value) => Value::Double(*value),
        Cel::String(value) => Value::Text(value.as_bytes().to_vec()),
        Cel::Bytes(value) => Value::Text(value.to_vec()),
        Cel::Duration(value) => Value::Int(value.num_nanoseconds()?),
        Cel::Timestamp(value) => Value::Int(value.timestamp_nanos_opt()?),
        Cel::List(values) => Value::List(values.iter().map(from_cel).collect::<Option<Vec<_>>>()?),
        Cel::Map(map) => {
            let pair = |(key, value): (&Key, &Cel)| {
                Some((from_cel(&key.into())?.serialize()?, from_cel(value)?))
            };
            let mut pairs = map.map.iter().map(pair).collect::<Option<Vec<_>>>()?;
            // The library keeps no order; the same expression gives the same bytes each time.
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Map(pairs)
        }
        Cel::Function(..) | Cel::Opaque(_) | Cel::Struct(_) => return None,
    })
}

fn number(token: &[u8]) -> Option<u32> {
    token.try_into().ok().map(u32::from_le_bytes)
}

/// The operators and functions that Envoy has: those of the language itself.
const KNOWN: &[&str] = &[
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
    operators::NOT_STRICTLY_FALSE,
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];
