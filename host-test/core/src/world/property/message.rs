//! Properties of the request and of the response.
//!
//! Source: Envoy, `RequestLookupValues` and `ResponseLookupValues` in
//! `source/extensions/filters/common/expr/context.cc`; checked on Envoy 1.40.

use std::time::Duration;

use super::value::Value;
use crate::world::clock::nanoseconds;
use crate::world::header::Lines;
use crate::world::stream::{Stage, Stream, grpc_status_of};

/// A property of the request.
pub(super) fn request<'a>(stream: &Stream, stage: &Stage, name: &[u8]) -> Option<Value<'a>> {
    let notes = &stream.notes;
    let is_visible = stage.logging || stage.request.headers_visible;
    let lines = is_visible.then_some(&stream.request.headers);
    let line = |name: &[u8]| lines?.first(name).map(<[u8]>::to_vec).map(Value::Text);
    let path = || lines?.first(b":path").or(Some(b""));
    match name {
        b"headers" => Some(map(lines)),
        b"headers_bytes" => Some(size(bytes(lines))),
        b"time" => Some(Value::Int(nanos(notes.came))),
        b"protocol" if stream.connection.is_none() => Some(Value::Text(b"HTTP/1.1".to_vec())),
        b"duration" => Some(Value::Int(nanos(notes.ended?.saturating_sub(notes.began)))),
        b"size" => match lines.and_then(|lines| lines.first(b"content-length")) {
            // As on Envoy: a length that is no number is none.
            Some(length) => str::from_utf8(length).ok()?.trim().parse().ok().map(Value::Int),
            None => Some(size(notes.received)),
        },
        b"total_size" => Some(size(notes.received.saturating_add(bytes(lines)))),
        b"path" => line(b":path"),
        b"url_path" => {
            let path = path()?;
            let end = question_mark(path).unwrap_or(path.len());
            path.get(..end).map(<[u8]>::to_vec).map(Value::Text)
        }
        b"query" => {
            let path = path()?;
            let start = question_mark(path).map_or(path.len(), |at| at.saturating_add(1));
            let query = path.get(start..)?.split(|&byte| byte == b'#').next()?;
            Some(Value::Text(query.to_vec()))
        }
        b"host" => line(b":authority"),
        b"scheme" => line(b":scheme"),
        b"method" => line(b":method"),
        b"referer" => line(b"referer"),
        b"useragent" => line(b"user-agent"),
        b"id" => line(b"x-request-id"),
        _ => None,
    }
}

/// A property of the response.
pub(super) fn response<'a>(stream: &Stream, stage: &Stage, name: &[u8]) -> Option<Value<'a>> {
    let notes = &stream.notes;
    let (message, lane) = (&stream.response, &stage.response);
    let headers = (stage.logging || lane.headers_visible).then_some(&message.headers);
    let trailers = (stage.logging || lane.trailers_visible).then_some(&message.trailers);
    match name {
        b"code" => notes.code.map(|code| Value::Int(code.into())),
        b"code_details" => notes.code_details.clone().map(Value::Text),
        b"flags" => Some(Value::Int(notes.flags)),
        b"grpc_status" => {
            let mut told = [trailers, headers].into_iter().flatten();
            match told.find_map(|lines| lines.first(b"grpc-status")) {
                Some(text) => Some(Value::Int(known_grpc_status(text))),
                None => notes.code.map(|code| Value::Int(grpc_status_of(code).into())),
            }
        }
        b"headers" => Some(map(headers)),
        b"headers_bytes" => Some(size(bytes(headers))),
        b"trailers" => Some(map(trailers)),
        b"size" => Some(size(notes.sent)),
        b"total_size" => {
            let lines = bytes(headers).saturating_add(bytes(trailers));
            Some(size(notes.sent.saturating_add(lines)))
        }
        b"backend_latency" => {
            let latency = notes.answered?.saturating_sub(notes.connected?);
            Some(Value::Int(nanos(latency)))
        }
        _ => None,
    }
}

/// All lines, those of one name joined by commas. Envoy gives them in no order.
fn map<'a>(lines: Option<&Lines>) -> Value<'a> {
    let mut map: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in lines.into_iter().flat_map(|lines| &lines.0) {
        match map.iter_mut().find(|(known, _)| known == name) {
            Some((_, joined)) => {
                joined.push(b',');
                joined.extend_from_slice(value);
            }
            None => map.push((name.clone(), value.clone())),
        }
    }
    Value::Headers(map)
}

fn bytes(lines: Option<&Lines>) -> usize {
    let lines = lines.into_iter().flat_map(|lines| &lines.0);
    lines.map(|(name, value)| name.len().saturating_add(value.len())).sum()
}

/// What is no status of gRPC is -1.
fn known_grpc_status(text: &[u8]) -> i64 {
    const LARGEST: i64 = 16;
    let status = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    status.filter(|status| (0..=LARGEST).contains(status)).unwrap_or(-1)
}

fn question_mark(path: &[u8]) -> Option<usize> {
    path.iter().position(|&byte| byte == b'?')
}

fn size<'a>(size: usize) -> Value<'a> {
    Value::Int(i64::try_from(size).unwrap_or(i64::MAX))
}

pub(super) fn nanos(time: Duration) -> i64 {
    i64::try_from(nanoseconds(time)).unwrap_or(i64::MAX)
}
