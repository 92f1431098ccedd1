//! A client that sends a fixed number of requests on a fixed number of connections, and costs little.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tollgate_host::scenario::RequestStep;

/// How many connections a client keeps; each has one request under way.
pub const CONNECTIONS: usize = 8;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request over HTTP/1.1 as its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    bytes: Vec<u8>,
    is_head: bool,
}

impl Request {
    /// A request without a body.
    pub fn get(path: &str, lines: &[(String, String)]) -> Self {
        let mut bytes = format!("GET {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in lines {
            push_line(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        bytes.extend(b"\r\n");
        Self { bytes, is_head: false }
    }

    /// The request of a step; a body of several pieces goes in chunks.
    pub(crate) fn of(step: &RequestStep) -> Self {
        let request = &step.request;
        let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.path).into_bytes();
        push_line(&mut bytes, b"host", request.authority.as_bytes());
        for (name, value) in &request.headers {
            push_line(&mut bytes, name, value);
        }
        let has_length = request.headers.iter().any(|(name, _)| name == b"content-length");
        match (request.body.as_slice(), request.trailers.as_slice()) {
            ([], []) => bytes.extend(b"\r\n"),
            ([whole], []) => {
                if !has_length {
                    let length = whole.len().to_string();
                    push_line(&mut bytes, b"content-length", length.as_bytes());
                }
                bytes.extend(b"\r\n");
                bytes.extend(whole);
            }
            (chunks, trailers) => {
                push_line(&mut bytes, b"transfer-encoding", b"chunked");
                bytes.extend(b"\r\n");
                for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n");
                for (name, value) in trailers {
                    push_line(&mut bytes, name, value);
                }
                bytes.extend(b"\r\n");
            }
        }
        Self { bytes, is_head: request.method == "HEAD" }
    }
}

fn push_line(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        bytes.extend(part);
    }
}

/// A client with its connections to one listener.
pub struct Client<'a> {
    listener: SocketAddr,
    connections: Vec<Connection>,
    requests: &'a [Request],
    next: usize,
    answers: BTreeMap<u16, u64>,
}

impl<'a> Client<'a> {
    /// Connects to a listener that is to get these requests in turn.
    ///
    /// # Errors
    ///
    /// There is no connection.
    pub fn connect(listener: SocketAddr, requests: &'a [Request]) -> io::Result<Self> {
        let connections =
            (0..CONNECTIONS).map(|_| Connection::to(listener)).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { listener, connections, requests, next: 0, answers: BTreeMap::new() })
    }

    /// Sends requests, one on each connection at a time, and waits for the answers; gives how many it
    /// has sent: `count`, rounded up to a multiple of the connections.
    ///
    /// # Errors
    ///
    /// A connection breaks, or an answer cannot be read.
    pub fn send(&mut self, count: usize) -> io::Result<usize> {
        let times = count.div_ceil(CONNECTIONS);
        let requests = self.requests;
        for _ in 0..times {
            let batch: Vec<&Request> =
                requests.iter().cycle().skip(self.next).take(CONNECTIONS).collect();
            self.next = (self.next + CONNECTIONS) % requests.len().max(1);
            for status in self.exchange(&batch)? {
                *self.answers.entry(status).or_default() += 1;
            }
        }
        Ok(times * CONNECTIONS)
    }

    /// Sends requests, at most as many as there are connections, one on each, and gives the statuses of
    /// their answers.
    ///
    /// # Errors
    ///
    /// There are too many, a connection breaks, or an answer cannot be read.
    pub fn exchange(&mut self, requests: &[&Request]) -> io::Result<Vec<u16>> {
        let connections = self.connections.get_mut(..requests.len());
        let connections = connections.ok_or(io::ErrorKind::InvalidInput)?;
        for (connection, request) in connections.iter_mut().zip(requests) {
            connection.stream.write_all(&request.bytes)?;
        }
        let mut statuses = Vec::with_capacity(requests.len());
        for (connection, request) in connections.iter_mut().zip(requests) {
            let answer = connection.answer(request.is_head)?;
            statuses.push(answer.status);
            if answer.closes {
                *connection = Connection::to(self.listener)?;
            }
        }
        Ok(statuses)
    }

    /// The answers so far: how many of each status.
    pub fn answers(&self) -> &BTreeMap<u16, u64> {
        &self.answers
    }
}

struct Connection {
    stream: TcpStream,
    /// What has come and was not looked at yet.
    bytes: Vec<u8>,
}

/// What matters of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    closes: bool,
}

/// How the body of an answer ends.
enum Framing {
    Length(usize),
    Chunked,
}

impl Connection {
    fn to(listener: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: connect(listener)?, bytes: Vec::new() })
    }

    /// Reads one answer to its end.
    fn answer(&mut self, is_head: bool) -> io::Result<Answer> {
        let unreadable =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("an answer {what}"));
        let mut status = None;
        let mut closes = false;
        let mut framing = Framing::Length(0);
        loop {
            let line = self.line()?;
            let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
            match (status, text.split_once(": ")) {
                (None, _) => {
                    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
                    status = Some(code.ok_or_else(|| unreadable("without a status"))?);
                }
                (Some(_), Some(("content-length", length))) => {
                    let length = length.parse().map_err(|_| unreadable("of unknown length"))?;
                    framing = Framing::Length(length);
                }
                (Some(_), Some(("transfer-encoding", "chunked"))) => framing = Framing::Chunked,
                (Some(_), Some(("connection", "close"))) => closes = true,
                (Some(_), None) if text.is_empty() => break,
                (Some(_), _) => {}
            }
        }
        let status = status.ok_or_else(|| unreadable("without a status"))?;
        let has_body = !is_head && !matches!(status, 204 | 304);
        match framing {
            _ if !has_body => {}
            Framing::Length(length) => self.skip(length)?,
            Framing::Chunked => loop {
                let line = self.line()?;
                let size = str::from_utf8(&line)
                    .ok()
                    .and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
                let size = size.ok_or_else(|| unreadable("with a chunk of unknown length"))?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    break;
                }
                self.skip(size + 2)?;
            },
        }
        Ok(Answer { status, closes })
    }

    /// A line without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                let mut line: Vec<u8> = self.bytes.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            self.read_on()?;
        }
    }

    fn skip(&mut self, length: usize) -> io::Result<()> {
        while self.bytes.len() < length {
            self.read_on()?;
        }
        self.bytes.drain(..length);
        Ok(())
    }

    fn read_on(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend(buffer.iter().take(read));
        Ok(())
    }
}

/// Sends one request on a connection of its own, and gives all that comes back.
///
/// # Errors
///
/// There is no connection, or no answer.
pub fn get(to: SocketAddr, path: &str, lines: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut connection = connect(to)?;
    let mut request =
        format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n").into_bytes();
    for (name, value) in lines {
        push_line(&mut request, name.as_bytes(), value);
    }
    request.extend(b"\r\n");
    connection.write_all(&request)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(answer)
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use tollgate_host::scenario::{Scenario, Step};

    use super::*;

    #[test]
    fn a_step_becomes_the_bytes_of_its_request() {
        let check = |request: &str, expected: &str| {
            let text = format!(
                "{{ name: x, filters: [ {{ filter: x }} ], steps: [ {{ request: {request} }} ] }}"
            );
            let scenario = Scenario::parse(&text).unwrap();
            let Some(Step::Request(step)) = scenario.steps.first() else { panic!("{request}") };
            assert_eq!(String::from_utf8_lossy(&Request::of(step).bytes), expected);
        };
        check("{}", "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n");
        check(
            "{ method: POST, path: /a, headers: [ [x-user, alice] ], body: hello }",
            "POST /a HTTP/1.1\r\nhost: example.com\r\nx-user: alice\r\ncontent-length: 5\r\n\r\nhello",
        );
        check(
            "{ method: PUT, body: [hel, lo], trailers: [ [x-sum, '5'] ] }",
            "PUT / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n\
             3\r\nhel\r\n2\r\nlo\r\n0\r\nx-sum: 5\r\n\r\n",
        );
    }

    #[test]
    fn answers_are_read_to_their_end_and_no_further() {
        let check = |said: &'static [u8], is_head: bool, expected: &[(u16, bool)]| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || listener.accept().unwrap().0.write_all(said));
            let mut connection = Connection::to(address).unwrap();
            for &(status, closes) in expected {
                assert_eq!(connection.answer(is_head).unwrap(), Answer { status, closes });
            }
            assert!(connection.answer(is_head).is_err());
            server.join().unwrap().unwrap();
        };
        check(
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\nHTTP/1.1 429 Too Many\r\nConnection: close\r\ncontent-length: 0\r\n\r\n",
            false,
            &[(200, false), (429, true)],
        );
        check(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            false,
            &[(200, false), (204, false)],
        );
        check(
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nHTTP/1.1 304 Not\r\ncontent-length: 9\r\n\r\n",
            true,
            &[(200, false), (304, false)],
        );
        check(b"nonsense\r\n\r\n", false, &[]);
    }
}
