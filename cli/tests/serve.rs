//! `tollgate serve` between a real client and a real upstream: filters that change meanwhile, recordings,
//! and what `tollgate replay` makes of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::{root, tollgate};

/// How long anything may take that takes milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

fn policy(requests: u32) -> String {
    format!(
        "rules: [ {{ name: users, key: [ {{ header: x-user }} ], \
         limit: {{ requests: {requests}, per: 1h }} }} ]\n\
         fields: none\n"
    )
}

/// The folder with the one module that is needed here.
fn modules() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ratelimit-alone");
        let output = tollgate(&["build", "ratelimit", "--out", folder.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    })
}

/// A proxy that runs until it is dropped.
struct Serving {
    child: Child,
    address: SocketAddr,
    told: Receiver<String>,
}

impl Serving {
    fn start(config: &Path, upstream: SocketAddr, record: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .current_dir(root())
            .args(["serve", "--filter", "ratelimit", "--listen", "127.0.0.1:0", "--quiet"])
            .arg("--modules")
            .arg(modules())
            .arg("--config")
            .arg(config)
            .arg("--record")
            .arg(record)
            .args(["--upstream", &format!("http://{upstream}"), "--redact", "X-Secret"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, told) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut serving = Self { child, address: ([127, 0, 0, 1], 0).into(), told };
        let listens = serving.wait_for("listens on http://");
        serving.address = listens.rsplit('/').next().unwrap().parse().unwrap();
        serving
    }

    fn wait_for(&self, words: &str) -> String {
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

/// Answers everything, each connection once.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let _begun = connection.read(&mut request).unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: id=4711-secret\r\n\
                          connection: close\r\n\r\nok";
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

/// The status that a user gets.
fn get(address: SocketAddr, user: &str) -> u16 {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(LONGEST)).unwrap();
    let request = format!(
        "GET /orders HTTP/1.1\r\nhost: shop\r\nx-user: {user}\r\nauthorization: Bearer s3cret-{user}\r\n\
         x-secret: s3cret\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn replay(recording: &Path, more: &[&str]) -> (Option<i32>, String) {
    let recording = recording.to_str().unwrap();
    let modules = modules().to_str().unwrap();
    let output = tollgate(&[&["replay", recording, "--modules", modules], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_recording_of_a_proxy_that_was_killed_is_decided_again_as_it_was() {
    let folder = folder("recorded");
    let (config, recording) = (folder.join("policy.yaml"), folder.join("recording.jsonl"));
    fs::write(&config, policy(2)).unwrap();
    let upstream = upstream();
    // Two proxies, one after the other, in one file.
    for _ in 0..2 {
        let proxy = Serving::start(&config, upstream, &recording);
        let statuses = ["alice", "bob", "alice", "alice"].map(|user| get(proxy.address, user));
        assert_eq!(statuses, [200, 200, 200, 429]);
    }
    let text = fs::read_to_string(&recording).unwrap();
    assert!(!text.contains("s3cret") && !text.contains("4711-secret"), "{text}");

    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("proxy 2: 4 requests, 0 decided otherwise"), "{told}");

    let strict = folder.join("strict.yaml");
    fs::write(&strict, policy(1)).unwrap();
    let (code, told) = replay(&recording, &["--config", strict.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{told}");
    for words in [
        "4 requests, 2 decided otherwise",
        // Of a quota of one an hour, the next is later.
        "\n     1  429 by the proxy, with another message\n",
        "\n     1  passed, 200 -> 429 by the proxy\n          #3 at ",
        ": GET /orders\n",
        "- client got 200\n",
        "tollgate_ratelimit_refused is 2, and was 1",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    let loose = folder.join("loose.yaml");
    fs::write(&loose, policy(9)).unwrap();
    let (code, told) =
        replay(&recording, &["--config", loose.to_str().unwrap(), "--format", "json"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(r#""now": "passed, 200""#) && told.contains(r#""made_up_answers": 1"#));

    // The last line may have been half written; one in the midst may not.
    fs::write(&recording, text.get(..text.len() - 30).unwrap()).unwrap();
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
    fs::write(&recording, text.replacen("{\"at\"", "{\"at", 1)).unwrap();
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("recording.jsonl: line 2: "), "{told}");
}

#[test]
fn a_policy_that_changes_is_in_force_for_new_requests_and_a_wrong_one_is_not() {
    let folder = folder("reloaded");
    let (config, recording) = (folder.join("policy.yaml"), folder.join("recording.jsonl"));
    fs::write(&config, policy(1)).unwrap();
    let proxy = Serving::start(&config, upstream(), &recording);
    assert_eq!([get(proxy.address, "alice"), get(proxy.address, "alice")], [200, 429]);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut statuses = Vec::new();
            while !is_done.load(Ordering::Relaxed) && statuses.len() < 5000 {
                statuses.push(get(proxy.address, "bob"));
                thread::sleep(Duration::from_millis(5));
            }
            statuses
        });
        fs::write(&config, policy(3)).unwrap();
        proxy.wait_for("reloaded: new requests find the new ratelimit");
        let statuses = [(); 4].map(|()| get(proxy.address, "carol"));
        assert_eq!(statuses, [200, 200, 200, 429]);
        fs::write(&config, "rules: []\n").unwrap();
        proxy.wait_for("refused: ");
        proxy.wait_for("the old ratelimit stays");
        let statuses = [(); 4].map(|()| get(proxy.address, "dave"));
        assert_eq!(statuses, [200, 200, 200, 429]);
        is_done.store(true, Ordering::Relaxed);
        let statuses = traffic.join().unwrap();
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    });
    drop(proxy);
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
}
