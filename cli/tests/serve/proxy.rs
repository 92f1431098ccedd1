//! A proxy between sockets: the command `serve`, and upstream and client around it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::common::{root, tollgate};

/// How long anything may take that takes milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

/// The folder with the modules that are needed here.
pub(crate) fn modules() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("served");
        let output = tollgate(&["build", "ratelimit", "mtls", "--out", folder.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    })
}

/// A proxy that runs until it is dropped.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: SocketAddr,
    told: Receiver<String>,
}

impl Serving {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .current_dir(root())
            .args(["serve", "--listen", "127.0.0.1:0", "--quiet", "--modules"])
            .arg(modules())
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, told) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut serving = Self { child, address: ([127, 0, 0, 1], 0).into(), told };
        let listens = serving.wait_for("listens on http");
        serving.address = listens.rsplit('/').next().unwrap().parse().unwrap();
        serving
    }

    pub(crate) fn wait_for(&self, words: &str) -> String {
        let mut told = Vec::new();
        loop {
            let line = self.told.recv_timeout(LONGEST);
            let line = line.unwrap_or_else(|_| panic!("no `{words}` in {told:#?}"));
            if line.contains(words) {
                return line;
            }
            told.push(line);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // As abruptly as it can be.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Answers everything, each connection once; the body is the caller's name as filters have told it.
pub(crate) fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let length = connection.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let caller = request.lines().find_map(|line| line.strip_prefix("x-caller: "));
            let caller = caller.unwrap_or("somebody");
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nset-cookie: id=4711-secret\r\n\
                 connection: close\r\n\r\n{caller}",
                caller.len()
            );
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

/// The status that a user gets.
pub(crate) fn get(address: SocketAddr, user: &str) -> u16 {
    send(
        address,
        &format!(
            "GET /orders HTTP/1.1\r\nhost: shop\r\nx-user: {user}\r\nauthorization: Bearer s3cret-{user}\r\n\
             x-secret: s3cret\r\nconnection: close\r\n\r\n"
        ),
    )
}

/// The status that a body gets.
pub(crate) fn post(address: SocketAddr, body: &str) -> u16 {
    let length = body.len();
    send(
        address,
        &format!(
            "POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ),
    )
}

fn send(address: SocketAddr, request: &str) -> u16 {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(LONGEST)).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
