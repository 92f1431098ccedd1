//! Filters of TCP, and of responses alone, as a chain in one module: what they are told, and in which
//! order. `sdk/fixtures` has the chains of HTTP, on every host.

use tollgate::{
    CallbackKind, CloseConnection, DownstreamData, LocalReply, OnConnection, OnDownstreamClose,
    OnDownstreamData, OnRequestHeaders, OnResponseHeaders, OnUpstreamClose, OnUpstreamData,
    Outcome, PeerType, Registration, RequestHeaders, ResponseHeaders, StatusCode, UpstreamData,
    registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply};

use crate::scripted::{filter, play};

macro_rules! connected {
    ($name:ident, $refuses:literal) => {
        filter!($name, ());

        impl OnConnection for $name {
            fn on_connection(&self, (): &mut ()) -> Result<(), CloseConnection> {
                tollgate::log::info!("{} connection", stringify!($name));
                if $refuses { Err(CloseConnection::silently()) } else { Ok(()) }
            }
        }

        impl OnDownstreamData for $name {
            fn on_downstream_data(
                &self,
                (): &mut (),
                data: &mut DownstreamData,
            ) -> Result<(), CloseConnection> {
                tollgate::log::info!("{} downstream {}", stringify!($name), data.len());
                Ok(data.append("!")?)
            }
        }

        impl OnUpstreamData for $name {
            fn on_upstream_data(
                &self,
                (): &mut (),
                data: &mut UpstreamData,
            ) -> Result<(), CloseConnection> {
                tollgate::log::info!("{} upstream {}", stringify!($name), data.len());
                Ok(data.append("!")?)
            }
        }

        impl OnDownstreamClose for $name {
            fn on_downstream_close(&self, (): &mut (), by: PeerType) {
                tollgate::log::info!("{} downstream closed by {by}", stringify!($name));
            }
        }

        impl OnUpstreamClose for $name {
            fn on_upstream_close(&self, (): &mut (), by: PeerType) {
                tollgate::log::info!("{} upstream closed by {by}", stringify!($name));
            }
        }
    };
}

connected!(One, false);
connected!(Two, false);
connected!(Shut, true);

macro_rules! stamping {
    ($name:ident) => {
        filter!($name, ());

        impl OnResponseHeaders for $name {
            fn on_response_headers(&self, (): &mut (), _: &mut ResponseHeaders) -> Outcome {
                tollgate::log::info!("{} response", stringify!($name));
                Ok(())
            }
        }
    };
}

stamping!(Stamp);
stamping!(StampToo);

filter!(Refusing, ());

impl OnRequestHeaders for Refusing {
    fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome {
        Err(LocalReply::new(StatusCode::FORBIDDEN))
    }
}

/// The words of the lines that are logged in all callbacks, with what each callback returned.
fn check(chain: Registration, callbacks: Vec<Callback>, expected: &[(u32, &[&str])]) {
    let read = |call: &Call| {
        let is_read = call.function() == Function::GetBufferBytes;
        is_read.then(|| Reply::Done(Answer::Bytes(b"abc".to_vec())))
    };
    let played = play(chain, read, callbacks);
    let words = |call: &String| {
        let (_, words) = call.split_once(": ")?;
        Some(words.trim_end_matches("\")").to_owned())
    };
    let found: Vec<(u32, Vec<String>)> = played
        .iter()
        .map(|(returned, calls)| {
            let logged = calls.iter().filter(|call| call.starts_with("proxy_log("));
            (*returned, logged.filter_map(words).collect())
        })
        .collect();
    let expected: Vec<(u32, Vec<String>)> = expected
        .iter()
        .map(|(returned, words)| (*returned, words.iter().map(ToString::to_string).collect()))
        .collect();
    assert_eq!(found, expected);
}

const CONTEXT: u32 = 2;

fn downstream(end_of_stream: bool) -> Callback {
    Callback::DownstreamData { context: CONTEXT, size: 3, end_of_stream }
}

fn upstream(end_of_stream: bool) -> Callback {
    Callback::UpstreamData { context: CONTEXT, size: 3, end_of_stream }
}

#[test]
fn bytes_go_down_the_chain_and_up_again_each_as_the_filter_before_has_left_them() {
    check(
        registration!("pair" = [One, Two]),
        vec![
            Callback::NewConnection { context: CONTEXT },
            downstream(false),
            upstream(false),
            Callback::DownstreamConnectionClose { context: CONTEXT, peer: 2 },
        ],
        &[
            (0, &["One connection", "Two connection"]),
            (0, &["One downstream 3", "Two downstream 4"]),
            (0, &["Two upstream 3", "One upstream 4"]),
            (0, &["One downstream closed by remote", "Two downstream closed by remote"]),
        ],
    );
}

/// As in Envoy, whose filter learns that the upstream has closed right after it has seen the last bytes,
/// before the next one sees these.
#[test]
fn a_filter_learns_of_the_end_of_the_upstream_once_and_before_the_next_has_the_last_bytes() {
    check(
        registration!("pair" = [One, Two]),
        vec![upstream(true), Callback::UpstreamConnectionClose { context: CONTEXT, peer: 0 }],
        &[
            (0, &["Two upstream 3", "Two upstream closed by not_known", "One upstream 4"]),
            (0, &["One upstream closed by not_known"]),
        ],
    );
}

#[test]
fn a_connection_that_the_first_filter_refuses_the_second_never_hears_of() {
    check(
        registration!("pair" = [Shut, Two]),
        vec![
            Callback::NewConnection { context: CONTEXT },
            Callback::DownstreamConnectionClose { context: CONTEXT, peer: 1 },
            Callback::UpstreamConnectionClose { context: CONTEXT, peer: 0 },
        ],
        &[
            (1, &["Shut connection"]),
            (0, &["Shut downstream closed by local"]),
            (0, &["Shut upstream closed by not_known"]),
        ],
    );
}

#[test]
fn filters_without_a_part_in_requests_see_all_responses() {
    let response = || Callback::ResponseHeaders { context: CONTEXT, count: 1, end_of_stream: true };
    let request = Callback::RequestHeaders { context: CONTEXT, count: 1, end_of_stream: true };
    let both = registration!("stamps" = [Stamp, StampToo]);
    assert_eq!((both.callbacks)(), [CallbackKind::Configure, CallbackKind::ResponseHeaders]);
    check(both, vec![response()], &[(0, &["StampToo response", "Stamp response"])]);
    check(
        registration!("behind" = [Stamp, Refusing, StampToo]),
        vec![request, response()],
        &[(1, &[]), (0, &["Stamp response"])],
    );
}
