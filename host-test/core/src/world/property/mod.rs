//! Properties: what the proxy knows of a request, a connection and itself.
//!
//! A path is looked up by its first segment here, by its second in the file of the family, and further
//! down in the value that was found.

mod connection;
mod known;
mod message;
mod value;

use std::borrow::Cow;

use tollgate_abi::{Answer, Call, Reply, Status, property};

use super::{Scope, World};
use value::Message;
pub(super) use value::{Found, Value};

/// Families of attributes that only a stream has.
const ABOUT_STREAMS: [&[u8]; 10] = [
    b"request",
    b"response",
    b"source",
    b"destination",
    b"connection",
    b"connection_id",
    b"upstream",
    b"metadata",
    b"filter_state",
    b"upstream_filter_state",
];

impl World {
    pub(super) fn property(&mut self, scope: &Scope, path: &[u8]) -> Reply {
        if let Some(made_up) = self.made_up.iter().find(|property| property.path == path) {
            return match &made_up.value {
                Some(value) => Reply::Done(Answer::Bytes(value.clone())),
                None => Reply::refused(Status::NotFound, "the scenario says that it is absent"),
            };
        }
        match self.find(scope, path) {
            Found::Value(value) => match value.serialize() {
                Some(bytes) => Reply::Done(Answer::Bytes(bytes)),
                None => Reply::refused(
                    Status::SerializationFailure,
                    "this is an object; ask for a part",
                ),
            },
            Found::Absent => Reply::refused(Status::NotFound, self.why_absent(scope, path)),
            Found::Unserved => self.unserved(&Call::GetProperty { path: path.to_vec() }),
        }
    }

    /// Why there is no property at a path.
    fn why_absent(&self, scope: &Scope, path: &[u8]) -> Cow<'static, str> {
        let mut segments = property::split(path);
        let family = segments.next().unwrap_or_default();
        let is_about_streams = ABOUT_STREAMS.contains(&family);
        if self.at_stage(scope).is_none() {
            return Cow::Borrowed(if is_about_streams {
                "it is about a stream, and the context in effect is none"
            } else {
                "there is no such attribute, and guests keep properties about streams only"
            });
        }
        let attributes = known::attributes(family);
        let Some(name) = segments.next().filter(|_| !attributes.is_empty()) else {
            return Cow::Borrowed(if is_about_streams {
                "no filter has set such an object"
            } else {
                "no attribute begins so, and no guest has set such a property"
            });
        };
        let (family, shown) = (family.escape_ascii(), name.escape_ascii());
        if !attributes.iter().any(|known| known.as_bytes() == name) {
            let all = attributes.join(", ");
            return format!("`{family}` has no attribute `{shown}`, but {all}").into();
        }
        let phase = scope.phase();
        let line = segments.next().filter(|_| matches!(name, b"headers" | b"trailers"));
        match line.map(<[u8]>::escape_ascii) {
            Some(line) => format!("`{family}.{shown}` have no line `{line}` in {phase}").into(),
            None => {
                format!("`{family}.{shown}` has no value in {phase}: not yet, or there is none")
                    .into()
            }
        }
    }

    pub(in crate::world) fn find(&self, scope: &Scope, path: &[u8]) -> Found<'_> {
        // As on Envoy: no path at all is found, and is nothing.
        if path.is_empty() {
            return Found::Value(Value::Null);
        }
        let mut segments = property::split(path);
        let first = segments.next().unwrap_or_default();
        let mut segments = segments.peekable();
        let mut found = match segments.peek() {
            None => self.top_level(scope, first),
            Some(&second) => {
                let (found, used_second) = self.member(scope, first, second);
                if used_second {
                    segments.next();
                }
                found
            }
        };
        for segment in segments {
            found = match found {
                Found::Value(value) => value.part(segment),
                other => other,
            };
        }
        found
    }

    /// What a path of one segment names.
    fn top_level(&self, scope: &Scope, name: &[u8]) -> Found<'_> {
        let plugin = self.plugin_of(scope);
        let stream = self.at_stage(scope).map(|(stream, _)| stream);
        match name {
            b"plugin_name" => plugin.map(|plugin| Value::Text(plugin.name.clone().into())),
            b"plugin_root_id" => plugin.map(|plugin| Value::Text(plugin.root_id.clone().into())),
            b"plugin_vm_id" => plugin.map(|plugin| Value::Text(plugin.vm_id.clone())),
            b"connection_id" => stream.map(|stream| Value::Uint(connection::id(&stream.notes))),
            // Nothing writes dynamic metadata here: there is no filter but guests.
            b"metadata" => stream.map(|_| Value::Message(Message::Metadata(&self.no_metadata))),
            b"xds" => Some(Value::Object),
            b"request" | b"response" | b"source" | b"destination" | b"connection" | b"upstream"
            | b"filter_state" => stream.map(|_| Value::Object),
            b"upstream_filter_state" => {
                stream.filter(|stream| stream.notes.connected.is_some()).map(|_| Value::Object)
            }
            name => return self.kept_by_a_guest(scope, name),
        }
        .into()
    }

    /// What a path of more segments names, and whether the second one is used up.
    fn member(&self, scope: &Scope, first: &[u8], second: &[u8]) -> (Found<'_>, bool) {
        let stage = self.at_stage(scope);
        let found = match (first, stage) {
            (b"request", Some((stream, stage))) => message::request(stream, stage, second),
            (b"response", Some((stream, stage))) => message::response(stream, stage, second),
            (b"source", Some((stream, _))) => connection::source(&stream.notes, second),
            (b"destination", Some(_)) => connection::destination(second),
            (b"connection", Some((stream, _))) => connection::downstream(&stream.notes, second),
            (b"upstream", Some((stream, _))) => connection::upstream(stream, second),
            (b"filter_state", Some((stream, _))) => return (stream.state.object(second), true),
            (b"upstream_filter_state", Some(_)) => None,
            (b"xds", stage) => self.xds(stage.map(|(stream, _)| stream), second),
            _ => return (self.top_level(scope, first), false),
        };
        (found.into(), true)
    }

    /// A value that a guest has set as a property, which is found without the name of any family.
    fn kept_by_a_guest(&self, scope: &Scope, name: &[u8]) -> Found<'_> {
        match self.at_stage(scope) {
            Some((stream, _)) => stream.state.property(name),
            None => Found::Absent,
        }
    }
}
