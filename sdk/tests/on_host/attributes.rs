//! Attributes on hosts that have them, lack them, refuse them and give something else.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate::attributes::{
    self, Address, Attribute, AttributeError, Keep, Kind, Snapshot, Source, Text, Timestamp,
    connection, filter_state_field, metadata, request, response, source, upstream_filter_state,
    xds,
};
use tollgate::filter_state::{self, SetError};
use tollgate::{Headers, HostError};
use tollgate_abi::{Answer, Call, Function, Reply, Status, pairs};

use tollgate_host_native::on_host;

/// A host with these properties, and no others.
fn with<T: Send + 'static>(
    properties: &[(&str, &[u8])],
    guest: impl FnOnce() -> T + Send + 'static,
) -> T {
    let properties: BTreeMap<Vec<u8>, Vec<u8>> = properties
        .iter()
        .map(|(path, value)| (path.replace('.', "\0").into_bytes(), value.to_vec()))
        .collect();
    let host = move |call: &Call| match call {
        Call::GetProperty { path } => match properties.get(path) {
            Some(value) => Reply::Done(Answer::Bytes(value.clone())),
            None => Reply::refused(Status::NotFound, ""),
        },
        call => panic!("{call}"),
    };
    on_host(host, guest)
}

/// A host that answers every call by this.
fn always<T: Send + 'static>(reply: Reply, guest: impl FnOnce() -> T + Send + 'static) -> T {
    on_host(move |_| reply.clone(), guest)
}

#[test]
fn an_attribute_has_its_type() {
    let headers = pairs::encode(&[("x-user", "alice")]).unwrap();
    with(
        &[
            ("request.path", b"/\xff"),
            ("response.code", &200_i64.to_le_bytes()),
            ("connection.mtls", &[1]),
            ("connection.id", &7_u64.to_le_bytes()),
            ("source.address", b"127.0.0.1:80"),
            ("request.time", &3_i64.to_le_bytes()),
            ("request.duration", &5_i64.to_le_bytes()),
            ("request.headers", &headers),
            ("request.headers.x-user", b"alice"),
            ("xds.node", b"\x0a\x01n"),
        ],
        || {
            assert_eq!(request::PATH.read().unwrap().unwrap().as_bytes(), b"/\xff");
            assert_eq!(response::CODE.read(), Ok(Some(200)));
            assert_eq!(connection::PEER_CERTIFICATE_PRESENTED.read(), Ok(Some(true)));
            assert_eq!(connection::ID.read(), Ok(Some(7)));
            let address = "127.0.0.1:80".parse().unwrap();
            assert_eq!(source::ADDRESS.read(), Ok(Some(Address::Socket(address))));
            assert_eq!(request::TIME.read().unwrap().map(Timestamp::unix_nanos), Some(3));
            assert_eq!(request::DURATION.read(), Ok(Some(Duration::from_nanos(5))));
            let headers = request::HEADERS.read().unwrap().unwrap();
            assert_eq!(headers.exactly_one("x-user"), Ok(&b"alice"[..]));
            let line = request::header("x-user").unwrap().read();
            assert_eq!(line, Ok(Some(Text::from("alice"))));
            assert_eq!(xds::NODE.read().unwrap().unwrap().fields().count(), 1);
        },
    );
}

#[test]
fn what_is_absent_is_no_error() {
    with(&[], || {
        assert_eq!(request::PATH.read(), Ok(None));
        assert_eq!(response::CODE.read(), Ok(None));
        assert_eq!(xds::ROUTE_NAME.read(), Ok(None));
        assert_eq!(metadata::<f64>("a", "b").unwrap().read(), Ok(None));
    });
}

#[test]
fn what_is_of_another_type_is_named_and_kept_out_of_the_text() {
    with(&[("response.code", b"secret")], || {
        let error = response::CODE.read().unwrap_err();
        let text =
            "response.code should be an integer of 8 bytes, and is something else of 6 bytes";
        assert_eq!(error.to_string(), text);
        let expected = AttributeError::WrongType {
            attribute: "response.code".into(),
            expected: Kind::Int,
            found: b"secret".to_vec(),
        };
        assert_eq!(error, expected);
    });
}

#[test]
fn a_refusal_of_the_host_is_neither() {
    for status in [2, 3, 7, 10, 99] {
        let status = Status::from(status);
        always(Reply::refused(status, ""), move || {
            let error = HostError::Refused { function: Function::GetProperty, status };
            let refused = |attribute: &str| {
                Err(AttributeError::Refused { attribute: attribute.into(), error })
            };
            assert_eq!(request::PATH.read(), refused("request.path"));
            assert_eq!(xds::CLUSTER_NAME.read(), refused("xds.cluster_name"));
        });
    }
}

#[test]
fn an_older_host_is_asked_by_the_older_name() {
    with(
        &[
            ("route_name", b"orders"),
            ("node.id", b"n"),
            ("connection_id", &9_u64.to_le_bytes()),
            ("route_metadata.filter_metadata.a.b", b"value"),
            ("node.user_agent_name", b"envoy"),
        ],
        || {
            assert_eq!(xds::ROUTE_NAME.read(), Ok(Some("orders".into())));
            assert_eq!(xds::NODE_ID.read(), Ok(Some("n".into())));
            assert_eq!(connection::ID.read(), Ok(Some(9)));
            let value = xds::ROUTE_METADATA.value::<Text>("a", "b").unwrap();
            assert_eq!(value.read(), Ok(Some("value".into())));
            let agent = xds::NODE.field::<Text>(&["user_agent_name"]).unwrap();
            assert_eq!(agent.read(), Ok(Some("envoy".into())));
        },
    );
    with(&[("route_name", b"old"), ("xds.route_name", b"new")], || {
        assert_eq!(xds::ROUTE_NAME.read(), Ok(Some("new".into())));
    });
}

#[test]
fn attributes_with_names_are_found_by_them_and_no_name_is_two() {
    with(
        &[
            ("metadata.filter_metadata.jwt.level", &3_f64.to_le_bytes()),
            ("filter_state.ip.port", &80_i64.to_le_bytes()),
            ("upstream_filter_state.a", b"b"),
            ("my.own", &[0]),
        ],
        || {
            assert_eq!(metadata("jwt", "level").unwrap().read(), Ok(Some(3.0_f64)));
            assert_eq!(filter_state_field("ip", "port").unwrap().read(), Ok(Some(80_i64)));
            let value = upstream_filter_state::<Text>("a").unwrap().read();
            assert_eq!(value, Ok(Some("b".into())));
            assert_eq!(Attribute::at(&["my", "own"]).unwrap().read(), Ok(Some(false)));
        },
    );
    assert!(request::header("a\0b").is_err());
    assert!(metadata::<Text>("a\0b", "c").is_err());
    assert!(xds::ROUTE_METADATA.value::<Text>("a", "b\0c").is_err());
    assert!(attributes::filter_state::<Text>("\0").is_err());
}

/// A phase: headers and properties, or a refusal.
struct Phase {
    headers: Result<Headers, HostError>,
    properties: BTreeMap<&'static [u8], Reply>,
    asked: usize,
}

impl Source for Phase {
    fn headers(&mut self) -> Result<&Headers, HostError> {
        self.asked += 1;
        self.headers.as_ref().map_err(|error| *error)
    }

    fn property(&mut self, path: &[u8]) -> Result<Vec<u8>, HostError> {
        let status = match self.properties.get(path) {
            Some(Reply::Done(Answer::Bytes(bytes))) => return Ok(bytes.clone()),
            Some(Reply::Refused { status, .. }) => *status,
            _ => Status::NotFound,
        };
        Err(HostError::Refused { function: Function::GetProperty, status })
    }
}

static KEPT: Keep<'_> = Keep {
    headers: &["X-User", "x-none"],
    attributes: &[&request::PATH, &xds::ROUTE_NAME, &response::CODE, &connection::ID],
};

const REFUSED: HostError =
    HostError::Refused { function: Function::GetProperty, status: Status::InternalFailure };

#[test]
fn a_snapshot_answers_later_as_the_host_did_then() {
    let text = |text: &str| Reply::Done(Answer::Bytes(text.into()));
    let mut phase = Phase {
        headers: Ok([("x-user", "alice"), ("X-USER", "bob"), ("x-secret", "s")]
            .into_iter()
            .collect()),
        properties: [
            (&b"request\0path"[..], text("/orders")),
            (b"route_name", text("orders")),
            (b"response\0code", text("200")),
            (b"connection\0id", Reply::refused(Status::InternalFailure, "")),
        ]
        .into(),
        asked: 0,
    };
    let snapshot = Snapshot::take(&mut phase, &KEPT);
    assert_eq!(phase.asked, 1);
    assert_eq!(snapshot.get(&request::PATH), Ok(Some("/orders".into())));
    assert_eq!(snapshot.get(&xds::ROUTE_NAME), Ok(Some("orders".into())));
    assert!(matches!(snapshot.get(&response::CODE), Err(AttributeError::WrongType { .. })));
    let refused = AttributeError::Refused { attribute: "connection.id".into(), error: REFUSED };
    assert_eq!(snapshot.get(&connection::ID), Err(refused));
    assert_eq!(snapshot.header("x-USER").unwrap(), [b"alice".to_vec(), b"bob".to_vec()]);
    assert!(snapshot.header("x-none").unwrap().is_empty());

    let not_kept = |attribute: &str| AttributeError::NotKept { attribute: attribute.into() };
    assert_eq!(snapshot.get(&request::METHOD), Err(not_kept("request.method")));
    assert_eq!(snapshot.header("x-secret"), Err(not_kept("header x-secret")));
    assert_eq!(Snapshot::default().get(&request::PATH), Err(not_kept("request.path")));
}

#[test]
fn headers_that_the_host_refuses_do_not_harm_the_rest_of_a_snapshot() {
    let mut phase = Phase { headers: Err(REFUSED), properties: BTreeMap::new(), asked: 0 };
    let snapshot = Snapshot::take(&mut phase, &KEPT);
    let refused = AttributeError::Refused { attribute: "header x-user".into(), error: REFUSED };
    assert_eq!(snapshot.header("x-user"), Err(refused));
    assert_eq!(snapshot.get(&request::PATH), Ok(None));
    let none = Keep { headers: &[], attributes: &[] };
    let mut phase = Phase { headers: Err(REFUSED), properties: BTreeMap::new(), asked: 0 };
    let _snapshot = Snapshot::take(&mut phase, &none);
    assert_eq!(phase.asked, 0);
}

#[test]
fn filter_state_is_kept_under_one_segment() {
    let mut kept = None;
    let host = move |call: &Call| match call {
        Call::SetProperty { path, value } => {
            kept = Some((path.clone(), value.clone()));
            Reply::OK
        }
        Call::GetProperty { path } => match &kept {
            Some((name, value)) if *path == [b"filter_state\0wasm.", name.as_slice()].concat() => {
                Reply::Done(Answer::Bytes(value.clone()))
            }
            _ => Reply::refused(Status::NotFound, ""),
        },
        call => panic!("{call}"),
    };
    on_host(host, || {
        assert_eq!(filter_state::get("tenant"), Ok(None));
        assert_eq!(filter_state::set("tenant", b"\xff"), Ok(()));
        let tenant = filter_state::get("tenant").unwrap().unwrap();
        assert_eq!(tenant.as_bytes(), b"\xff");
        for name in ["", "a\0b", "\0"] {
            assert!(matches!(filter_state::set(name, ""), Err(SetError::Name(_))), "{name:?}");
            assert!(filter_state::attribute(name).is_err(), "{name:?}");
        }
    });
}

#[test]
fn what_cannot_be_kept_says_why() {
    let check = |status, expected: &'static str| {
        always(Reply::refused(status, ""), move || {
            assert_eq!(filter_state::set("a", "b").unwrap_err().to_string(), expected);
        });
    };
    check(Status::NotFound, "a cannot be kept without a stream; set it while one is handled");
    check(Status::BadArgument, "a is read-only and was set before");
    let other = "the proxy refused proxy_set_property with status internal_failure";
    check(Status::InternalFailure, other);
}
