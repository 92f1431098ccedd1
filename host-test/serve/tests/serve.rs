//! Real clients and a real upstream, with a filter between them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tollgate_host::offline::Offline;
use tollgate_host::recording::{Session, as_scenario, replay};
use tollgate_host::report::Verdict;
use tollgate_host::run::run;
use tollgate_host::scenario::{HostName, Scenario};

use common::{load, on_sockets, scenario, start, start_recorded, upstream};

/// Says what it got; what callouts ask, it grants to `alice`.
fn answer(path: &str, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
    let header = |name: &str| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    if path == "/shop.Limits/Ask" {
        // Its trailers only, since a whole body has no others: the status is not 0.
        return Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "8")
            .header("grpc-message", "enough")
            .body(Full::default())
            .unwrap();
    }
    if path == "/check" {
        let is_alice = header("x-user") == b"alice";
        let answer = Response::builder().status(if is_alice { 200 } else { 403 });
        return answer.body(Full::from(if is_alice { "granted" } else { "no" })).unwrap();
    }
    let told = [path.as_bytes(), b" ", header("x-verdict"), b" ", body].concat();
    Response::new(Full::from(told))
}

/// Sends bytes on a connection, and gives all that comes back until it is closed.
fn talk(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.write_all(request.as_ref()).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(user: &str) -> String {
    format!("GET /orders HTTP/1.1\r\nhost: shop\r\nx-user: {user}\r\nconnection: close\r\n\r\n")
}

#[test]
fn a_filter_asks_a_real_service_before_a_request_goes_on() {
    let proxy = start("patient", upstream(answer));
    let granted = talk(proxy.address, get("alice"));
    assert!(granted.starts_with("HTTP/1.1 200 OK\r\n"), "{granted}");
    assert!(granted.ends_with("\r\n\r\n/orders granted "), "{granted}");
    let refused = talk(proxy.address, get("bob"));
    assert!(refused.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{refused}");
    assert!(refused.ends_with("\r\n\r\nno"), "{refused}");
    let told = [proxy.access(), proxy.access()];
    assert_eq!(told.each_ref().map(|access| access.status), [Some(200), Some(403)]);
    assert_eq!(told.each_ref().map(|access| access.went_upstream), [true, false]);
}

#[test]
fn a_service_that_nobody_runs_is_an_answer_of_the_proxy() {
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = start("patient", nobody);
    let answer = talk(proxy.address, get("alice"));
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nproxy: 503"), "{answer}");
}

#[test]
fn a_filter_asks_over_grpc() {
    let proxy = start("limiting", upstream(answer));
    let answer = talk(proxy.address, get("alice"));
    assert!(answer.ends_with("\r\n\r\n/orders 8 enough{via_upstream} "), "{answer}");
}

#[test]
fn bodies_come_through_the_filter_over_http_1_and_http_2() {
    let proxy = start("shouting", upstream(answer));
    let request = "POST /p HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\
                   connection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let over_1 = talk(proxy.address, request);
    let over_2 = on_sockets(async {
        let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut client, connection) = connected.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://shop/p").body(Full::new(Bytes::from("abcde"))).unwrap();
        let answer = client.send_request(request).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes()
    });
    assert_eq!(over_2, "/P  ABCDE!!");
    assert!(over_1.contains("\r\n/P  ABCDE!!"), "{over_1}");
}

#[test]
fn a_client_that_leaves_ends_its_stream() {
    // A service that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = start("patient", silent.local_addr().unwrap());
    let mut client = TcpStream::connect(proxy.address).unwrap();
    client.write_all(get("alice").as_bytes()).unwrap();
    let _callout = silent.accept().unwrap();
    drop(client);
    let access = proxy.access();
    assert_eq!((access.status, access.went_upstream), (None, false));
}

#[test]
fn many_streams_are_under_way_at_once() {
    let proxy = start("patient", upstream(answer));
    let users = ["alice", "bob"].into_iter().cycle().take(64);
    let clients: Vec<_> = users
        .map(|user| {
            let address = proxy.address;
            std::thread::spawn(move || (user, talk(address, get(user))))
        })
        .collect();
    for client in clients {
        let (user, answer) = client.join().unwrap();
        let status = if user == "alice" { "HTTP/1.1 200 " } else { "HTTP/1.1 403 " };
        assert!(answer.starts_with(status), "{user}: {answer}");
    }
}

#[test]
fn a_host_that_is_none_is_refused_before_the_filters_as_envoy_does() {
    let proxy = start("patient", upstream(answer));
    let check = |host: &[u8], status: &str, body: &str| {
        let request = [b"GET / HTTP/1.1\r\n", host, b"connection: close\r\n\r\n"].concat();
        let answer = talk(proxy.address, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host:?}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{host:?}: {answer}");
    };
    for host in [&b"\xff"[..], b"sh\xc3\xb6p", b"a b", b"a/b", b"a|b"] {
        check(&[b"host: ", host, b"\r\n"].concat(), "400", "Bad Request");
    }
    check(b"", "400", "");
    check(b"host: a_b~[::1]%zz\r\nx-user: bob\r\n", "403", "no");
    // Those that were refused are no streams.
    assert_eq!(proxy.access().status, Some(403));
}

#[test]
fn recorded_callouts_are_answered_in_a_replay_and_in_a_scenario() {
    for (root_id, users) in [("patient", &["alice", "bob"][..]), ("limiting", &["alice"])] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recording.jsonl");
        let proxy = start_recorded(root_id, upstream(answer), Some(file.clone()));
        for user in users {
            talk(proxy.address, get(user));
            proxy.access();
        }
        let sessions = Session::read_all(&std::fs::read(&file).unwrap()).unwrap();
        let host = Offline::new(HostName::Native, &load);
        let again = host.start_run(&scenario(root_id)).unwrap();
        let replayed = replay(&sessions[0], again, None).unwrap();
        assert!(replayed.is_same() && replayed.same == users.len(), "{replayed}");

        let written = as_scenario(&sessions[0], "recorded").unwrap();
        assert_eq!(written.unfinished, 0);
        let text = written.scenario.to_string();
        let parsed = Scenario::parse(&text).unwrap();
        // A recording does not tell root ids: `serve` has none.
        let filters = scenario(root_id).filters;
        let verdict = run(&Scenario { filters, ..parsed }, &host).unwrap();
        assert_eq!(verdict, Verdict::Passed, "{text}");
    }
}
