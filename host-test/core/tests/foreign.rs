//! Foreign functions that a guest could hold the host up with: each ends within its bounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{agree, log, play};
use tollgate_abi::{Answer, Call, CallbackKind, Reply, Status};
use tollgate_host::report::Verdict;
use tollgate_host::world::World;

#[test]
fn a_guest_that_uncompresses_without_end_traps() {
    let verdict = play(
        &[("bomb", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                let mut foreign = |name: &str, arguments| {
                    let name = name.as_bytes().to_vec();
                    world.handle(Call::CallForeignFunction { name, arguments })
                };
                let bomb = match foreign("compress", vec![0; 65 << 20]) {
                    Reply::Done(Answer::Bytes(bytes)) => bytes,
                    other => panic!("{other}"),
                };
                if let Reply::Trap { why } = foreign("uncompress", bomb) {
                    log(world, &why);
                }
            }
            Ok(agree(callback))
        })],
        "
name: a bomb
filters: [ { filter: bomb } ]
steps:
  - request: {}
    expect: { logs: [ 'the bytes become too many, beyond the limit uncompressed_bytes of 67108864' ] }
",
    );
    assert_eq!(verdict, Verdict::Passed);
}

#[test]
fn an_expression_holds_nobody_up() {
    let verdict = play(
        &[("expressions", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                let foreign = |world: &mut World, name: &str, arguments: &[u8]| {
                    let (name, arguments) = (name.as_bytes().to_vec(), arguments.to_vec());
                    world.handle(Call::CallForeignFunction { name, arguments })
                };
                let chain = |part: &str| format!("a{}", part.repeat(8000 / part.len()));
                let nested = |open: &str, close: &str| {
                    let times = 8000 / (open.len() + close.len());
                    format!("{}1{}", open.repeat(times), close.repeat(times))
                };
                for deep in [
                    chain(".b"),
                    chain("[0]"),
                    chain("+a"),
                    chain("?a:a"),
                    nested("(", ")"),
                    nested("[", "]"),
                    nested("!(", ")"),
                ] {
                    let Reply::Failed { status, .. } =
                        foreign(world, "expr_create", deep.as_bytes())
                    else {
                        panic!("{deep}")
                    };
                    assert_eq!(status, Status::BadArgument, "{deep}");
                }
                let ten = "[1,1,1,1,1,1,1,1,1,1]";
                for (macro_name, inner) in [("all", "true"), ("map", "1")] {
                    let around = |inner: String, at| format!("{ten}.{macro_name}(v{at}, {inner})");
                    let long = (0..9).fold(inner.to_owned(), around);
                    let token = match foreign(world, "expr_create", long.as_bytes()) {
                        Reply::Done(Answer::Bytes(token)) => token,
                        other => panic!("{other}"),
                    };
                    let Reply::Failed { status, .. } = foreign(world, "expr_evaluate", &token)
                    else {
                        panic!("{long}")
                    };
                    assert_eq!(status, Status::InternalFailure, "{long}");
                }
                let Reply::Trap { why } = foreign(world, "expr_create", &[b' '; 8193]) else {
                    panic!()
                };
                log(world, &why);
            }
            Ok(agree(callback))
        })],
        "
name: expressions
filters: [ { filter: expressions } ]
steps:
  - request: {}
    expect: { logs: [ 'an expression has 8193 bytes, beyond the limit expression_bytes of 8192' ] }
",
    );
    assert_eq!(verdict, Verdict::Passed);
}
