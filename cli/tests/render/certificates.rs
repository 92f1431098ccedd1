//! A rendered bootstrap that asks every client for a certificate, and the filter that reads it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_host::scenario::{Issuance, Peer, SubjectAltName, Tls, TrustChainVerification};
use tollgate_host::tls::{Credentials, DistinguishedName, TlsVersion};

use super::{folder, upstream, whole};
use crate::common::envoy::{Envoy, fetched};
use crate::common::{is_installed, modules, root};

#[test]
fn a_rendered_bootstrap_knows_its_callers() {
    let Some(envoy) = fetched().filter(|_| is_installed("curl")) else { return };
    let folder = folder("certificates");
    issue(&folder);
    let policy = fs::read_to_string(root().join("envoyfilter/policies/mtls-file.yaml")).unwrap();
    let module = modules().join("mtls.wasm");
    let policy = policy
        .replace("/var/lib/tollgate/mtls.wasm", module.to_str().unwrap())
        .replace("/var/lib/tollgate", folder.to_str().unwrap())
        .replace("127.0.0.1:8080", &upstream().to_string());
    let file = folder.join("policy.yaml");
    fs::write(&file, policy).unwrap();
    let envoy = Envoy::start(&envoy, &folder, &whole(&file, "envoy-bootstrap", &folder));
    let status = |caller: &[&str], path: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"])
            .args(["--cacert", "clients.crt", "--connect-to"])
            .arg(format!("localhost:443:{}", envoy.listener))
            .args(caller)
            .arg(format!("https://localhost{path}"))
            .current_dir(&folder)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let cart = ["--cert", "cart.crt", "--key", "cart.key"];
    let pay = ["--cert", "pay.crt", "--key", "pay.key"];
    assert_eq!(status(&cart, "/orders"), "200");
    assert_eq!(status(&cart, "/customers"), "403");
    assert_eq!(status(&pay, "/orders"), "403");
    // No handshake.
    assert_eq!(status(&[], "/orders"), "000");
}

/// The certificate of the proxy, those of two callers, and that of who has issued them.
fn issue(folder: &Path) {
    let named = |name: SubjectAltName| Issuance {
        subject_alt_names: vec![name],
        ..Issuance::new(DistinguishedName::parse("CN=any").unwrap())
    };
    let peer = |name: &str, namespace: &str| Peer {
        name: name.into(),
        certificate: Some(named(SubjectAltName::Uri(format!(
            "spiffe://cluster.local/ns/{namespace}/sa/{name}"
        )))),
        server_name: None,
        version: TlsVersion::default(),
    };
    let tls = Tls {
        require_client_certificate: true,
        trust_chain_verification: TrustChainVerification::default(),
        certificate: named(SubjectAltName::Dns("localhost".into())),
        peers: vec![peer("cart", "shop"), peer("pay", "bank")],
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let issued = Credentials::issue(&tls, now).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("clients.crt", &issued.trusted.pem());
    write("orders.crt", &issued.own.certificate.pem());
    write("orders.key", &issued.own.key_pem());
    for (name, peer) in ["cart", "pay"].iter().zip(&issued.peers) {
        let peer = peer.as_ref().unwrap();
        write(&format!("{name}.crt"), &peer.certificate.pem());
        write(&format!("{name}.key"), &peer.key_pem());
    }
}
