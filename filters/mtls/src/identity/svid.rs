//! What makes a certificate an X.509-SVID of a workload.
//!
//! Source: X509-SVID, sections 2 to 5.2.

use tollgate::origin::SpiffeId;

use super::Refusal;
use super::certificate::Certificate;

/// The SPIFFE ID of a leaf, if the certificate is one to the letter of the standard.
///
/// # Errors
///
/// [`Refusal`] with the first rule that it breaks.
pub fn spiffe_id(certificate: &Certificate) -> Result<SpiffeId, Refusal> {
    let id = match certificate.uris.as_slice() {
        [] => return Err(Refusal::NoUri),
        [uri] => SpiffeId::parse(uri).map_err(|_| Refusal::NotASpiffeId)?,
        _ => return Err(Refusal::SeveralUris),
    };
    if certificate.is_ca {
        return Err(Refusal::CertificateOfCa);
    }
    match certificate.key_usage {
        None => return Err(Refusal::NoKeyUsage),
        Some(usage) if usage.signs_certificates => return Err(Refusal::SigningKey),
        Some(usage) if !usage.is_critical || !usage.digital_signature => {
            return Err(Refusal::WrongKeyUsage);
        }
        Some(_) => {}
    }
    if certificate.is_for_tls == Some(false) {
        return Err(Refusal::WrongPurpose);
    }
    if certificate.is_subject_empty && !certificate.is_san_critical {
        return Err(Refusal::NamesNotCritical);
    }
    of_workload(id)
}

/// The ID, if it is that of a workload: the trust domain's own signs and does not call.
///
/// # Errors
///
/// [`Refusal::RootPath`] when it has no path.
pub fn of_workload(id: SpiffeId) -> Result<SpiffeId, Refusal> {
    if id.path().is_empty() { Err(Refusal::RootPath) } else { Ok(id) }
}
