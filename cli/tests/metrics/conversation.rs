//! Both ends of a stream, byte by byte: what a scenario cannot say.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// How long one end waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one end of a connection does next. After its last turn it closes.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    /// It sends this.
    Says(String),
    /// It sends these bytes.
    Sends(Vec<u8>),
    /// It waits until this has come, or the other end has closed.
    Hears(&'static str),
}

/// Has one end of a connection do all its turns; gives all that it has got. `got` is what came before.
pub(crate) fn talk(mut connection: TcpStream, mut got: Vec<u8>, turns: &[Turn]) -> String {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    for turn in turns {
        // The other end may be gone, which what is counted shows.
        match turn {
            Turn::Says(text) => drop(connection.write_all(text.as_bytes())),
            Turn::Sends(bytes) => drop(connection.write_all(bytes)),
            Turn::Hears(text) => hear(&mut connection, &mut got, text),
        }
    }
    String::from_utf8_lossy(&got).into_owned()
}

fn hear(connection: &mut TcpStream, got: &mut Vec<u8>, text: &str) {
    while !got.windows(text.len()).any(|part| part == text.as_bytes()) {
        let mut buffer = [0; 4096];
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => got.extend(&buffer[..read]),
        }
    }
}

/// Has a client do its turns with a server; gives all that it has got.
pub(crate) fn client(server: SocketAddr, turns: &[Turn]) -> String {
    talk(TcpStream::connect(server).unwrap(), Vec::new(), turns)
}

/// An upstream that serves until the test ends: its turns follow from the head of a request, and from how
/// many with the same value of `x-case` came before.
pub(crate) fn upstream(
    turns: impl Fn(&str, usize) -> Vec<Turn> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut seen = HashMap::<String, usize>::new();
        thread::scope(|scope| {
            for mut connection in listener.incoming().flatten() {
                connection.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut got = Vec::new();
                hear(&mut connection, &mut got, "\r\n\r\n");
                let head = String::from_utf8_lossy(&got).into_owned();
                let before = seen.entry(case(&head).to_owned()).or_default();
                let turns = turns(&head, *before);
                *before += 1;
                scope.spawn(move || talk(connection, got, &turns));
            }
        });
    });
    address
}

/// The value of `x-case`.
pub(crate) fn case(head: &str) -> &str {
    head.lines().find_map(|line| line.strip_prefix("x-case: ")).unwrap_or_default()
}
