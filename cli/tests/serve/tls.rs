//! Identities that are tried with real certificates, issued for the run: `curl` shows them.
//!
//! Needs `curl`; without it the test says so and passes, except with `CI=true`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_host::scenario::Scenario;
use tollgate_host::tls::Credentials;

use crate::common::envoy::fetched;
use crate::common::{is_installed, tollgate};
use crate::proxy::{Serving, get, modules, upstream};
use crate::{folder, replay};

/// Who connects, and what the proxies show.
const PEERS: &str = r#"
name: certificates
tls: { certificate: { san: [ "IP:127.0.0.1" ] } }
peers:
  cart: { san: [ "URI:spiffe://acme/ns/shop/sa/cart" ] }
  other: { san: [ "URI:spiffe://acme/ns/other/sa/cart" ] }
  stranger: { san: [ "URI:spiffe://acme/ns/shop/sa/cart" ], issuer: untrusted }
filters: [ { filter: mtls, config: { rules: [] } } ]
steps: [ { request: {}, peer: cart } ]
"#;

const POLICY: &str = r#"
rules: [ { name: shop, action: allow, from: [ { principals: [ "spiffe://acme/ns/shop/sa/*" ] } ] } ]
forward: x-caller
"#;

/// Files of certificates and keys in a folder of the test's own.
struct Files(PathBuf);

impl Files {
    fn issue(name: &str) -> Self {
        let folder = folder(name);
        let scenario = folder.join("peers.yaml");
        fs::write(&scenario, PEERS).unwrap();
        fs::write(folder.join("policy.yaml"), POLICY).unwrap();
        let tls = Scenario::read(&scenario).unwrap().tls.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let credentials = Credentials::issue(&tls, now).unwrap();
        fs::write(folder.join("ca.pem"), credentials.trusted.pem()).unwrap();
        let own = [("proxy", Some(&credentials.own))].into_iter();
        let names = tls.peers.iter().map(|peer| peer.name.as_str());
        let peers = names.zip(credentials.peers.iter().map(Option::as_ref));
        for (name, credential) in own.chain(peers) {
            let credential = credential.unwrap();
            let pem = credential.certificate.pem();
            fs::write(folder.join(format!("{name}.pem")), pem).unwrap();
            fs::write(folder.join(format!("{name}.key")), credential.key_pem()).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A proxy with the policy that asks for certificates, in front of another one that shows its own.
    fn start(&self, upstream: SocketAddr, more: &[&str]) -> Serving {
        let [policy, own, key, ca, record] =
            ["policy.yaml", "proxy.pem", "proxy.key", "ca.pem", "recording.jsonl"]
                .map(|name| self.path(name));
        let upstream = format!("https://{upstream}");
        Serving::start(
            &[
                &["--filter", "mtls", "--config", &policy, "--record", &record][..],
                &["--tls-cert", &own, "--tls-key", &key, "--tls-client-ca", &ca],
                &["--upstream", &upstream, "--upstream-ca", &ca],
                more,
            ]
            .concat(),
        )
    }

    /// What `curl` gets: its exit code, and the status, the version of HTTP and the body.
    fn curl(&self, address: SocketAddr, peer: Option<&str>, more: &[&str]) -> (i32, String) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--cacert", &self.path("ca.pem")]);
        command.args(["--write-out", " %{http_code} %{http_version}"]).args(more);
        if let Some(peer) = peer {
            let [cert, key] = ["pem", "key"].map(|kind| self.path(&format!("{peer}.{kind}")));
            command.args(["--cert", &cert, "--key", &key]);
        }
        let output = command.arg(format!("https://{address}/orders")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    /// Writes the recording as a scenario, which has these words, and plays it on the hosts that are there.
    fn play_the_recording(&self, words: &[&str]) {
        let (code, scenario) = replay(Path::new(&self.path("recording.jsonl")), &["--as-scenario"]);
        assert_eq!(code, Some(0), "{scenario}");
        assert!(words.iter().all(|words| scenario.contains(words)), "{scenario}");
        let file = self.path("recorded.yaml");
        fs::write(&file, &scenario).unwrap();
        let hosts = ["wasmtime", "envoy"].into_iter();
        for host in hosts.filter(|host| *host != "envoy" || fetched().is_some()) {
            let modules = modules().to_str().unwrap();
            let played = tollgate(&["test", &file, "--on", host, "--modules", modules]);
            let told = String::from_utf8_lossy(&played.stdout);
            assert!(played.status.success(), "{host}: {told}\n{scenario}");
        }
    }
}

/// A proxy that shows a certificate and asks for none.
fn secured_upstream(files: &Files) -> Serving {
    let config = files.path("limit.yaml");
    fs::write(&config, crate::policy(100)).unwrap();
    let [own, key] = ["proxy.pem", "proxy.key"].map(|name| files.path(name));
    let upstream = format!("http://{}", upstream());
    Serving::start(&[
        "--filter",
        "ratelimit",
        "--config",
        &config,
        "--upstream",
        &upstream,
        "--tls-cert",
        &own,
        "--tls-key",
        &key,
    ])
}

const GRANTED: &str = "spiffe://acme/ns/shop/sa/cart 200";

#[test]
fn a_certificate_says_who_calls_and_the_recording_knows_it() {
    if !is_installed("curl") {
        return;
    }
    let files = Files::issue("identities");
    let upstream = secured_upstream(&files);
    let proxy = files.start(upstream.address, &["--require-client-certificate"]);
    let get = |peer, more: &[&str]| files.curl(proxy.address, peer, more);
    assert_eq!(get(Some("cart"), &[]), (0, format!("{GRANTED} 2")));
    assert_eq!(get(Some("cart"), &["--http1.1"]), (0, format!("{GRANTED} 1.1")));
    assert_eq!(get(Some("cart"), &["--tls-max", "1.2"]), (0, format!("{GRANTED} 2")));
    assert_eq!(get(Some("other"), &[]), (0, " 403 2".into()));
    for (peer, why) in [(None, "peer sent no certificates"), (Some("stranger"), "UnknownIssuer")] {
        let (code, _) = get(peer, &[]);
        assert_ne!(code, 0, "{peer:?}");
        let told = proxy.wait_for("a client was not let in: ");
        assert!(told.contains(why), "{told}");
    }
    drop(proxy);
    let (code, told) = replay(Path::new(&files.path("recording.jsonl")), &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("proxy 1: 4 requests, 0 decided otherwise"), "{told}");
    files.play_the_recording(&["spiffe://acme/ns/shop/sa/cart"]);
}

#[test]
fn who_is_let_in_untrusted_is_nobody_to_the_filter() {
    if !is_installed("curl") {
        return;
    }
    let files = Files::issue("untrusted");
    let upstream = secured_upstream(&files);
    let proxy = files.start(upstream.address, &["--accept-untrusted"]);
    assert_eq!(files.curl(proxy.address, Some("stranger"), &[]), (0, " 403 2".into()));
    assert_eq!(files.curl(proxy.address, None, &[]), (0, " 403 2".into()));
    assert_eq!(files.curl(proxy.address, Some("cart"), &[]), (0, format!("{GRANTED} 2")));
    drop(proxy);
    files.play_the_recording(&["ACCEPT_UNTRUSTED", "issuer: untrusted", "certificate: none"]);
}

#[test]
fn of_a_resumed_session_nothing_is_verified() {
    if !is_installed("curl") {
        return;
    }
    let files = Files::issue("resumed");
    let upstream = secured_upstream(&files);
    let proxy = files.start(upstream.address, &["--require-client-certificate"]);
    // A connection for each; the second resumes the session of the first, and is refused as on Envoy.
    let first = format!("https://{}/first", proxy.address);
    let apart = ["--http1.1", "--header", "connection: close", &first];
    let expected = format!("{GRANTED} 1.1 403 1.1");
    assert_eq!(files.curl(proxy.address, Some("cart"), &apart), (0, expected));
}

#[test]
fn an_upstream_that_nobody_vouches_for_gets_nothing() {
    let files = Files::issue("unvouched");
    let secured = secured_upstream(&files);
    let (limit, upstream) = (files.path("limit.yaml"), format!("https://{}", secured.address));
    // A peer's certificate is no CA that has issued the upstream's.
    for (ca, status) in [("ca.pem", 200), ("cart.pem", 503)] {
        let ca = files.path(ca);
        let arguments = ["--filter", "ratelimit", "--config", &limit, "--upstream", &upstream];
        let proxy = Serving::start(&[&arguments[..], &["--upstream-ca", &ca]].concat());
        assert_eq!(get(proxy.address, "alice"), status, "{ca}");
    }
}

#[test]
fn files_that_tls_cannot_be_spoken_with_are_told_by_name() {
    let files = Files::issue("wrong-files");
    let check = |arguments: [(&str, &str); 3], words: &str| {
        let files: Vec<String> = arguments
            .iter()
            .flat_map(|(option, name)| [(*option).to_owned(), files.path(name)])
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let modules = modules().to_str().unwrap();
        let serve =
            ["serve", "--filter", "mtls", "--upstream", "http://127.0.0.1:1", "--modules", modules];
        let output = tollgate(&[&serve[..], &files].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{words}\n{told}");
    };
    let (cert, key, ca) = ("--tls-cert", "--tls-key", "--tls-client-ca");
    check([(cert, "proxy.pem"), (key, "cart.key"), (ca, "ca.pem")], "proxy.pem and ");
    check(
        [(cert, "proxy.key"), (key, "proxy.key"), (ca, "ca.pem")],
        "the certificate is not read as PEM",
    );
    check([(cert, "proxy.pem"), (key, "ca.pem"), (ca, "ca.pem")], "the key is not read as PEM");
    check(
        [(cert, "proxy.pem"), (key, "proxy.key"), (ca, "policy.yaml")],
        "policy.yaml: the CA is not read as PEM",
    );
    check([(cert, "proxy.pem"), (key, "absent.key"), (ca, "ca.pem")], "absent.key cannot be read");
}
