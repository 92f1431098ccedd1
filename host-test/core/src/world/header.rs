//! Header maps: who may read and change which, and when.

use tollgate_abi::pairs::{self, Pairs};
use tollgate_abi::{Answer, Callback, MapType, Reply, Serialized, Status};

use super::inline::Inline;
use super::stream::{Direction, Stage, Stream};
use super::{Scope, World};
use crate::scenario::HeaderLine;

/// As which the host of a request stands, and as which it may be asked for too.
pub(super) const AUTHORITY: &[u8] = b":authority";
pub(super) const HOST: &[u8] = b"host";

/// Header lines in order; names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines(pub(crate) Vec<HeaderLine>);

impl Lines {
    pub(crate) fn first(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|(line, _)| line == name).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn add(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(line, _)| line != name);
    }

    /// Gives the first line of `name` a new value, or adds one.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        match self.0.iter_mut().find(|(line, _)| line == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.add(name, value),
        }
    }

    /// Adds a line as Envoy does for a client and for a guest: a header that it keeps in a place of its own gets the
    /// value after a comma.
    pub(crate) fn append(
        &mut self,
        name: impl AsRef<[u8]> + Into<Vec<u8>>,
        value: impl AsRef<[u8]> + Into<Vec<u8>>,
        of: Inline,
    ) {
        let is_inline = of.has(name.as_ref());
        let known = self.0.iter_mut().find(|(line, _)| is_inline && line == name.as_ref());
        match known {
            Some((_, old)) => {
                old.push(b',');
                old.extend_from_slice(value.as_ref());
            }
            None => self.insert(name.into(), value.into()),
        }
    }

    /// Replaces every line of `name` by one as Envoy does for a guest: at the end, a pseudo-header at the
    /// end of the pseudo-headers.
    fn replace(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.remove(&name);
        self.insert(name, value);
    }

    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        if name.starts_with(b":") {
            let end = self.0.iter().take_while(|(line, _)| line.starts_with(b":")).count();
            self.0.insert(end, (name, value));
        } else {
            self.add(name, value);
        }
    }
}

/// A map of an HTTP stream.
#[derive(Clone, Copy)]
struct Map {
    direction: Direction,
    trailers: bool,
}

impl World {
    pub(super) fn header_value(&self, scope: &Scope, map: MapType, name: &[u8]) -> Reply {
        match self.readable(scope, map) {
            Err(_) if self.profile.lacks_maps_out_of_phase() => {
                Reply::refused(Status::NotFound, format!("there are no {map} here"))
            }
            Err(refusal) => refusal,
            Ok(lines) => match lines.first(&key(map, name)) {
                Some(value) => Reply::Done(Answer::Bytes(value.to_vec())),
                // As on Envoy: 0.1.0 has no way to say so.
                None if self.speaks_0_1_0(scope) => Reply::Done(Answer::Bytes(Vec::new())),
                None => Reply::refused(Status::NotFound, "no such header"),
            },
        }
    }

    pub(super) fn header_pairs(&mut self, scope: &Scope, map: MapType) -> Reply {
        let lines = match self.readable(scope, map) {
            Ok(lines) => lines,
            Err(refusal)
                if matches!(map, MapType::Unknown(_)) || self.profile.lacks_maps_out_of_phase() =>
            {
                return refusal;
            }
            // As on Envoy: out of its phase a map is empty, without an error.
            Err(refusal) => {
                if let Reply::Untimely { why, .. } = refusal {
                    self.notice_untimely(why);
                }
                return Reply::Done(Answer::Bytes(Vec::new()));
            }
        };
        if lines.0.is_empty() {
            return Reply::Done(Answer::Bytes(Vec::new()));
        }
        match pairs::encode(&lines.0) {
            Ok(bytes) => Reply::Done(Answer::Pairs(Serialized(bytes))),
            Err(error) => Reply::refused(Status::InternalFailure, error.to_string()),
        }
    }

    pub(super) fn header_size(&mut self, scope: &Scope, map: MapType) -> Reply {
        // As on Envoy: what comes back to callouts has no size.
        let part = match map_of(map) {
            Ok(part) => part,
            Err(refusal) => return refusal,
        };
        // As on Envoy: even asking for the size of trailers makes some.
        self.make_trailers(scope, map);
        // As on Envoy: the only question that is not answered just because the stream is logged.
        let is_hidden = |stage: &Stage| stage.logging && !is_visible(stage, part);
        if self.at_stage(scope).is_some_and(|(_, stage)| is_hidden(stage)) {
            return self.out_of_phase(scope, map);
        }
        match self.readable(scope, map) {
            Err(refusal) => refusal,
            Ok(lines) => Reply::Done(Answer::Size(
                lines.0.iter().map(|(name, value)| name.len() + value.len()).sum(),
            )),
        }
    }

    pub(super) fn add_header(
        &mut self,
        scope: &Scope,
        map: MapType,
        name: &[u8],
        value: &[u8],
    ) -> Reply {
        let inline = match map {
            MapType::RequestHeaders => Inline::Request,
            MapType::ResponseHeaders => Inline::Response,
            _ => Inline::Nothing,
        };
        self.change(scope, map, line_bytes(name, value), |lines| {
            lines.append(key(map, name), value, inline);
        })
    }

    pub(super) fn replace_header(
        &mut self,
        scope: &Scope,
        map: MapType,
        name: &[u8],
        value: &[u8],
    ) -> Reply {
        self.change(scope, map, line_bytes(name, value), |lines| {
            lines.replace(key(map, name), value.to_vec());
        })
    }

    pub(super) fn remove_header(&mut self, scope: &Scope, map: MapType, name: &[u8]) -> Reply {
        let name = key(map, name);
        if self.profile.keeps_removed_headers() {
            return self.change(scope, map, 0, |lines| {
                if lines.first(&name).is_some() {
                    lines.replace(name, Vec::new());
                }
            });
        }
        self.change(scope, map, 0, |lines| lines.remove(&name))
    }

    pub(super) fn set_headers(&mut self, scope: &Scope, map: MapType, new: &Serialized) -> Reply {
        // As on Envoy: pairs that are too large or cannot be read are no pairs, which wipes the map.
        let too_large = new.0.len() > pairs::MAX_BYTES;
        let new: Vec<HeaderLine> = match Pairs::parse(&new.0) {
            Ok(new) if !too_large && new.len() <= pairs::MAX_PAIRS => {
                let new = new.iter().map(|(name, value)| (key(map, name), value.to_vec()));
                let mut new: Vec<HeaderLine> = new.collect();
                // Pseudo-headers come first, whatever order the guest gave.
                new.sort_by_key(|(name, _)| !name.starts_with(b":"));
                new
            }
            Ok(_) | Err(_) => Vec::new(),
        };
        let bytes = new.iter().map(|(name, value)| line_bytes(name, value)).sum();
        self.change(scope, map, bytes, |lines| lines.0 = new)
    }

    fn readable(&self, scope: &Scope, map_type: MapType) -> Result<&Lines, Reply> {
        if let Some(lines) = self.delivered_map(scope, map_type) {
            return Ok(lines);
        }
        let map = map_of(map_type)?;
        let (stream, stage) = self.at_stage(scope).ok_or_else(|| no_stream(map_type))?;
        // As on Envoy: of all maps, the log phase lacks the request trailers, without an error.
        let is_lacking = map.trailers && map.direction == Direction::Request;
        if stage.logging && is_lacking {
            Ok(const { &Lines(Vec::new()) })
        } else if stage.logging || is_visible(stage, map) {
            Ok(lines(stream, map))
        } else {
            Err(self.out_of_phase(scope, map_type))
        }
    }

    fn change(
        &mut self,
        scope: &Scope,
        map_type: MapType,
        new_bytes: usize,
        change: impl FnOnce(&mut Lines),
    ) -> Reply {
        let map = match map_of(map_type) {
            Ok(map) => map,
            Err(refusal) => return refusal,
        };
        self.make_trailers(scope, map_type);
        let visible = self.at_stage(scope).map(|(_, stage)| is_visible(stage, map));
        if visible == Some(true)
            && let Err(trap) = self.keep_for_stream(scope, new_bytes)
        {
            return trap;
        }
        match (visible, self.at_stage_mut(scope)) {
            (Some(true), Some((stream, _))) => {
                if map.direction == Direction::Request && !map.trailers {
                    stream.notes.route_is_forgotten = true;
                }
                let message = stream.message_mut(map.direction);
                change(if map.trailers { &mut message.trailers } else { &mut message.headers });
                Reply::OK
            }
            (Some(false), _) => self.out_of_phase(scope, map_type),
            (Some(true) | None, _) => no_stream(map_type),
        }
    }
}

impl World {
    /// In the last callback of a body that no trailers follow, a guest makes trailers by touching them.
    fn make_trailers(&mut self, scope: &Scope, map: MapType) {
        let direction = match (map, &scope.callback) {
            (MapType::RequestTrailers, Some(Callback::RequestBody { end_of_stream: true, .. })) => {
                Direction::Request
            }
            (
                MapType::ResponseTrailers,
                Some(Callback::ResponseBody { end_of_stream: true, .. }),
            ) => Direction::Response,
            _ => return,
        };
        if let Some((stream, at)) = self.at_stage_mut(scope)
            && let Some(stage) = stream.stages.get_mut(at)
        {
            let lane = stage.lane_mut(direction);
            lane.trailers_made |= !lane.trailers_visible;
            lane.trailers_visible = true;
        }
    }

    /// Why a map is not there in the callback that runs.
    fn out_of_phase(&self, scope: &Scope, map: MapType) -> Reply {
        if self.at_stage(scope).is_some_and(|(stream, _)| stream.connection.is_some()) {
            let why = format!("{map} belong to a stream of HTTP, and this is a connection of TCP");
            return Reply::refused(Status::BadArgument, why);
        }
        let phase = scope.phase();
        let first = match map_of(map) {
            Ok(Map { direction: Direction::Request, trailers: false }) => {
                "proxy_on_request_headers"
            }
            Ok(Map { direction: Direction::Request, trailers: true }) => {
                "proxy_on_request_trailers"
            }
            Ok(Map { direction: Direction::Response, trailers: false }) => {
                "proxy_on_response_headers"
            }
            Ok(Map { direction: Direction::Response, trailers: true }) => {
                "proxy_on_response_trailers"
            }
            Err(refusal) => return refusal,
        };
        let why =
            format!("{map} are not available in {phase}, but from {first} on while it holds them");
        Reply::untimely(Status::BadArgument, why)
    }
}

/// The name under which a map has a line. As on Envoy, the host of a request is its authority.
fn key(map: MapType, name: &[u8]) -> Vec<u8> {
    match (map, name.to_ascii_lowercase()) {
        (MapType::RequestHeaders, name) if name == HOST => AUTHORITY.to_vec(),
        (_, name) => name,
    }
}

/// How many bytes a line makes the host keep.
fn line_bytes(name: &[u8], value: &[u8]) -> usize {
    name.len().saturating_add(value.len()).saturating_add(size_of::<HeaderLine>())
}

fn map_of(map: MapType) -> Result<Map, Reply> {
    let (direction, trailers) = match map {
        MapType::RequestHeaders => (Direction::Request, false),
        MapType::RequestTrailers => (Direction::Request, true),
        MapType::ResponseHeaders => (Direction::Response, false),
        MapType::ResponseTrailers => (Direction::Response, true),
        MapType::GrpcReceiveInitialMetadata
        | MapType::GrpcReceiveTrailingMetadata
        | MapType::HttpCallResponseHeaders
        | MapType::HttpCallResponseTrailers => {
            return Err(Reply::untimely(
                Status::BadArgument,
                format!("{map} are available only while the answer to a callout is delivered"),
            ));
        }
        MapType::Unknown(map) => {
            return Err(Reply::refused(
                Status::BadArgument,
                format!("{map} is not a kind of header map"),
            ));
        }
    };
    Ok(Map { direction, trailers })
}

fn is_visible(stage: &Stage, map: Map) -> bool {
    let lane = stage.lane(map.direction);
    if map.trailers { lane.trailers_visible } else { lane.headers_visible }
}

fn lines(stream: &Stream, map: Map) -> &Lines {
    let message = stream.message(map.direction);
    if map.trailers { &message.trailers } else { &message.headers }
}

fn no_stream(map: MapType) -> Reply {
    let why = format!("{map} belong to a stream, and the context in effect is none");
    Reply::untimely(Status::BadArgument, why)
}
