//! Foreign functions: those of Envoy 1.40.
//!
//! Source: Envoy, `source/extensions/common/wasm/foreign.cc`; statuses and results were measured on Envoy
//! 1.40.

mod expression;
mod message;
mod signature;

use std::io::Read;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use tollgate_abi::{Answer, Call, Reply, Status};

use super::filter_state::{Prototype, Shape, Span, object_bytes};
use super::{Scope, World};
use crate::limits::Bounded;
pub(super) use expression::Expressions;
use message::Fields;

/// Why a function refused.
type Refusal = (Status, &'static str);

/// Guests make the host keep more than it does.
const TOO_MUCH: Refusal =
    (Status::InternalFailure, "the guests make the host keep more than the limit kept_bytes");

/// What stands for arguments that are no message.
const NO_MESSAGE: Refusal = (Status::BadArgument, "the arguments are no such message");

impl World {
    pub(super) fn call_foreign_function(
        &mut self,
        scope: &Scope,
        name: &[u8],
        arguments: &[u8],
    ) -> Reply {
        let result = match name {
            b"compress" => compress(arguments),
            b"uncompress" => match uncompress(arguments, self.limits.uncompressed_bytes) {
                Uncompressed::Bytes(bytes) => Ok(bytes),
                Uncompressed::NotZlib => {
                    Err((Status::SerializationFailure, "the bytes are not in the format of zlib"))
                }
                Uncompressed::TooMuch => {
                    let beyond = self.limits.exceeded(Bounded::uncompressed_bytes);
                    let why = format!("the bytes become too many, {beyond}");
                    return Reply::Trap { why: why.into() };
                }
            },
            b"verify_signature" => signature::verify(arguments),
            b"sign" => signature::sign(arguments),
            b"clear_route_cache" => {
                self.forget_route(scope);
                Ok(Vec::new())
            }
            b"set_envoy_filter_state" => {
                self.set_envoy_filter_state(scope, arguments).map(|()| Vec::new())
            }
            b"declare_property" => self.declare(scope, arguments).map(|()| Vec::new()),
            b"expr_create" if arguments.len() > self.limits.expression_bytes => {
                let beyond = self.limits.exceeded(Bounded::expression_bytes);
                let why = format!("an expression has {} bytes, {beyond}", arguments.len());
                return Reply::Trap { why: why.into() };
            }
            b"expr_create" => self.create_expression(scope, arguments),
            b"expr_evaluate" => {
                let Ok(result) = self.evaluate_expression(scope, arguments) else {
                    let (name, arguments) = (name.to_vec(), arguments.to_vec());
                    return self.unserved(&Call::CallForeignFunction { name, arguments });
                };
                result
            }
            b"expr_delete" => self.delete_expression(scope, arguments),
            _ => return Reply::refused(Status::NotFound, "Envoy has no such foreign function"),
        };
        match result {
            Ok(bytes) => Reply::Done(Answer::Bytes(bytes)),
            // As on Envoy: what a function gives is told even when it refuses.
            Err((status, why)) => {
                Reply::Failed { status, why: why.into(), answer: Answer::Bytes(Vec::new()) }
            }
        }
    }

    fn set_envoy_filter_state(&mut self, scope: &Scope, arguments: &[u8]) -> Result<(), Refusal> {
        let fields = Fields::parse(arguments).ok_or(NO_MESSAGE)?;
        let (name, value) = (fields.text(1).ok_or(NO_MESSAGE)?, fields.text(2).ok_or(NO_MESSAGE)?);
        let bytes = object_bytes(name.as_bytes(), value.as_bytes());
        self.keep_for_stream(scope, bytes).map_err(|_| TOO_MUCH)?;
        self.set_object(scope, name, value, span(fields.number(3)))
    }

    fn declare(&mut self, scope: &Scope, arguments: &[u8]) -> Result<(), Refusal> {
        let fields = Fields::parse(arguments).ok_or(NO_MESSAGE)?;
        let name = fields.text(1).ok_or(NO_MESSAGE)?;
        let prototype = Prototype {
            is_read_only: fields.number(2) != 0,
            shape: match fields.number(3) {
                2 | 3 => Shape::WithParts,
                _ => Shape::Plain,
            },
            span: span(fields.number(5)),
        };
        self.keep_for_stream(scope, object_bytes(name.as_bytes(), &[])).map_err(|_| TOO_MUCH)?;
        self.declare_property(scope, name.as_bytes(), prototype)
    }
}

fn span(number: u64) -> Span {
    match number {
        1 => Span::Request,
        2 => Span::Connection,
        _ => Span::FilterChain,
    }
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut compressed = Vec::new();
    match ZlibEncoder::new(bytes, Compression::default()).read_to_end(&mut compressed) {
        Ok(_) => Ok(compressed),
        Err(_) => Err((Status::SerializationFailure, "the bytes cannot be compressed")),
    }
}

enum Uncompressed {
    Bytes(Vec<u8>),
    NotZlib,
    TooMuch,
}

fn uncompress(bytes: &[u8], most: usize) -> Uncompressed {
    let mut uncompressed = Vec::new();
    let one_more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut decoder = ZlibDecoder::new(bytes).take(one_more);
    match decoder.read_to_end(&mut uncompressed) {
        Ok(size) if size > most => Uncompressed::TooMuch,
        Ok(_) if bytes.is_empty() => Uncompressed::NotZlib,
        Ok(_) => Uncompressed::Bytes(uncompressed),
        Err(_) => Uncompressed::NotZlib,
    }
}
