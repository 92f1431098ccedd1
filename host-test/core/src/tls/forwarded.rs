//! The line `x-forwarded-client-cert`: what the proxy tells filters and the upstream of the client.
//!
//! Source: Envoy, `mutateXfccRequestHeader` in `source/common/http/conn_manager_utility.cc`; checked on
//! Envoy 1.40.

use super::{Certificate, Secured};
use crate::scenario::{ClientCertDetail, Configured, ForwardClientCertDetails, HeaderLine};

const NAME: &[u8] = b"x-forwarded-client-cert";

/// Has the header lines of a request tell of its client as the proxy is configured.
pub(crate) fn forward(lines: &mut Vec<HeaderLine>, secured: Option<&Secured>, proxy: &Configured) {
    let shown = secured.and_then(|secured| Some((secured, secured.peer.as_deref()?)));
    let (secured, peer) = match (proxy.forward_client_cert_details, shown) {
        (ForwardClientCertDetails::AlwaysForwardOnly, _)
        | (ForwardClientCertDetails::ForwardOnly, Some(_)) => return,
        (ForwardClientCertDetails::Sanitize, _) | (_, None) => {
            return lines.retain(|(name, _)| name != NAME);
        }
        (
            ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet,
            Some(shown),
        ) => shown,
    };
    let element = element(&secured.local, peer, proxy).into_bytes();
    let line = lines.iter_mut().find(|(name, _)| name == NAME);
    match (proxy.forward_client_cert_details, line) {
        (ForwardClientCertDetails::AppendForward, Some((_, value))) => {
            value.push(b',');
            value.extend(element);
        }
        (_, Some((_, value))) => *value = element,
        (_, None) => lines.push((NAME.to_vec(), element)),
    }
}

/// As Envoy writes it: without quotes around what may hold the signs that part it.
fn element(local: &Certificate, peer: &Certificate, proxy: &Configured) -> String {
    let mut pairs: Vec<String> = local.uris().iter().map(|uri| format!("By={uri}")).collect();
    pairs.push(format!("Hash={}", peer.digest()));
    let wanted = |detail| proxy.set_current_client_cert_details.contains(&detail);
    if wanted(ClientCertDetail::Cert) {
        pairs.push(format!("Cert=\"{}\"", peer.url_encoded_pem()));
    }
    if wanted(ClientCertDetail::Chain) {
        pairs.push(format!("Chain=\"{}\"", peer.url_encoded_pem()));
    }
    if wanted(ClientCertDetail::Subject) {
        pairs.push(format!("Subject=\"{}\"", peer.subject()));
    }
    if wanted(ClientCertDetail::Uri) {
        match peer.uris() {
            [] => pairs.push("URI=".into()),
            uris => pairs.extend(uris.iter().map(|uri| format!("URI={uri}"))),
        }
    }
    if wanted(ClientCertDetail::Dns) {
        pairs.extend(peer.dns().iter().map(|name| format!("DNS={name}")));
    }
    pairs.join(";")
}
