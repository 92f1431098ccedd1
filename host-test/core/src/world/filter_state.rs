//! Filter state: what guests keep about a stream, and the objects of the proxy that they make.
//!
//! A property that a guest sets is found under `wasm.` and its name. Other objects are made by the proxy
//! from text, and only some of them can be read again.
//!
//! Source: Envoy, `setProperty` and `setEnvoyFilterState` in `source/extensions/common/wasm/context.cc`;
//! which objects there are, what they take and how they read was measured on Envoy 1.40.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tollgate_abi::{Reply, Status};

use super::property::{Found, Value};
use super::{Scope, World};

/// What Envoy puts before the name of a guest's property.
const PREFIX: &[u8] = b"wasm.";

/// The objects about a stream, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterState(BTreeMap<Vec<u8>, Object>);

#[derive(Clone, Debug)]
struct Object {
    form: Form,
    span: Span,
}

#[derive(Clone, Debug)]
enum Form {
    /// A guest's own.
    Property { value: Vec<u8>, prototype: Prototype },
    /// One that reads as text.
    Text(String),
    /// An address, which reads by its parts.
    Address(SocketAddr),
    /// One that cannot be read.
    Hidden,
}

/// How long an object is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Span {
    #[default]
    FilterChain,
    Request,
    Connection,
}

/// What a guest has declared about a property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prototype {
    pub(super) is_read_only: bool,
    pub(super) shape: Shape,
    pub(super) span: Span,
}

/// What the value of a property is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// Bytes or text, which read the same.
    #[default]
    Plain,
    /// A message or a table with parts.
    WithParts,
}

impl FilterState {
    /// What outlives the stream: the objects of the connection.
    pub(crate) fn of_connection(&self) -> Self {
        let lasting = self.0.iter().filter(|(_, object)| object.span == Span::Connection);
        Self(lasting.map(|(name, object)| (name.clone(), object.clone())).collect())
    }

    /// An object by its name.
    pub(super) fn object<'a>(&self, name: &[u8]) -> Found<'a> {
        let Some(object) = self.0.get(name) else {
            return Found::Absent;
        };
        Found::Value(match &object.form {
            Form::Property { prototype: Prototype { shape: Shape::WithParts, .. }, .. } => {
                return Found::Unserved;
            }
            Form::Property { value, .. } => Value::Text(value.clone()),
            Form::Text(text) => Value::Text(text.clone().into_bytes()),
            Form::Address(address) => Value::Parts(vec![
                (b"ip", Value::Text(address.ip().to_string().into_bytes())),
                (b"port", Value::Int(address.port().into())),
            ]),
            Form::Hidden => return Found::Absent,
        })
    }

    /// What an object reads as text, by which routes are matched.
    pub(super) fn text(&self, name: &[u8]) -> Option<&[u8]> {
        match &self.0.get(name)?.form {
            Form::Property { value, .. } => Some(value),
            Form::Text(text) => Some(text.as_bytes()),
            Form::Address(_) | Form::Hidden => None,
        }
    }

    /// A property of a guest by its own name, whole.
    pub(super) fn property<'a>(&self, name: &[u8]) -> Found<'a> {
        let object = self.0.get(&[PREFIX, name].concat());
        match object.map(|object| &object.form) {
            Some(Form::Property { value, .. }) => Found::Value(Value::Text(value.clone())),
            Some(Form::Text(_) | Form::Address(_) | Form::Hidden) | None => Found::Absent,
        }
    }
}

impl World {
    pub(super) fn set_property(&mut self, scope: &Scope, name: &[u8], value: &[u8]) -> Reply {
        let declared = self.root_of(scope).and_then(|root| {
            let prototypes = &self.vm(scope.vm)?.prototypes;
            prototypes.get(&(root, name.to_vec())).copied()
        });
        if let Err(trap) = self.keep_for_stream(scope, object_bytes(name, value)) {
            return trap;
        }
        let Some((stream, _)) = self.at_stage_mut(scope) else {
            return Reply::untimely(
                Status::NotFound,
                "a property is kept about a stream, and the context in effect is none",
            );
        };
        let prototype = declared.unwrap_or_default();
        let new =
            Object { form: Form::Property { value: Vec::new(), prototype }, span: prototype.span };
        let key = [PREFIX, name].concat();
        let is_new = !stream.state.0.contains_key(&key);
        let object = stream.state.0.entry(key).or_insert(new);
        match &mut object.form {
            Form::Property { prototype, .. } if prototype.is_read_only && !is_new => {
                Reply::refused(Status::BadArgument, "the property is read-only and set already")
            }
            Form::Property { value: old, .. } => {
                *old = value.to_vec();
                Reply::OK
            }
            Form::Text(_) | Form::Address(_) | Form::Hidden => {
                Reply::refused(Status::BadArgument, "an object of the proxy has this name")
            }
        }
    }

    /// Makes an object of the proxy from text.
    pub(super) fn set_object(
        &mut self,
        scope: &Scope,
        name: &str,
        value: &str,
        span: Span,
    ) -> Result<(), (Status, &'static str)> {
        let make = factory(name).ok_or((Status::NotFound, "the proxy makes no such object"))?;
        let form =
            make(value).ok_or((Status::BadArgument, "no such object can be made of this"))?;
        let (stream, _) = self
            .at_stage_mut(scope)
            .ok_or((Status::NotFound, "there is no stream to keep it about"))?;
        stream.state.0.insert(name.as_bytes().to_vec(), Object { form, span });
        Ok(())
    }

    pub(super) fn declare_property(
        &mut self,
        scope: &Scope,
        name: &[u8],
        prototype: Prototype,
    ) -> Result<(), (Status, &'static str)> {
        // As on Envoy: of the context that runs, whichever one is in effect.
        let context = scope.callback.map_or(0, |callback| callback.context());
        let vm = self.vm_mut(scope.vm).ok_or((Status::InternalFailure, "there is no VM"))?;
        let contexts = &vm.contexts;
        vm.prototypes.retain(|(context, _), _| contexts.contains_key(context));
        match vm.prototypes.insert((context, name.to_vec()), prototype) {
            None => Ok(()),
            Some(first) => {
                vm.prototypes.insert((context, name.to_vec()), first);
                Err((Status::BadArgument, "the property is declared already"))
            }
        }
    }
}

/// How many bytes an object makes the host keep.
pub(super) fn object_bytes(name: &[u8], value: &[u8]) -> usize {
    name.len().saturating_add(value.len()).saturating_add(size_of::<Object>())
}

/// What makes an object of a name; as text it is what Envoy shows of it.
fn factory(name: &str) -> Option<fn(&str) -> Option<Form>> {
    Some(match name {
        "envoy.string"
        | "envoy.hashable_string"
        | "envoy.network.network_namespace"
        | "envoy.network.upstream_server_name"
        | "envoy.network.upstream_subject_alt_names"
        | "envoy.tcp_proxy.cluster"
        | "envoy.upstream.dynamic_host" => |text| Some(Form::Text(text.to_owned())),
        "envoy.network.application_protocols" => |_| Some(Form::Hidden),
        "envoy.tcp_proxy.disable_tunneling" => {
            |text| Some(Form::Text((text == "true").to_string()))
        }
        "envoy.ratelimit.hits_addend" | "envoy.upstream.dynamic_port" => {
            |text| text.parse::<u32>().ok().map(|number| Form::Text(number.to_string()))
        }
        "envoy.tcp_proxy.per_connection_idle_timeout_ms" => {
            |text| text.parse::<u64>().ok().map(|number| Form::Text(number.to_string()))
        }
        "envoy.network.ip" => |text| {
            text.parse::<IpAddr>().ok().map(|ip| Form::Text(SocketAddr::new(ip, 0).to_string()))
        },
        "envoy.network.transport_socket.original_dst_address"
        | "envoy.filters.listener.original_dst.local_ip"
        | "envoy.filters.listener.original_dst.remote_ip" => {
            |text| text.parse().ok().map(Form::Address)
        }
        _ => return None,
    })
}
