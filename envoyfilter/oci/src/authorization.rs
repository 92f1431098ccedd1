//! Logging in, when a registry asks for it: user and password, or a token of the service that it names.
//!
//! Source: the distribution project's pages "Token Authentication" and "`OAuth2` Token Authentication".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::Credential;
use crate::failure::Failure;
use crate::transport::{Answer, Scheme, Transport};

/// The most bytes of an answer with a token.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
}

/// The value of the header `Authorization` that answers a challenge; `None` when there is nothing to
/// answer it with.
pub(crate) fn answer(
    challenge: &Challenge,
    credential: Option<&Credential>,
    scope: &str,
    transport: &Transport,
) -> Result<Option<String>, Failure> {
    match (challenge, credential) {
        (Challenge::Basic, None) => Ok(None),
        (Challenge::Basic, Some(Credential::Password { username, password })) => {
            Ok(Some(basic(username, password)))
        }
        (Challenge::Basic, Some(Credential::IdentityToken(_))) => Err(Failure::Challenge {
            challenge: challenge.to_string(),
            why: "an identity token is no password",
        }),
        (Challenge::Bearer { realm, service }, credential) => {
            let is_safe = realm.starts_with("https://")
                || transport.scheme == Scheme::Http && realm.starts_with("http://");
            if !is_safe {
                return Err(Failure::Challenge {
                    challenge: challenge.to_string(),
                    why: "credentials are not sent there without TLS",
                });
            }
            let service = service.as_deref().unwrap_or_default();
            token(transport, realm, service, scope, credential).map(Some)
        }
    }
}

fn token(
    transport: &Transport,
    realm: &str,
    service: &str,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<String, Failure> {
    let get = || transport.agent.get(realm).query("service", service).query("scope", scope);
    let response = match credential {
        None => get().call(),
        Some(Credential::Password { username, password }) => {
            get().header("authorization", basic(username, password)).call()
        }
        Some(Credential::IdentityToken(token)) => transport.agent.post(realm).send_form([
            ("grant_type", "refresh_token"),
            ("client_id", "tollgate"),
            ("service", service),
            ("scope", scope),
            ("refresh_token", token),
        ]),
    };
    let name = format!("token at {}", place(realm));
    let answer = Answer::read(name, response, MAX_TOKEN_BYTES, &mut |_| {})?;
    if !answer.status.is_success() {
        return Err(answer.into_failure());
    }
    let given: Option<Given> = serde_json::from_slice(&answer.body).ok();
    match given.and_then(|given| given.token.or(given.access_token)) {
        Some(token) => Ok(format!("Bearer {token}")),
        None => Err(Failure::Challenge {
            challenge: format!("Bearer at {}", place(realm)),
            why: "its answer has no token",
        }),
    }
}

fn place(realm: &str) -> &str {
    realm.split('?').next().unwrap_or_default()
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_tls_for_no_service() {
        let credential = Credential::IdentityToken("t".into());
        for realm in ["http://127.0.0.1:1/token", "ftp://a.test/token", "token"] {
            let challenge = Challenge::Bearer { realm: realm.into(), service: None };
            let transport =
                Transport { agent: ureq::Agent::new_with_defaults(), scheme: Scheme::Https };
            let error = answer(&challenge, Some(&credential), "", &transport).unwrap_err();
            assert!(error.to_string().contains("not sent there without TLS"), "{realm}: {error}");
        }
    }
}
