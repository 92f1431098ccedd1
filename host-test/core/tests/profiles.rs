//! Where hosts differ: the same guest on each profile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Behaviour, CONTINUE, agree, check, log};
use tollgate_abi::{Call, Callback, MapType, Reply, StreamType};
use tollgate_host::world::World;

/// Logs what each call of a guest came to.
fn tell(world: &mut World, call: Call) {
    let words = match world.handle(call) {
        Reply::Done(_) => "ok".into(),
        Reply::Refused { status, .. }
        | Reply::Untimely { status, .. }
        | Reply::Failed { status, .. } => status.to_string(),
        Reply::Trap { .. } => "trap".into(),
    };
    log(world, &words);
}

/// Plays one request on a guest, for each profile, and expects these lines of its log in this order.
fn expect(guest: Behaviour, expected: [(&str, &[&str]); 3]) {
    let guests: &'static [(&'static str, Behaviour)] = Box::leak(Box::new([("guest", guest)]));
    for (profile, lines) in expected {
        let lines = lines.join("', '");
        let text = format!(
            "
name: {profile}
filters: [ {{ filter: guest }} ]
profile: {profile}
only: {{ on: [wasmtime], reason: of a profile }}
steps:
  - request: {{ headers: [ [x-user, alice] ] }}
    expect: {{ logs: ['{lines}'] }}
"
        );
        check(guests, &text);
    }
}

#[test]
fn a_number_to_compare_means_something_else_on_each_host() {
    expect(
        |world, callback| {
            if let Callback::RequestHeaders { .. } = callback {
                let set = |key: &[u8], cas| Call::SetSharedData {
                    key: key.to_vec(),
                    value: b"v".to_vec(),
                    cas,
                };
                // Absent, with a number; absent, without; there, without; there, with a wrong one.
                tell(world, set(b"a", 7));
                tell(world, set(b"b", 0));
                tell(world, set(b"b", 0));
                tell(world, set(b"b", u32::MAX));
            }
            Ok(agree(callback))
        },
        [
            ("envoy", &["ok", "ok", "ok", "cas_mismatch"]),
            ("spec", &["cas_mismatch", "ok", "ok", "cas_mismatch"]),
            ("nginx", &["cas_mismatch", "ok", "cas_mismatch", "cas_mismatch"]),
        ],
    );
}

#[test]
fn a_removed_header_is_gone_or_empty() {
    expect(
        |world, callback| {
            if let Callback::RequestHeaders { .. } = callback {
                let map = MapType::RequestHeaders;
                for name in ["x-user", "x-none"] {
                    let name = name.as_bytes().to_vec();
                    world.handle(Call::RemoveHeaderMapValue { map, name: name.clone() });
                    tell(world, Call::GetHeaderMapValue { map, name });
                }
            }
            Ok(agree(callback))
        },
        [
            ("envoy", &["not_found", "not_found"]),
            ("spec", &["not_found", "not_found"]),
            ("nginx", &["ok", "not_found"]),
        ],
    );
}

#[test]
fn a_map_out_of_its_phase_is_a_wrong_argument_to_one_call_or_to_another() {
    expect(
        |world, callback| {
            if let Callback::RequestHeaders { .. } = callback {
                let map = MapType::ResponseHeaders;
                tell(world, Call::GetHeaderMapPairs { map });
                tell(world, Call::GetHeaderMapValue { map, name: b"x-user".to_vec() });
                return Ok(CONTINUE);
            }
            Ok(agree(callback))
        },
        [
            ("envoy", &["ok", "bad_argument"]),
            ("spec", &["ok", "bad_argument"]),
            ("nginx", &["bad_argument", "not_found"]),
        ],
    );
}

#[test]
fn what_a_host_does_not_implement_traps() {
    expect(
        |world, callback| {
            if let Callback::ResponseHeaders { .. } = callback {
                tell(world, Call::GetStatus {});
                tell(world, Call::CloseStream { stream: StreamType::Downstream });
            }
            Ok(agree(callback))
        },
        [("envoy", &["ok"]), ("spec", &["ok"]), ("nginx", &["trap", "trap"])],
    );
}
