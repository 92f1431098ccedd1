//! TLS on the client's side: a peer shows what its scenario says, however wrong that is.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{self, CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_host::scenario::{Peer, Tls};
use tollgate_host::tls::{Alert, Credential, Credentials, TlsVersion};

use crate::admin::{Admin, AdminError};

/// Handshakes that Envoy has seen to their good end.
const HANDSHAKES: &str = r"^listener\..*\.ssl\.handshake$";

/// How often is looked whether it has.
const INTERVAL: Duration = Duration::from_millis(1);

/// How long Envoy may take to let a peer in or not.
const DECIDING: Duration = Duration::from_secs(5);

/// The peers of a scenario with what they show.
#[derive(Debug)]
pub struct Identities {
    tls: Tls,
    configured: Vec<Arc<ClientConfig>>,
}

/// A handshake that came to its end.
pub(crate) type Shaken<T> = Result<T, Alert>;

impl Identities {
    /// Gives each peer its certificate.
    ///
    /// # Errors
    ///
    /// What `rustls` does not take, which is nothing that was issued.
    pub fn new(tls: &Tls, credentials: &Credentials) -> Result<Self, Error> {
        let own = CertificateDer::from(credentials.own.certificate.der().to_vec());
        let peers = tls.peers.iter().zip(&credentials.peers);
        let configured = peers.map(|(peer, credential)| configure(peer, credential.as_ref(), &own));
        let configured = configured.collect::<Result<_, _>>()?;
        Ok(Self { tls: tls.clone(), configured })
    }

    /// The place of the peer that a step names.
    pub(crate) fn place(&self, name: Option<&str>) -> Option<usize> {
        self.tls.peer(name).map(|(place, _)| place)
    }

    /// What a peer shakes hands with, and the server that it asks for.
    pub fn client(&self, place: usize) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let asked = self.tls.peers.get(place)?.server_name.clone();
        // A name has to stand here, which is not sent when the peer asks for none.
        let name = ServerName::try_from(asked.unwrap_or_else(|| "proxy".into())).ok()?;
        Some((Arc::clone(self.configured.get(place)?), name))
    }

    /// Connects a peer, and waits until Envoy has let it in or not.
    ///
    /// # Errors
    ///
    /// [`NoHandshake`] when Envoy does neither.
    pub(crate) async fn connect(
        &self,
        place: usize,
        stream: TcpStream,
        admin: Admin,
    ) -> Result<Shaken<TlsStream<TcpStream>>, NoHandshake> {
        let (config, name) = self.client(place).ok_or(NoHandshake::Nobody { place })?;
        let (before, begun) = (handshakes(admin).await?, Instant::now());
        let mut stream = match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => stream,
            Err(error) => return refusal(error).map(Err),
        };
        loop {
            let mut nothing = [0];
            tokio::select! {
                // Envoy says nothing before it is asked, but why it lets nobody in.
                read = stream.read(&mut nothing) => match read {
                    Ok(_) => return Err(NoHandshake::Closed),
                    Err(error) => return refusal(error).map(Err),
                },
                () = sleep(INTERVAL) => {}
            }
            // In TLS 1.3 a client thinks itself let in before its certificate is looked at.
            if handshakes(admin).await? > before {
                return Ok(Ok(stream));
            }
            if begun.elapsed() > DECIDING {
                return Err(NoHandshake::Undecided);
            }
        }
    }
}

async fn handshakes(admin: Admin) -> Result<u64, NoHandshake> {
    let all = admin.statistics(HANDSHAKES).await.map_err(NoHandshake::Admin)?;
    Ok(all.into_values().sum())
}

/// Opens a connection on which a peer can shake hands.
pub(crate) async fn open(listener: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(listener).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The alert with which a handshake was refused.
///
/// # Errors
///
/// [`NoHandshake::Failed`] when it failed for another reason.
pub(crate) fn refusal(error: io::Error) -> Result<Alert, NoHandshake> {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::AlertReceived(alert)) => Ok(Alert(u8::from(*alert))),
        _ => Err(NoHandshake::Failed(error)),
    }
}

fn configure(
    peer: &Peer,
    credential: Option<&Credential>,
    own: &CertificateDer<'static>,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let version = match peer.version {
        TlsVersion::Tls12 => &TLS12,
        TlsVersion::Tls13 => &TLS13,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Known { own: own.clone(), provider }));
    let mut config = match credential {
        None => builder.with_no_client_auth(),
        Some(credential) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(credential.key.clone()));
            let key = ring::sign::any_supported_type(&key)?;
            let chain = vec![CertificateDer::from(credential.certificate.der().to_vec())];
            builder
                .with_client_cert_resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key)))))
        }
    };
    // A session that is resumed shows no certificate.
    config.resumption = Resumption::disabled();
    config.enable_sni = peer.server_name.is_some();
    Ok(Arc::new(config))
}

/// Shows a certificate to whoever asks, whatever CAs that one names.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes the proxy's certificate if it is the one that was issued for it, whatever it says.
#[derive(Debug)]
struct Known {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.own {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General("not the certificate that was issued for the proxy".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Envoy has neither let a peer in nor refused it.
#[derive(Debug)]
pub(crate) enum NoHandshake {
    /// There is no such peer.
    Nobody { place: usize },
    /// The connection broke.
    Failed(io::Error),
    /// The connection ended without a word.
    Closed,
    /// Nothing happened.
    Undecided,
    /// Envoy does not tell.
    Admin(AdminError),
}

impl fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody { place } => write!(f, "there is no peer {place}"),
            Self::Failed(error) => write!(f, "the handshake with Envoy failed: {error}"),
            Self::Closed => f.write_str("Envoy ended a handshake without an alert"),
            Self::Undecided => {
                write!(f, "Envoy did not end a handshake in {} s", DECIDING.as_secs())
            }
            Self::Admin(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NoHandshake {}
