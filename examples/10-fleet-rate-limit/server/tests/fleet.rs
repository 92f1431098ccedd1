//! One limit over two Envoys, through the real server; and what becomes of it when the server dies.
//!
//! Needs the command and the module, as `cargo tollgate build ratelimit-global` leaves them, and Envoy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What `limits.yaml` admits a minute.
const LIMIT: usize = 20;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The server, listening.
fn server(port: u16) -> Process {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fleet-limits"))
        .arg("--limits")
        .arg(root().join("examples/10-fleet-rate-limit/limits.yaml"))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line:?}");
    Process(child)
}

/// An upstream that answers 200 to everything; gives its port.
fn upstream() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(line)) = lines.next() {
        let is_whole = line.is_empty();
        if is_whole && stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// An Envoy with the filter, as the policy is rendered.
struct Envoy {
    _process: Process,
    port: u16,
    admin: u16,
}

impl Envoy {
    fn start(name: &str, limits: u16, upstream: u16) -> Self {
        let (root, port, admin) = (root(), free_port(), free_port());
        let folder = root.join("target/fleet").join(name);
        fs::create_dir_all(&folder).unwrap();
        let text = fs::read_to_string(root.join("examples/10-fleet-rate-limit/policy.yaml"));
        let text = [(8081, limits), (10000, port), (8080, upstream), (9901, admin)]
            .iter()
            .fold(text.unwrap(), |text, (from, to)| {
                text.replace(&format!(":{from}'"), &format!(":{to}'"))
            });
        let policy = folder.join("policy.yaml");
        // A machine that is busy with other tests may need longer than a proxy would wait.
        fs::write(&policy, text.replace("250ms", "2s")).unwrap();
        let rendered = Command::new(root.join("target/debug/tollgate"))
            .current_dir(&root)
            .args(["render", "--target", "envoy-bootstrap"])
            .arg(&policy)
            .output()
            .unwrap();
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        let bootstrap = folder.join("envoy.yaml");
        fs::write(&bootstrap, rendered.stdout).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = Command::new(envoy_binary(&root))
            .args(["--use-dynamic-base-id", "--concurrency", "2", "-c"])
            .arg(&bootstrap)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let envoy = Self { _process: Process(process), port, admin };
        let started = Instant::now();
        while get(admin, "/ready", "").is_none_or(|answer| !answer.contains(" 200 ")) {
            assert!(started.elapsed() < Duration::from_mins(1), "see {}", folder.display());
            thread::sleep(Duration::from_millis(100));
        }
        envoy
    }

    /// Sends requests, one after another; gives how many passed and how many were refused.
    fn load(&self, user: &str, requests: usize) -> (usize, usize) {
        let header = format!("x-user: {user}\r\n");
        let answers = (0..requests).filter_map(|_| get(self.port, "/", &header));
        let answers: Vec<String> = answers.collect();
        let count = |status: &str| answers.iter().filter(|text| text.contains(status)).count();
        (count("HTTP/1.1 200 "), count("HTTP/1.1 429 "))
    }

    /// How many requests the server has not decided.
    fn unanswered(&self) -> u64 {
        let stats = get(self.admin, "/stats?filter=tollgate_ratelimit_unanswered", "").unwrap();
        let values = stats.lines().filter_map(|line| line.rsplit_once(": "));
        values
            .filter_map(|(name, value)| {
                name.contains("unanswered").then(|| value.trim().parse::<u64>().ok())?
            })
            .sum()
    }
}

fn envoy_binary(root: &Path) -> PathBuf {
    if let Some(named) = std::env::var_os("TOLLGATE_ENVOY") {
        return named.into();
    }
    let found = Command::new("find")
        .arg(root.join("target/envoy/venv"))
        .args(["-name", "envoy*", "-type", "f", "-size", "+20M"])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    found.lines().next().map(PathBuf::from).expect("no Envoy; run `cargo ci` or set TOLLGATE_ENVOY")
}

fn get(port: u16, path: &str, headers: &str) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn two_envoys_share_one_limit_and_outlive_the_server() {
    let (limits, upstream) = (free_port(), upstream());
    let running = server(limits);
    let envoys = ["a", "b"].map(|name| Envoy::start(name, limits, upstream));

    // Both at once, each with more than the limit: together they admit exactly the limit.
    let alice = thread::scope(|scope| {
        let loads = envoys.each_ref().map(|envoy| scope.spawn(|| envoy.load("alice", 2 * LIMIT)));
        loads.map(|load| load.join().unwrap())
    });
    assert_eq!(alice.map(|(passed, refused)| passed + refused), [2 * LIMIT; 2]);
    assert_eq!(alice.iter().map(|(passed, _)| passed).sum::<usize>(), LIMIT, "{alice:?}");
    assert_eq!(envoys.each_ref().map(Envoy::unanswered), [0, 0]);

    // The server dies under load: what it does not decide, each proxy decides with half of the limit.
    let bob = thread::scope(|scope| {
        let loads = envoys.each_ref().map(|envoy| scope.spawn(|| envoy.load("bob", 4 * LIMIT)));
        thread::sleep(Duration::from_millis(50));
        drop(running);
        loads.map(|load| load.join().unwrap())
    });
    let unanswered = envoys.each_ref().map(Envoy::unanswered);
    assert!(unanswered.iter().all(|count| *count > 0), "{unanswered:?}");
    assert_eq!(bob.map(|(passed, refused)| passed + refused), [4 * LIMIT; 2]);
    // What the server had admitted, two halves, and what half a limit earns in the meantime.
    let passed: usize = bob.iter().map(|(passed, _)| passed).sum();
    assert!((LIMIT..=2 * LIMIT + 8).contains(&passed), "{bob:?}");

    // It is back, and decides again, once the proxies have connected.
    let _running = server(limits);
    let started = Instant::now();
    while envoys.iter().any(|envoy| {
        let before = envoy.unanswered();
        envoy.load("probe", 1);
        envoy.unanswered() > before
    }) {
        assert!(started.elapsed() < Duration::from_secs(30), "the server is not asked again");
        thread::sleep(Duration::from_millis(200));
    }
    let before = envoys.each_ref().map(Envoy::unanswered);
    let carol = envoys.each_ref().map(|envoy| envoy.load("carol", LIMIT));
    assert_eq!(carol, [(LIMIT, 0), (0, LIMIT)]);
    assert_eq!(envoys.each_ref().map(Envoy::unanswered), before);
}
