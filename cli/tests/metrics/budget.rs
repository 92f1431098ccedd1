//! However many paths, hosts and values of headers clients make up, a real Envoy keeps to the budget, its
//! memory stays flat, and what was folded adds up to the total.
//!
//! `TOLLGATE_METRICS_REQUESTS=1000000` sends that many requests; without it there are a few thousand.

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;

use crate::common::envoy::fetched;
use crate::folder;
use crate::proxy::{proxy, series, value, wait_until};

/// How many requests there are, unless the variable says otherwise.
const REQUESTS: u64 = 8_000;
const VARIABLE: &str = "TOLLGATE_METRICS_REQUESTS";
/// How many series each metric may have.
const BUDGET: u64 = 500;
/// Clients at a time, and how many connections each has, with one request under way on each.
const CLIENTS: u64 = 2;
const CONNECTIONS: usize = 16;
/// How much memory Envoy may need more for all requests after the first quarter, in bytes.
const GROWTH: u64 = 8 << 20;

const POLICY: &str = r"
filter: metrics
config:
  profile: otel
  budget: 500
  metrics: [ { measure: requests, name: requests_total } ]
  labels:
    - { name: path, attribute: [ request, path ] }
    - { name: host, attribute: [ request, host ] }
    - { name: user, header: x-user }
";

#[test]
fn a_million_values_stay_within_the_budget_of_a_real_envoy() {
    let Some(envoy) = fetched() else { return };
    let requests: u64 = env::var(VARIABLE).map_or(REQUESTS, |number| number.parse().unwrap());
    let envoy = proxy(&envoy, &folder("budget"), POLICY).workers(2).start();
    let first = requests / 4;
    send(envoy.listener, 0..first);
    let before = envoy.resident_bytes();
    send(envoy.listener, first..requests);
    let grown = envoy.resident_bytes().saturating_sub(before);
    println!("{requests} requests; {before} bytes after a quarter, {grown} more at the end");
    assert!(grown <= GROWTH, "{grown} bytes for {} requests", requests - first);

    for metric in [
        "requests_total",
        "http_server_request_duration_milliseconds_count",
        "http_server_request_body_size_bytes_count",
        "http_server_response_body_size_bytes_count",
    ] {
        // Histograms of workers are merged from time to time.
        let sum = || series(envoy.admin, metric).values().sum::<u64>();
        wait_until(|| sum() == requests);
        let all = series(envoy.admin, metric);
        assert_eq!(all.len() as u64, BUDGET + 1, "{metric}");
        assert_eq!(all.values().sum::<u64>(), requests, "{metric}");
        let other = all.iter().filter(|(labels, _)| labels.contains(r#"user="other""#));
        let others: Vec<u64> = other.map(|(_, count)| *count).collect();
        assert_eq!(others, [requests - BUDGET], "{metric}");
    }
    assert_eq!(value(envoy.admin, "tollgate_metrics_counted"), requests);
    assert_eq!(value(envoy.admin, "tollgate_metrics_folded"), requests - BUDGET);
}

/// Sends requests no two of which have the same path, host or value of a header.
fn send(to: SocketAddr, numbers: Range<u64>) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let numbers = numbers.clone().filter(move |number| number % CLIENTS == client);
            let numbers: Vec<u64> = numbers.collect();
            scope.spawn(move || {
                let connect = |_| TcpStream::connect(to).unwrap();
                let mut connections: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
                for together in numbers.chunks(CONNECTIONS) {
                    for (connection, number) in connections.iter_mut().zip(together) {
                        connection.write_all(request(*number).as_bytes()).unwrap();
                    }
                    for (connection, _) in connections.iter_mut().zip(together) {
                        read_answer(connection);
                    }
                }
            });
        }
    });
}

fn request(number: u64) -> String {
    format!("GET /orders/{number} HTTP/1.1\r\nhost: h{number}.example\r\nx-user: u{number}\r\n\r\n")
}

/// Reads an answer that has no body.
fn read_answer(connection: &mut TcpStream) {
    let mut got = Vec::new();
    let mut buffer = [0; 1024];
    while !got.ends_with(b"\r\n\r\n") {
        let read = connection.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection is closed");
        got.extend(&buffer[..read]);
    }
    assert!(got.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&got));
}
