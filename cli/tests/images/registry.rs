//! A real registry, Debian's `docker-registry`, on the loopback interface.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tollgate_host::scenario::{
    Issuance, Issuer, Peer, SubjectAltName, Tls, TrustChainVerification,
};
use tollgate_host::tls::{Credentials, DistinguishedName, TlsVersion};
use tollgate_host_envoy::Supervised;

use crate::common::is_installed;

const PROGRAM: &str = "docker-registry";
const PATIENCE: Duration = Duration::from_secs(20);

/// Of the password `secret`.
const ALICE: &str = "alice:$2b$04$1gU5pyunPqKB1xsBR8/IAu/k2aS160lp0pi83dM69LbViLs94BA0G\n";

/// Whom a registry lets in, and how it is spoken to.
#[derive(PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    /// With a certificate for `localhost` of a CA of its own.
    Tls,
    /// Alice, with the password `secret`.
    Basic,
    /// Who comes with a token of a service.
    Token(Trust),
}

/// A service whose tokens a registry takes.
#[derive(PartialEq, Eq)]
pub(crate) struct Trust {
    /// Where it is.
    pub(crate) realm: String,
    /// What it calls itself, and the registry.
    pub(crate) issuer: &'static str,
    pub(crate) service: &'static str,
    /// The CA of the certificate that comes with its tokens, as PEM.
    pub(crate) ca: String,
}

pub(crate) struct Registry {
    /// What it keeps, also while it does not run.
    folder: TempDir,
    mode: Mode,
    port: u16,
    running: Mutex<Option<Supervised>>,
}

impl Registry {
    pub(crate) fn start(mode: Mode) -> Option<Self> {
        if !is_installed(PROGRAM) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let registry = Self { folder, mode, port, running: Mutex::new(None) };
        if registry.mode == Mode::Tls {
            registry.write_certificates();
        }
        if let Mode::Token(trust) = &registry.mode {
            fs::write(registry.ca(), &trust.ca).unwrap();
        }
        fs::write(registry.file("users"), ALICE).unwrap();
        registry.run();
        Some(registry)
    }

    /// As it stands in references.
    pub(crate) fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The certificate of somebody else.
    pub(crate) fn stranger(&self) -> PathBuf {
        self.file("stranger.pem")
    }

    /// Ends it in the middle of whatever it does, and starts it again on the same port.
    pub(crate) fn restart(&self) {
        drop(self.running.lock().unwrap().take());
        self.run();
    }

    fn run(&self) {
        let file = |name: &str| self.file(name).to_str().unwrap().to_owned();
        let tls =
            format!("  tls: {{ certificate: {}, key: {} }}", file("own.pem"), file("key.pem"));
        let auth = match &self.mode {
            Mode::Plain | Mode::Tls => String::new(),
            Mode::Basic => {
                format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}", file("users"))
            }
            Mode::Token(Trust { realm, issuer, service, .. }) => format!(
                "auth: {{ token: {{ realm: '{realm}', service: {service}, issuer: {issuer}, rootcertbundle: {} }} }}",
                file("ca.pem")
            ),
        };
        let configuration = [
            "version: 0.1",
            &format!("storage: {{ filesystem: {{ rootdirectory: {} }} }}", file("storage")),
            &format!("http:\n  addr: 127.0.0.1:{}", self.port),
            if self.mode == Mode::Tls { &tls } else { "" },
            &auth,
        ];
        fs::write(self.file("registry.yaml"), configuration.join("\n")).unwrap();
        // What runs takes its folder with it.
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let command = [PROGRAM, "serve", &file("registry.yaml")].map(OsString::from);
        let mut running = Supervised::start(&command, &folder, "log").unwrap();
        let begin = Instant::now();
        loop {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            if log.contains("listening on") {
                break;
            }
            assert!(!running.has_ended().unwrap() && begin.elapsed() < PATIENCE, "{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        *self.running.lock().unwrap() = Some(running);
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn write_certificates(&self) {
        let subject = DistinguishedName::parse("CN=localhost").unwrap();
        let names = vec![SubjectAltName::Dns("localhost".into())];
        let own = Issuance { subject_alt_names: names, ..Issuance::new(subject.clone()) };
        let stranger = Issuance { issuer: Issuer::Itself, ..Issuance::new(subject) };
        let tls = Tls {
            require_client_certificate: false,
            trust_chain_verification: TrustChainVerification::default(),
            certificate: own,
            peers: vec![Peer {
                name: "stranger".into(),
                certificate: Some(stranger),
                server_name: None,
                version: TlsVersion::default(),
            }],
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let issued = Credentials::issue(&tls, now).unwrap();
        fs::write(self.file("ca.pem"), issued.trusted.pem()).unwrap();
        let stranger = issued.peers[0].as_ref().unwrap();
        fs::write(self.file("stranger.pem"), stranger.certificate.pem()).unwrap();
        fs::write(self.file("own.pem"), issued.own.certificate.pem()).unwrap();
        fs::write(self.file("key.pem"), issued.own.key_pem()).unwrap();
    }
}
