//! Requests drawn at random, and a client that sends them as they are.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use proptest::test_runner::TestRng;
use rustls::{ClientConnection, StreamOwned};
use tokio::net::TcpSocket;

use crate::native;
use crate::peers::{self, Peers};
use crate::policy::{below, pick};

/// How long Envoy may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client sends, and where from.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Who sends it.
    pub(crate) peer: &'static str,
    /// The last byte of its address.
    pub(crate) address: u8,
    /// The method.
    pub(crate) method: &'static str,
    /// The path.
    pub(crate) path: &'static str,
    /// The host.
    pub(crate) host: &'static str,
    /// The lines of `x-role`.
    pub(crate) roles: Vec<&'static str>,
    /// The line of `x-forwarded-for`.
    pub(crate) forwarded_for: Option<&'static str>,
}

impl Request {
    /// Draws a request: more often a plain one than one that may be read in two ways.
    pub(crate) fn new(random: &mut TestRng) -> Self {
        let paths: &[&str] = match below(random, 4) {
            0 => &[
                "/orders%2F7",
                "/%6frders",
                "/orders//7",
                "/orders;x=y",
                "/orders/../admin",
                "/admin%00",
                "/orders/7%20b/items",
                "/a%2eb",
                "/orders/%2e%2e/admin",
                "/orders\\7",
                "//admin",
                "/orders%",
                "/ädmin",
            ],
            _ => &[
                "/",
                "/orders",
                "/orders/",
                "/orders/7",
                "/orders/7/items",
                "/orders/7/items?x=/admin",
                "/ordersX",
                "/admin",
                "/admin/x",
                "/a.b",
                "/aXb",
                "/Orders",
                "/items",
                "*",
            ],
        };
        let hosts: &[&str] = match below(random, 4) {
            0 => &[
                "user@orders.acme.test",
                "orders..acme.test",
                "orders.acme.test:x",
                ".acme.test",
                "[::1]",
            ],
            _ => &[
                "orders.acme.test",
                "orders.acme.test:8080",
                "ORDERS.acme.test",
                "admin.acme.test",
                "admin.acme.test.",
                "acme.test",
                "ordersXacme.test",
            ],
        };
        let roles: &[&[&str]] = &[
            &[],
            &["admin"],
            &["user-7"],
            &["guest"],
            &["user-7", "admin"],
            &["guest, admin"],
            &["guest ,user-7,"],
            &["admin", "admin"],
            &[""],
            &["Admin"],
            &["admin, user-7", "guest"],
        ];
        let peers: &[&str] = if below(random, 5) == 0 { &peers::OTHERS } else { &peers::GOOD };
        Self {
            peer: *pick(random, peers),
            address: 1 + u8::try_from(below(random, 4)).unwrap(),
            method: *pick(random, &["GET", "GET", "POST", "DELETE", "get", "PATCH"]),
            path: *pick(random, paths),
            host: *pick(random, hosts),
            roles: pick(random, roles).to_vec(),
            forwarded_for: *pick(
                random,
                &[None, None, None, Some("10.1.2.3"), Some("192.0.2.1, 10.1.2.3"), Some("x")],
            ),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, path, host, .. } = self;
        let roles = self.roles.iter().map(|role| format!("x-role: {role}\r\n"));
        let addresses = self.forwarded_for.iter();
        let addresses = addresses.map(|addresses| format!("x-forwarded-for: {addresses}\r\n"));
        let lines: String = roles.chain(addresses).collect();
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n").into_bytes()
    }
}

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// The connections of all peers to a listener.
pub(crate) struct Client<'a> {
    peers: &'a Peers,
    port: u16,
    streams: HashMap<(&'static str, u8), Stream>,
}

impl<'a> Client<'a> {
    /// Without a connection yet.
    pub(crate) fn new(peers: &'a Peers, port: u16) -> Self {
        Self { peers, port, streams: HashMap::new() }
    }

    /// Whether Envoy's own filter allows the request; `None` when Envoy takes it for none.
    pub(crate) fn send(&mut self, request: &Request) -> Option<bool> {
        let key = (request.peer, request.address);
        let mut stream = match self.streams.remove(&key) {
            Some(stream) => stream,
            None => self.connect(request),
        };
        stream.get_mut().write_all(&request.bytes()).unwrap();
        stream.get_mut().flush().unwrap();
        let (status, native) = answer(&mut stream).unwrap();
        match (status.as_str(), native) {
            ("200", Some(native)) => {
                self.streams.insert(key, stream);
                Some(native)
            }
            ("400", None) => None,
            other => panic!("{other:?} to {request:?}"),
        }
    }

    fn connect(&self, request: &Request) -> Stream {
        let (config, name) = self.peers.client(request.peer);
        let stream = bound(Ipv4Addr::new(127, 0, 0, request.address), self.port).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        BufReader::new(StreamOwned::new(connection, stream))
    }
}

/// A connection from this address.
fn bound(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The status of an answer without a body, and what Envoy's own filters say in it.
fn answer(stream: &mut Stream) -> io::Result<(String, Option<bool>)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut native = None;
    loop {
        line.clear();
        if stream.read_line(&mut line)? <= 2 {
            return Ok((status, native));
        }
        if let Some(said) = line.strip_prefix("x-native: ") {
            native = Some(native::allows(said.trim()));
        }
    }
}
