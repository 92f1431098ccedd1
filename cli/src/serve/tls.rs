//! Certificates on the command line: whom clients see, whom the proxy sees, and whom it trusts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use clap::Args;
use tollgate_host::scenario::TrustChainVerification;
use tollgate_host_serve::{ClientCertificates, InvalidTls, Origin, ServerTls, Trust};

/// What is spoken over TLS.
#[derive(Args)]
pub(super) struct TlsOptions {
    /// Speak TLS to clients, with this certificate and those between it and its CA, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Ask clients for certificates of these CAs, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Refuse clients that show no certificate.
    #[arg(long, requires = "tls_client_ca")]
    require_client_certificate: bool,
    /// Let clients in whose certificates are not good; filters are told so.
    #[arg(long, requires = "tls_client_ca")]
    accept_untrusted: bool,
    /// The CAs of upstream and clusters with https://, as PEM. Default: those that the system trusts.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
}

impl TlsOptions {
    /// How clients are met, if with TLS.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or used.
    pub(super) fn server(&self) -> Result<Option<ServerTls>> {
        let Some((cert, key)) = self.tls_cert.as_ref().zip(self.tls_key.as_ref()) else {
            return Ok(None);
        };
        let clients = self.clients()?;
        let tls = ServerTls::new(&read(cert)?, &read(key)?, clients.as_ref());
        tls.map(Some).map_err(|error| {
            let place = match (&error, &self.tls_client_ca) {
                (
                    InvalidTls::Ca(_) | InvalidTls::RejectedCa(_) | InvalidTls::Verifier(_),
                    Some(ca),
                ) => format!("{}", ca.display()),
                _ => format!("{} and {}", cert.display(), key.display()),
            };
            Error::new(error).context(place)
        })
    }

    fn clients(&self) -> Result<Option<ClientCertificates>> {
        let Some(ca) = &self.tls_client_ca else { return Ok(None) };
        Ok(Some(ClientCertificates {
            ca: read(ca)?,
            are_required: self.require_client_certificate,
            trust_chain_verification: if self.accept_untrusted {
                TrustChainVerification::AcceptUntrusted
            } else {
                TrustChainVerification::VerifyTrustChain
            },
        }))
    }

    /// Whom the proxy trusts, which speaks to these.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or used, and a system without CAs.
    pub(super) fn trust<'a>(&self, mut origins: impl Iterator<Item = &'a Origin>) -> Result<Trust> {
        match &self.upstream_ca {
            Some(ca) => Trust::new(Some(&read(ca)?)).with_context(|| format!("{}", ca.display())),
            None if origins.any(Origin::is_secured) => {
                Trust::new(None).context("--upstream-ca: missing")
            }
            None => Ok(Trust::nobody()?),
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}
