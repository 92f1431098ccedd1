//! A client that sends a fixed number of requests on a fixed number of connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How many connections a client keeps; each has one request under way.
const CONNECTIONS: usize = 8;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a browser or a service sends with a request, more or less.
const LINES: [(&str, &str); 12] = [
    ("host", "shop.example.com"),
    ("x-user", "alice"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-language", "en-GB,en;q=0.8,de;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes"),
    ("referer", "https://shop.example.com/orders?page=2"),
    ("origin", "https://shop.example.com"),
    ("cache-control", "no-cache"),
    ("authorization", "Bearer abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"),
];

/// The request that is sent again and again.
pub(crate) struct Request {
    /// Its header lines.
    pub(crate) lines: Vec<(String, String)>,
    bytes: Vec<u8>,
}

impl Request {
    /// A request with so many header lines, at least two.
    pub(crate) fn with_lines(count: usize) -> Self {
        let more = (LINES.len()..).map(|n| (format!("x-more-{n}"), "0123456789abcdef".to_owned()));
        let usual = LINES.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let lines: Vec<_> = usual.chain(more).take(count.max(2)).collect();
        let mut text = String::from("GET /orders HTTP/1.1\r\n");
        for (name, value) in &lines {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        Self { bytes: text.into_bytes(), lines }
    }
}

/// A client with its connections to one listener.
pub(crate) struct Client<'a> {
    connections: Vec<TcpStream>,
    request: &'a [u8],
    /// How long an answer is: all are the same.
    answer: Vec<u8>,
}

impl<'a> Client<'a> {
    /// Connects, and sends one request to learn how long an answer is.
    ///
    /// # Errors
    ///
    /// There is no connection, or no answer.
    pub(crate) fn connect(listener: SocketAddr, request: &'a Request) -> Result<Self> {
        let connections =
            (0..CONNECTIONS).map(|_| connect(listener)).collect::<Result<Vec<_>>>()?;
        let mut client = Self { connections, request: &request.bytes, answer: Vec::new() };
        let first = client.connections.first_mut().context("no connection")?;
        first.write_all(client.request)?;
        let mut byte = [0];
        while !client.answer.ends_with(b"\r\n\r\nok\n") {
            first.read_exact(&mut byte)?;
            client.answer.extend(byte);
        }
        Ok(client)
    }

    /// Sends requests, one on each connection at a time, and waits for the answers; gives how many it
    /// has sent: `count`, rounded up to a multiple of the connections.
    ///
    /// # Errors
    ///
    /// A connection breaks, or an answer is not 200.
    pub(crate) fn send(&mut self, count: usize) -> Result<usize> {
        let times = count.div_ceil(CONNECTIONS);
        for _ in 0..times {
            for connection in &mut self.connections {
                connection.write_all(self.request)?;
            }
            for connection in &mut self.connections {
                connection.read_exact(&mut self.answer)?;
                let is_whole = self.answer.starts_with(b"HTTP/1.1 200 ")
                    && self.answer.ends_with(b"\r\n\r\nok\n");
                ensure!(is_whole, "an unexpected answer: {}", self.answer.escape_ascii());
            }
        }
        Ok(times * CONNECTIONS)
    }
}

/// Sends one request on a connection of its own, and gives all that comes back.
///
/// # Errors
///
/// There is no connection, or no answer.
pub(crate) fn get(to: SocketAddr, path: &str, lines: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut connection = connect(to)?;
    let mut request =
        format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n").into_bytes();
    for (name, value) in lines {
        request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    connection.write_all(&request)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(answer)
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_as_many_lines_as_were_asked_for() {
        let check = |count, expected| {
            let request = Request::with_lines(count);
            assert_eq!(request.lines.len(), expected);
            let parts = request.bytes.split(|&byte| byte == b'\n').count();
            // The request line, the header lines, an empty line, and nothing after it.
            assert_eq!(parts, expected + 3);
        };
        check(0, 2);
        check(8, 8);
        check(30, 30);
    }
}
