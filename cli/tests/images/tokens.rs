//! A service that gives tokens for a registry: signed, for one repository, and for a minute.
//!
//! Source: the distribution project's pages "Token Authentication Implementation" and "`OAuth2` Token
//! Authentication".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use serde_json::{Value, json};
use tollgate_host::scenario::{Issuance, Tls, TrustChainVerification};
use tollgate_host::tls::{Credentials, DistinguishedName};

use crate::proxy::{Message, Proxy};
use crate::registry::Trust;

const ISSUER: &str = "tokens.test";
const SERVICE: &str = "registry.test";

/// What alice exchanges for tokens.
pub(crate) const IDENTITY_TOKEN: &str = "refresh-me";

/// Alice may read and write, with her password or the token of her identity; all others may read.
pub(crate) struct TokenService {
    server: Proxy,
    ca: String,
}

impl TokenService {
    pub(crate) fn start() -> Self {
        let subject = DistinguishedName::parse("CN=tokens").unwrap();
        let tls = Tls {
            require_client_certificate: false,
            trust_chain_verification: TrustChainVerification::default(),
            certificate: Issuance::new(subject),
            peers: Vec::new(),
        };
        let issued = Credentials::issue(&tls, now()).unwrap();
        let key = SigningKey::from_pkcs8_der(&issued.own.key).unwrap();
        let certificate = STANDARD.encode(issued.own.certificate.der());
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [certificate] });
        let server = Proxy::start("", move |request, _| Some(answer(&request, &header, &key)));
        Self { server, ca: issued.trusted.pem() }
    }

    pub(crate) fn trust(&self) -> Trust {
        let realm = format!("http://{}/token", self.server.address());
        Trust { realm, issuer: ISSUER, service: SERVICE, ca: self.ca.clone() }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn answer(request: &Message, header: &Value, key: &SigningKey) -> Message {
    let said = if request.is("POST", "/token") {
        String::from_utf8(request.body.clone()).unwrap()
    } else {
        let path = request.line().split(' ').nth(1).unwrap();
        path.split_once('?').unwrap().1.to_owned()
    };
    let parameter = |name: &str| {
        let found = said.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.unwrap_or_default().replace("%3A", ":").replace("%2C", ",").replace("%2F", "/")
    };
    assert_eq!(parameter("service"), SERVICE);
    let password = format!("Basic {}", STANDARD.encode("alice:secret"));
    let is_alice = if request.is("POST", "/token") {
        assert_eq!(parameter("grant_type"), "refresh_token");
        assert_eq!(parameter("client_id"), "tollgate");
        Some(parameter("refresh_token") == IDENTITY_TOKEN)
    } else {
        request.header("authorization").map(|given| given == password)
    };
    let most: &[&str] = match is_alice {
        Some(true) => &["pull", "push"],
        Some(false) => return Message::answer("401 Unauthorized", "", "who?"),
        None => &["pull"],
    };
    let scope = parameter("scope");
    let [kind, name, actions] = scope.split(':').collect::<Vec<_>>().try_into().unwrap();
    let actions: Vec<&str> = actions.split(',').filter(|action| most.contains(action)).collect();
    let seconds = now().as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": SERVICE, "sub": "alice", "jti": seconds.to_string(),
        "iat": seconds, "nbf": seconds, "exp": seconds + 60,
        "access": [{ "type": kind, "name": name, "actions": actions }],
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(&claims));
    let signature: Signature = key.sign(signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
    // Each of the two ways has a name of its own for it.
    let key = if request.is("POST", "") { "access_token" } else { "token" };
    Message::answer("200 OK", "", &json!({ key: token }).to_string())
}
