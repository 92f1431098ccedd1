//! What takes part: the server, its store, proxies and an upstream, each a process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A process that ends with the test.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The server, listening; with the counters in memory, or where the store is.
pub(crate) fn server(port: u16, store: Option<&Redis>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-limits"));
    command
        .arg("--limits")
        .arg(root().join("examples/10-fleet-rate-limit/limits.yaml"))
        .args(["--listen", &format!("127.0.0.1:{port}")]);
    if let Some(redis) = store {
        command.args(["--store", &format!("redis://127.0.0.1:{}", redis.port)]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line:?}");
    Process(child)
}

/// A store of its own, Debian's `redis-server`, which keeps what was spent in a file.
pub(crate) struct Redis {
    folder: PathBuf,
    port: u16,
    running: Option<Process>,
}

impl Redis {
    /// A store that is empty; without the program nothing, except with `CI=true`.
    pub(crate) fn start(name: &str) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "no redis-server");
            println!("skipped: redis-server is not installed");
            return None;
        }
        let folder = root().join("target/fleet").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut redis = Self { folder, port: free_port(), running: None };
        redis.run();
        Some(redis)
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same port, with what was spent before.
    pub(crate) fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--appendonly", "yes", "--save", "", "--dir"])
            .arg(&self.folder)
            .stdout(Stdio::null())
            .spawn();
        self.running = Some(Process(child.unwrap()));
        let started = Instant::now();
        while !self.answers() {
            assert!(started.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// While it reads its file, it answers, too, but otherwise.
    fn answers(&self) -> bool {
        let address = (Ipv4Addr::LOCALHOST, self.port);
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        });
        asked.is_ok_and(|answer| answer == *b"+PONG\r\n")
    }
}

/// An upstream that answers 200 to everything; gives its port.
pub(crate) fn upstream() -> u16 {
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
pub(crate) struct Envoy {
    _process: Process,
    port: u16,
    admin: u16,
}

impl Envoy {
    pub(crate) fn start(name: &str, limits: u16, upstream: u16) -> Self {
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
    pub(crate) fn load(&self, user: &str, requests: usize) -> (usize, usize) {
        let header = format!("x-user: {user}\r\n");
        let answers = (0..requests).filter_map(|_| get(self.port, "/", &header));
        let answers: Vec<String> = answers.collect();
        let count = |status: &str| answers.iter().filter(|text| text.contains(status)).count();
        (count("HTTP/1.1 200 "), count("HTTP/1.1 429 "))
    }

    /// How many requests the server has not decided.
    pub(crate) fn unanswered(&self) -> u64 {
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
