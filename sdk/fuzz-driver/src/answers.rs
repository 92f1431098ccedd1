//! What the host answers, and how a fault spoils it.

use std::collections::VecDeque;

use tollgate_abi::{Answer, BufferType, Call, MapType, Reply, Status, pairs};
use tollgate_host_native::Scripted;

use crate::case::{Fault, Side};
use crate::world::{CallKind, Context, Pending, World, side_of};

impl World {
    /// Answers a host call, with a fault that is not a callback.
    pub(crate) fn answer(&mut self, call: &Call, fault: Option<&Fault>) -> Scripted {
        let fault = fault.filter(|fault| !matches!(fault, Fault::Refuses(id) if id.number() == 0));
        if let Some(fault) = fault {
            self.is_faulty = true;
            self.tally.faults += 1;
            if let (
                Call::SetEffectiveContext { context },
                Fault::Refuses(_) | Fault::Announces(_),
            ) = (call, fault)
            {
                self.denied(*context);
            }
            match fault {
                Fault::Refuses(status) => {
                    let status = Status::from(status.number());
                    return Scripted::Reply(Reply::refused(status, "a fault"));
                }
                Fault::Announces(size) => return Scripted::NoBytes { size: size.bytes() },
                _ => {}
            }
        }
        let mut reply = self.carry_out(call);
        if let (Some(fault), Reply::Done(answer)) = (fault, &mut reply) {
            spoil(answer, fault);
            if let (
                Call::HttpCall { .. } | Call::GrpcCall { .. } | Call::GrpcStream { .. },
                &mut Answer::U32(token),
            ) = (call, answer)
                && let Some(last) = self.calls.last_mut()
            {
                last.token = token;
            }
        }
        Scripted::Reply(reply)
    }

    fn carry_out(&mut self, call: &Call) -> Reply {
        let effective = self.effective();
        let done = Reply::Done;
        let refused = |status| Reply::refused(status, "");
        match call {
            Call::Log { .. } | Call::IncrementMetric { .. } => Reply::OK,
            Call::GetLogLevel {} => done(Answer::U32(0)),
            Call::GetCurrentTime {} => {
                self.now = self.now.wrapping_add(1_000);
                done(Answer::U64(self.now))
            }
            Call::GetStatus {} => {
                let shown = self.stack.last().map(|frame| frame.shown.clone()).unwrap_or_default();
                done(Answer::Status { code: shown.code, message: shown.message })
            }
            Call::GetProperty { path } => {
                let root = self.root_of(effective);
                match (path.as_slice(), self.root(root)) {
                    (b"plugin_root_id", Some(root)) => done(Answer::Bytes(root.id.into())),
                    (b"plugin_name", _) => done(Answer::Bytes(b"p/1".to_vec())),
                    (b"plugin_vm_id", _) => done(Answer::Bytes(b"vm".to_vec())),
                    _ => refused(Status::NotFound),
                }
            }
            Call::GetHeaderMapPairs { map } => {
                let lines = self.lines(*map);
                done(Answer::Bytes(pairs::encode(&lines).unwrap_or_default()))
            }
            Call::GetHeaderMapValue { map, name } => {
                let lines = self.lines(*map);
                match lines.into_iter().find(|(own, _)| own.as_bytes() == name.as_slice()) {
                    Some((_, value)) => done(Answer::Bytes(value)),
                    None => refused(Status::NotFound),
                }
            }
            Call::AddHeaderMapValue { .. }
            | Call::ReplaceHeaderMapValue { .. }
            | Call::RemoveHeaderMapValue { .. } => match self.contexts.get(&effective) {
                Some(Context::Stream(_)) => Reply::OK,
                Some(Context::Root(_)) | None => refused(Status::BadArgument),
            },
            Call::GetBufferBytes { .. }
            | Call::GetBufferStatus { .. }
            | Call::SetBufferBytes { .. } => self.carry_out_on_bytes(call),
            Call::SendLocalResponse { .. } => match self.stream(effective) {
                Some(stream) => {
                    stream.replied = true;
                    stream.request.is_dead = true;
                    // What takes the place of a response passes no filter.
                    stream.response.is_dead = stream.response.has_begun;
                    Reply::OK
                }
                None => refused(Status::BadArgument),
            },
            Call::CloseStream { .. } => match self.stream(effective) {
                Some(stream) => {
                    stream.closed = true;
                    Reply::OK
                }
                None => refused(Status::BadArgument),
            },
            Call::ContinueStream { stream: side } => match self.stream(effective) {
                Some(stream) => {
                    stream.lane(side_of(*side)).go_on();
                    self.tally.let_go += 1;
                    Reply::OK
                }
                None => refused(Status::BadArgument),
            },
            Call::SetTickPeriod { period_millis } => {
                let root = self.root_of(effective);
                match self.root(root) {
                    Some(root) => {
                        root.period = *period_millis;
                        Reply::OK
                    }
                    None => refused(Status::BadArgument),
                }
            }
            Call::SetEffectiveContext { context } => {
                if !self.contexts.contains_key(context) {
                    return refused(Status::BadArgument);
                }
                if let Some(frame) = self.stack.last_mut() {
                    frame.effective = *context;
                }
                Reply::OK
            }
            other => self.carry_out_beside(other),
        }
    }

    /// Carries out what is done to a buffer.
    fn carry_out_on_bytes(&mut self, call: &Call) -> Reply {
        let effective = self.effective();
        let number = |word: u32| usize::try_from(word).unwrap_or(usize::MAX);
        match call {
            Call::GetBufferBytes { buffer, start, max_size } => {
                let bytes = self.bytes(*buffer);
                let from = bytes.get(number(*start)..).unwrap_or_default();
                Reply::Done(Answer::Bytes(from.iter().copied().take(number(*max_size)).collect()))
            }
            Call::GetBufferStatus { buffer } => {
                let size = self.bytes(*buffer).len();
                Reply::Done(Answer::Buffer { size, flags: 0 })
            }
            Call::SetBufferBytes { buffer, start, size, value } => {
                let side = match buffer {
                    BufferType::HttpRequestBody => Side::Request,
                    _ => Side::Response,
                };
                match self.stream(effective).map(|stream| &mut stream.lane(side).body) {
                    Some(body) if *start == 0 => {
                        let replaced = number(*size).min(body.len());
                        body.splice(..replaced, value.iter().copied());
                        Reply::OK
                    }
                    Some(body) if number(*start) >= body.len() => {
                        body.extend_from_slice(value);
                        Reply::OK
                    }
                    Some(_) | None => Reply::refused(Status::BadArgument, ""),
                }
            }
            _ => Reply::refused(Status::Unimplemented, ""),
        }
    }

    /// Carries out what is no stream's own.
    fn carry_out_beside(&mut self, call: &Call) -> Reply {
        let done = Reply::Done;
        let refused = |status| Reply::refused(status, "");
        match call {
            Call::HttpCall { .. } => self.called(CallKind::Http),
            Call::GrpcCall { .. } => self.called(CallKind::Grpc),
            Call::GrpcStream { .. } => self.called(CallKind::GrpcStream),
            Call::GrpcSend { token, .. } | Call::GrpcClose { token } => {
                if self.calls.iter().any(|call| call.token == *token) {
                    Reply::OK
                } else {
                    refused(Status::NotFound)
                }
            }
            Call::GrpcCancel { token } => {
                self.calls.retain(|call| call.token != *token);
                Reply::OK
            }
            Call::DefineMetric { .. } => {
                self.metrics.push(0);
                done(Answer::U32(u32::try_from(self.metrics.len()).unwrap_or(0)))
            }
            Call::GetMetric { metric } | Call::RecordMetric { metric, .. } => {
                let at = usize::try_from(*metric).unwrap_or(0).wrapping_sub(1);
                match (self.metrics.get_mut(at), call) {
                    (Some(metric), Call::RecordMetric { value, .. }) => {
                        *metric = *value;
                        Reply::OK
                    }
                    (Some(metric), _) => done(Answer::U64(*metric)),
                    (None, _) => refused(Status::NotFound),
                }
            }
            Call::GetSharedData { key } => match self.shared.get(key).cloned() {
                Some((value, cas)) => done(Answer::Shared { value, cas }),
                None => refused(Status::NotFound),
            },
            Call::SetSharedData { key, value, cas } => {
                match self.shared.get(key) {
                    Some((_, current)) if *cas != 0 && cas != current => {
                        return refused(Status::CasMismatch);
                    }
                    Some(_) | None => {}
                }
                self.last_cas += 1;
                self.shared.insert(key.clone(), (value.clone(), self.last_cas));
                Reply::OK
            }
            Call::RegisterSharedQueue { name } => {
                if !self.queues.iter().any(|(known, _)| known == name) {
                    self.queues.push((name.clone(), VecDeque::new()));
                }
                self.queue(name)
            }
            Call::ResolveSharedQueue { name, .. } => self.queue(name),
            Call::EnqueueSharedQueue { queue, message } => {
                let at = usize::try_from(*queue).unwrap_or(0).wrapping_sub(1);
                match self.queues.get_mut(at) {
                    Some((_, messages)) => {
                        messages.push_back(message.clone());
                        Reply::OK
                    }
                    None => refused(Status::NotFound),
                }
            }
            Call::DequeueSharedQueue { queue } => {
                let at = usize::try_from(*queue).unwrap_or(0).wrapping_sub(1);
                match self.queues.get_mut(at).map(|(_, messages)| messages.pop_front()) {
                    Some(Some(message)) => done(Answer::Bytes(message)),
                    Some(None) => refused(Status::Empty),
                    None => refused(Status::NotFound),
                }
            }
            other => {
                self.violated(&format!("{other} is not expected of these filters"));
                refused(Status::Unimplemented)
            }
        }
    }

    fn queue(&self, name: &[u8]) -> Reply {
        match self.queues.iter().position(|(known, _)| known == name) {
            Some(at) => Reply::Done(Answer::U32(u32::try_from(at + 1).unwrap_or(0))),
            None => Reply::refused(Status::NotFound, ""),
        }
    }

    fn called(&mut self, kind: CallKind) -> Reply {
        let root = self.root_of(self.effective());
        if self.root(root).is_none() {
            return Reply::refused(Status::BadArgument, "");
        }
        self.tally.calls += 1;
        self.last_token += 1;
        self.calls.push(Pending { token: self.last_token, root, kind });
        Reply::Done(Answer::U32(self.last_token))
    }

    fn lines(&self, map: MapType) -> Vec<(&'static str, Vec<u8>)> {
        let effective = self.effective();
        match map {
            MapType::RequestHeaders => vec![
                (":method", b"GET".to_vec()),
                (":authority", b"example.com".to_vec()),
                (":path", format!("/p{}", effective % 2).into_bytes()),
                ("x-own", effective.to_string().into_bytes()),
                ("x-user", format!("u{}", effective % 5).into_bytes()),
            ],
            MapType::ResponseHeaders => vec![(":status", b"200".to_vec())],
            _ => self.stack.last().map(|frame| frame.shown.lines.clone()).unwrap_or_default(),
        }
    }

    fn bytes(&mut self, buffer: BufferType) -> Vec<u8> {
        let effective = self.effective();
        match buffer {
            BufferType::PluginConfiguration => {
                self.root(effective).map(|root| root.config.clone()).unwrap_or_default()
            }
            BufferType::HttpRequestBody | BufferType::HttpResponseBody => {
                let side = match buffer {
                    BufferType::HttpRequestBody => Side::Request,
                    _ => Side::Response,
                };
                self.stream(effective)
                    .map(|stream| stream.lane(side).body.clone())
                    .unwrap_or_default()
            }
            _ => self.stack.last().map(|frame| frame.shown.body.clone()).unwrap_or_default(),
        }
    }
}

/// Makes something else of an answer.
fn spoil(answer: &mut Answer, fault: &Fault) {
    match (answer, fault) {
        (
            Answer::Bytes(bytes)
            | Answer::Shared { value: bytes, .. }
            | Answer::Status { message: bytes, .. },
            Fault::Gives(_) | Fault::Cuts(_) | Fault::Spoils(..),
        ) => match fault {
            Fault::Gives(others) => bytes.clone_from(others),
            Fault::Cuts(length) => bytes.truncate((*length).into()),
            Fault::Spoils(at, byte) => {
                let at = usize::from(*at) % bytes.len().max(1);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            _ => {}
        },
        (
            Answer::U32(number)
            | Answer::Shared { cas: number, .. }
            | Answer::Status { code: number, .. },
            Fault::Counts(id),
        ) => *number = id.number(),
        (Answer::U64(number), Fault::CountsLarge(other)) => *number = *other,
        _ => {}
    }
}
