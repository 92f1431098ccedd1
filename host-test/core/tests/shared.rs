//! What plugins share, as scenarios expect it: values and queues.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Behaviour, agree, check, play};
use tollgate_abi::{Answer, Call, Callback, Reply};
use tollgate_host::report::Verdict;
use tollgate_host::scenario::Scenario;

/// The first failure of a scenario, if it has one.
fn failure(guests: &'static [(&'static str, Behaviour)], text: &str) -> Option<String> {
    match play(guests, text) {
        Verdict::Failed { failures } => Some(failures.first().unwrap().what.clone()),
        Verdict::Passed => None,
        Verdict::Skipped { .. } => unreachable!(),
    }
}

const SHARES: Behaviour = |world, callback| {
    if let Callback::RequestHeaders { .. } = callback {
        for (key, value) in [(&b"last"[..], &b"7"[..]), (b"\xff", b"\x00a")] {
            let call = Call::SetSharedData { key: key.into(), value: value.into(), cas: 0 };
            assert_eq!(world.handle(call), Reply::OK);
        }
    }
    Ok(agree(callback))
};

#[test]
fn shared_data_is_judged_by_vm_id_and_key() {
    let with = |shared_data: &str| {
        format!(
            "
name: shared data
filters: [ {{ filter: guest, vm_id: a }}, {{ filter: other, vm_id: b }} ]
steps:
  - request: {{}}
    expect: {{ shared_data: [ {shared_data} ] }}
"
        )
    };
    let check_failure = |shared_data: &str, expected: Option<&str>| {
        let guests: &[(&str, Behaviour)] =
            &[("guest", SHARES), ("other", |_, callback| Ok(agree(callback)))];
        let found = failure(guests, &with(shared_data));
        assert_eq!(found.as_deref(), expected, "{shared_data}");
    };
    check_failure("{ vm_id: a, key: last, value: '7' }, { vm_id: b, key: last }", None);
    check_failure("{ vm_id: a, key: { hex: ff }, value: { hex: '0061' } }", None);
    let wrong = "shared data last: expected \"8\", got \"7\"";
    check_failure("{ vm_id: a, key: last, value: '8' }", Some(wrong));
    let there = "shared data last: expected no such key, got \"7\"";
    check_failure("{ vm_id: a, key: last, value: null }", Some(there));
    let gone = "shared data last: expected \"7\", but there is no such key";
    check_failure("{ vm_id: b, key: last, value: '7' }", Some(gone));
    for (written, expected) in [
        ("{ key: last, value: '7' }", "the filters have several vm_ids"),
        ("{ vm_id: c, key: last }", "no filter has the vm_id `c`"),
    ] {
        let error = Scenario::parse(&with(written)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let map = "{ name: x, filters: [ { filter: guest } ], steps: [ { request: {}, \
               expect: { shared_data: { last: '7', none: null } } } ] }";
    check(&[("guest", SHARES)], map);
}

/// Registers a queue, and puts two messages into it for each request.
const QUEUES: Behaviour = |world, callback| {
    let register = Call::RegisterSharedQueue { name: b"jobs".to_vec() };
    let Reply::Done(Answer::U32(token)) = world.handle(register) else { panic!("{callback:?}") };
    if let Callback::RequestHeaders { .. } = callback {
        for message in [&b"first"[..], b"\xff"] {
            let call = Call::EnqueueSharedQueue { queue: token, message: message.to_vec() };
            assert_eq!(world.handle(call), Reply::OK);
        }
    }
    Ok(agree(callback))
};

#[test]
fn messages_that_wait_in_queues_are_judged_in_order() {
    let check_failure = |queues: &str, expected: Option<&str>| {
        let text = format!(
            "{{ name: queues, filters: [ {{ filter: guest, vm_id: a }} ], \
             steps: [ {{ request: {{}}, expect: {{ queues: {queues} }} }} ] }}"
        );
        let found = failure(&[("guest", QUEUES)], &text);
        assert_eq!(found.as_deref(), expected, "{queues}");
    };
    check_failure("{ jobs: [ { contains: irs }, { hex: ff } ], none: null }", None);
    check_failure("[ { vm_id: a, key: jobs, value: [ first, { hex: ff } ] } ]", None);
    let order = "queue jobs: message 0: expected \"second\", got \"first\"";
    check_failure("{ jobs: [ second, { hex: ff } ] }", Some(order));
    check_failure("{ jobs: [] }", Some("queue jobs: expected 0 messages, got 2"));
    check_failure("{ jobs: null }", Some("queue jobs: expected no such queue, got one"));
    check_failure("{ none: [] }", Some("queue none: nobody has registered it"));
    let unknown = "{ name: x, filters: [ { filter: guest } ], steps: [ { request: {}, \
                   expect: { queues: [ { vm_id: c, key: jobs, value: [] } ] } } ] }";
    let error = Scenario::parse(unknown).unwrap_err().to_string();
    assert!(error.contains("expect.queues: `jobs`: no filter has the vm_id `c`"), "{error}");
}
