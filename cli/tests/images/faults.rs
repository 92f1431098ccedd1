//! What goes wrong between here and a registry: an error that says what, no tag that stands for half an
//! image, and the next push succeeds.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;

use crate::proxy::{Message, Proxy};
use crate::registry::{Mode, Registry};
use crate::{Files, digest_of, inspected, printed, refused, run, said};

const PATIENCE: Duration = Duration::from_secs(20);

/// A registry whose tag `edge` stands for an image, and what is pushed over it.
struct Bench {
    registry: Arc<Registry>,
    files: Files,
    before: String,
}

impl Bench {
    fn new() -> Option<Self> {
        let registry = Arc::new(Registry::start(Mode::Plain)?);
        let files = Files::new();
        let before =
            printed(&["push", &files.module(1), &format!("{}/a:edge", registry.address())]);
        Some(Self { registry, files, before: digest_of(&before).to_owned() })
    }

    fn proxy(
        &self,
        rule: impl Fn(Message, &dyn Fn(&Message) -> Message) -> Option<Message> + Send + Sync + 'static,
    ) -> Proxy {
        Proxy::start(&self.registry.address(), rule)
    }

    fn edge(&self) -> String {
        inspected(&format!("{}/a:edge", self.registry.address()))["digest"].as_str().unwrap().into()
    }

    /// A push that has to succeed, and what it says on the way.
    #[track_caller]
    fn succeeds(&self, proxy: &Proxy) -> String {
        let output = run(&["push", &self.files.module(2), &format!("{}/a:edge", proxy.address())]);
        assert!(output.status.success(), "{}", said(&output));
        let pinned = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(self.edge(), digest_of(pinned.trim_end()));
        assert_ne!(self.edge(), self.before);
        said(&output)
    }

    /// A push that has to fail with these words and change no tag, after which one without faults succeeds.
    #[track_caller]
    fn fails(&self, proxy: &Proxy, word: &str) {
        let image = format!("{}/a:edge", proxy.address());
        let words = refused(&["push", &self.files.module(2), &image], 2);
        assert!(words.contains(word), "{words}");
        assert_eq!(self.edge(), self.before, "{words}");
        let next = self.proxy(|request, on| Some(on(&request)));
        self.succeeds(&next);
    }
}

/// Says whether something is among the first few times.
fn first(times: usize) -> impl Fn() -> bool + Send + Sync + 'static {
    let seen = AtomicUsize::new(0);
    move || seen.fetch_add(1, Ordering::SeqCst) < times
}

#[test]
fn an_upload_outlives_a_registry_that_starts_anew() {
    let Some(bench) = Bench::new() else { return };
    let (registry, is_first) = (Arc::clone(&bench.registry), first(1));
    let proxy = bench.proxy(move |request, on| {
        if request.is("PUT", "/blobs/uploads/") && is_first() {
            registry.restart();
            return None;
        }
        Some(on(&request))
    });
    let words = bench.succeeds(&proxy);
    assert!(words.contains("trying again in 0.5 s"), "{words}");
}

#[test]
fn an_upload_that_the_registry_forgot_begins_again() {
    let Some(bench) = Bench::new() else { return };
    let is_first = first(1);
    let proxy = bench.proxy(move |request, on| {
        if request.is("PUT", "/blobs/uploads/") && is_first() {
            return Some(Message::answer(
                "404 Not Found",
                "",
                r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#,
            ));
        }
        Some(on(&request))
    });
    assert!(bench.succeeds(&proxy).contains("forgotten the upload"));
}

#[test]
fn a_success_may_have_a_body() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(move |request, on| {
        let mut answer = on(&request);
        if request.is("POST", "") || request.is("PUT", "") {
            answer.body = b"{}".into();
        }
        Some(answer)
    });
    assert_eq!(bench.succeeds(&proxy), "");
}

#[test]
fn a_push_that_is_killed_leaves_the_tag_as_it_was() {
    let Some(bench) = Bench::new() else { return };
    let ((reached, is_reached), (killed, is_killed)) = (channel(), channel::<()>());
    let (reached, is_killed) = (Mutex::new(reached), Mutex::new(is_killed));
    // The manifest is stored by its digest, and the answer never comes.
    let proxy = bench.proxy(move |request, on| {
        let answer = on(&request);
        if request.is("PUT", "/manifests/sha256") {
            reached.lock().unwrap().send(()).unwrap();
            is_killed.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        Some(answer)
    });
    let image = format!("{}/a:edge", proxy.address());
    let mut push = Command::new(cargo_bin("tollgate"));
    push.args(["push", &bench.files.module(2), &image]).stdout(Stdio::null());
    let mut push = push.spawn().unwrap();
    is_reached.recv_timeout(PATIENCE).unwrap();
    push.kill().unwrap();
    push.wait().unwrap();
    killed.send(()).unwrap();
    drop(proxy);
    assert_eq!(bench.edge(), bench.before);
    bench.succeeds(&bench.proxy(|request, on| Some(on(&request))));
}

#[test]
fn a_registry_in_trouble_is_asked_again() {
    let Some(bench) = Bench::new() else { return };
    let statuses = ["429 Too Many Requests", "500 Internal Server Error", "408 Request Timeout"];
    let seen = AtomicUsize::new(0);
    let proxy = bench.proxy(move |request, on| {
        let is_touched = request.is("POST", "/blobs/uploads/") || request.is("PUT", "/manifests/");
        // Each but the fourth and those after it: three in a row, then none.
        match is_touched
            .then(|| seen.fetch_add(1, Ordering::SeqCst))
            .and_then(|at| statuses.get(at))
        {
            Some(status) => Some(Message::answer(status, "retry-after: 0\r\n", "busy")),
            None => Some(on(&request)),
        }
    });
    let words = bench.succeeds(&proxy);
    assert_eq!(words.matches("trying again").count(), 3, "{words}");
    assert!(words.contains("status 429: busy"), "{words}");
}

#[test]
fn a_registry_that_wants_too_much_patience_is_left() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(move |request, on| {
        if request.is("PUT", "/manifests/edge") {
            return Some(Message::answer("503 Service Unavailable", "retry-after: 3600\r\n", ""));
        }
        Some(on(&request))
    });
    bench.fails(&proxy, "status 503; it asks for 3600 s of patience");
}

#[test]
fn a_blob_that_is_cut_on_the_way_is_not_stored() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(move |mut request, on| {
        if request.is("PUT", "/blobs/uploads/") {
            request.body.truncate(request.body.len() / 2);
        }
        Some(on(&request))
    });
    bench.fails(&proxy, "DIGEST_INVALID");
}

#[test]
fn a_registry_that_stores_half_a_blob_is_caught() {
    let Some(bench) = Bench::new() else { return };
    // One that takes what comes, and has less of it afterwards, as proxies in front of registries did.
    let proxy = bench.proxy(move |request, on| {
        let mut answer = on(&request);
        if request.is("HEAD", "/blobs/") && answer.line().contains("200") {
            answer.head = answer.head.replace("Content-Length: ", "Content-Length: 9");
        }
        Some(answer)
    });
    bench.fails(&proxy, "bytes, not");
}

#[test]
fn a_wrong_digest_is_caught_before_any_tag_moves() {
    let Some(bench) = Bench::new() else { return };
    let wrong = format!("sha256:{}", "0".repeat(64));
    let proxy = bench.proxy(move |request, on| {
        let mut answer = on(&request);
        if request.is("HEAD", "/manifests/sha256") {
            let digest = answer.header("docker-content-digest").map(str::to_owned);
            answer.head = answer.head.replace(&digest.unwrap_or_default(), &wrong);
        }
        Some(answer)
    });
    bench.fails(&proxy, "the registry has \"sha256:0000");
}

#[test]
fn what_is_read_is_what_its_digest_says() {
    let Some(bench) = Bench::new() else { return };
    let pull = |part: &'static str, change: fn(&mut Vec<u8>)| {
        let proxy = bench.proxy(move |request, on| {
            let mut answer = on(&request);
            if request.is("GET", part) {
                change(&mut answer.body);
            }
            Some(answer)
        });
        let out = bench.files.path("pulled.wasm");
        let image = format!("{}/a:edge", proxy.address());
        let words = refused(&["pull", &image, "--out", out.to_str().unwrap()], 2);
        assert!(!out.exists(), "{words}");
        words
    };
    assert!(pull("/blobs/", |body| body[20] ^= 1).contains("the registry has \"sha256:"));
    assert!(pull("/blobs/", |body| body.truncate(20)).contains("the registry has 20 bytes, not"));
    assert!(pull("/blobs/", |body| body.push(0)).contains("above"));
    assert!(pull("/manifests/", |body| body.push(b' ')).contains("the registry has \"sha256:"));
}
