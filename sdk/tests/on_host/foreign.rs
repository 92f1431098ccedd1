//! Foreign functions on hosts that have them, lack them and answer strangely.

use tollgate::foreign::{
    self, Change, DeclareError, Expression, ForeignError, HashFunction, Key, LifeSpan, Property,
    SetObjectError, Shape, SignatureError,
};
use tollgate_abi::{Answer, Call, Reply, Status};

use tollgate_host_native::on_host;

/// Runs `guest` on a host that answers foreign functions by `answer`.
fn with<T: Send + 'static>(
    mut answer: impl FnMut(&str, &[u8]) -> Reply + Send + 'static,
    guest: impl FnOnce() -> T + Send + 'static,
) -> T {
    let host = move |call: &Call| match call {
        Call::CallForeignFunction { name, arguments } => {
            answer(str::from_utf8(name).unwrap(), arguments)
        }
        call => panic!("{call}"),
    };
    on_host(host, guest)
}

fn bytes(bytes: &[u8]) -> Reply {
    Reply::Done(Answer::Bytes(bytes.to_vec()))
}

/// Checks what a call sends: the function and its arguments, as Python writes them.
fn sends(expected: (&'static str, &'static [u8]), guest: impl FnOnce() + Send + 'static) {
    let (name, arguments) = expected;
    let answer = move |called: &str, with: &[u8]| {
        assert_eq!((called, with), (name, arguments));
        bytes(b"\x08\x01")
    };
    with(answer, guest);
}

#[test]
fn arguments_are_as_python_writes_them() {
    sends(("clear_route_cache", b""), || foreign::clear_route_cache().unwrap());
    sends(
        ("set_envoy_filter_state", b"\x0a\x17envoy.tcp_proxy.cluster\x12\x06canary\x18\x01"),
        || {
            let name = "envoy.tcp_proxy.cluster";
            foreign::set_envoy_filter_state(name, "canary", LifeSpan::Request).unwrap();
        },
    );
    sends(("declare_property", b"\x0a\x06tenant"), || {
        foreign::declare_property(&Property { name: "tenant", ..Property::default() }).unwrap();
    });
    sends(("declare_property", b"\x0a\x06tenant\x10\x01\x18\x03\x22\x01u(\x02"), || {
        let property = Property {
            name: "tenant",
            shape: Shape::Protobuf { type_url: "u" },
            change: Change::Refused,
            span: LifeSpan::Connection,
        };
        foreign::declare_property(&property).unwrap();
    });
    sends(("verify_signature", b"\x0a\x06sha256\x12\x03kkk\x1a\x02\x01\x02\x22\x01t"), || {
        let key = Key::Der(b"kkk");
        foreign::verify_signature(HashFunction::Sha256, key, b"\x01\x02", b"t").unwrap();
    });
    sends(("sign", b"\x0a\x06sha256\x1a\x05hello\x22\x03PEM"), || {
        foreign::sign(HashFunction::Sha256, Key::Pem("PEM"), b"hello").unwrap();
    });
    sends(("compress", b"hello"), || assert_eq!(foreign::compress(b"hello").unwrap(), b"\x08\x01"));
}

#[test]
fn a_function_that_the_host_lacks_is_an_error_of_its_own() {
    for status in [Status::NotFound, Status::Unimplemented] {
        with(
            move |_, _| Reply::refused(status, ""),
            || {
                let lacking =
                    |function: &str| ForeignError::NotOnThisHost { function: function.into() };
                let error = foreign::clear_route_cache().unwrap_err();
                assert_eq!(error, lacking("clear_route_cache"));
                let text = "this proxy has no foreign function clear_route_cache";
                assert_eq!(error.to_string(), text);
                assert_eq!(Expression::compile("true"), Err(lacking("expr_create")));
                let error = foreign::set_envoy_filter_state("a", "b", LifeSpan::FilterChain);
                let expected = SetObjectError::Foreign(lacking("set_envoy_filter_state"));
                assert_eq!(error, Err(expected));
                let error = foreign::declare_property(&Property::default());
                assert_eq!(error, Err(DeclareError::Foreign(lacking("declare_property"))));
                let error = foreign::sign(HashFunction::Sha1, Key::Der(b"k"), b"");
                assert_eq!(error, Err(SignatureError::Foreign(lacking("sign"))));
            },
        );
    }
}

#[test]
fn an_object_that_the_host_lacks_is_not_a_function_that_it_lacks() {
    let answer = |_: &str, arguments: &[u8]| {
        let is_message = arguments != b"\x0a";
        Reply::refused(if is_message { Status::NotFound } else { Status::BadArgument }, "")
    };
    with(answer, || {
        let error = foreign::set_envoy_filter_state("a", "b", LifeSpan::FilterChain);
        assert_eq!(error, Err(SetObjectError::NoSuchObject { name: "a".into() }));
    });
    let refuse = |_: &str, _: &[u8]| Reply::refused(Status::BadArgument, "");
    with(refuse, || {
        let error = foreign::set_envoy_filter_state("a", "b", LifeSpan::FilterChain);
        assert_eq!(error, Err(SetObjectError::Value { name: "a".into() }));
        let property = Property { name: "a", ..Property::default() };
        let error = foreign::declare_property(&property);
        assert_eq!(error, Err(DeclareError::Declared { name: "a".into() }));
        let error = foreign::verify_signature(HashFunction::Sha512, Key::Pem(""), b"", b"");
        assert_eq!(error, Err(SignatureError::NoKey));
    });
}

#[test]
fn only_an_answer_that_says_so_is_a_good_signature() {
    let check = |answer: &'static [u8], expected: Result<(), &'static str>| {
        with(
            move |_, _| bytes(answer),
            move || {
                let found =
                    foreign::verify_signature(HashFunction::Sha224, Key::Der(b"k"), b"s", b"t");
                let found = found.map_err(|error| error.to_string());
                assert_eq!(found, expected.map_err(str::to_owned), "{}", answer.escape_ascii());
            },
        );
    };
    check(b"\x08\x01", Ok(()));
    check(b"\x08\x01\x08\x00", Err("the proxy refused the signature or the key: "));
    check(b"", Err("the proxy refused the signature or the key: "));
    check(b"\x12\x02no", Err("the proxy refused the signature or the key: no"));
    check(b"\x0a\x01\x01", Err("the proxy refused the signature or the key: "));
    check(
        b"\x08\x01\x08",
        Err("the proxy answered verify_signature with no message: \
             message ends inside the field at byte 2"),
    );
}

#[test]
fn a_signature_is_what_the_host_gives() {
    let sign = || foreign::sign(HashFunction::Sha384, Key::Der(b"k"), b"t");
    let signature = with(|_, _| bytes(b"\x08\x01\x12\x02\x00\xff"), sign);
    assert_eq!(signature, Ok(b"\x00\xff".to_vec()));
    let refused = with(|_, _| bytes(b"\x1a\x02no"), sign);
    assert_eq!(refused, Err(SignatureError::Refused { reason: "no".into() }));
}

#[test]
fn an_expression_is_freed_when_it_is_dropped() {
    let mut calls = Vec::new();
    let answer = move |name: &str, arguments: &[u8]| {
        calls.push((name.to_owned(), arguments.to_vec()));
        match name {
            "expr_create" => bytes(b"\x07\0\0\0"),
            "expr_evaluate" => bytes(b"\x01"),
            _ => {
                let called = |name: &str, arguments: &[u8]| (name.to_owned(), arguments.to_vec());
                let token = b"\x07\0\0\0";
                let expected = [
                    called("expr_create", b"true"),
                    called("expr_evaluate", token),
                    called("expr_delete", token),
                ];
                assert_eq!(calls, expected);
                bytes(b"")
            }
        }
    };
    with(answer, || {
        let expression = Expression::compile("true").unwrap();
        assert_eq!(expression.evaluate(), Ok(b"\x01".to_vec()));
    });
}
