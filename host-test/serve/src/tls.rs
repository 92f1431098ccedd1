//! TLS: who clients see, whom the proxy sees, and whom it trusts among servers.
//!
//! Handshakes are those of `rustls`, which lets in and refuses as `BoringSSL` does but for rare shapes of
//! certificates; what filters are told of a connection follows from its certificates as in scenarios.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper_rustls::builderstates::WantsProtocols1;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, HandshakeKind, ProtocolVersion,
    RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tollgate_host::scenario::TrustChainVerification;
use tollgate_host::tls::{Certificate, NotRead, Secured, TlsVersion};

/// How long a client may take to shake hands.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(15);

/// What clients may speak, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificates that clients are asked for.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// Who may have issued them: certificates, as PEM.
    pub ca: Vec<u8>,
    /// Whether a client that shows none is refused.
    pub are_required: bool,
    /// Whether one that is not good is refused.
    pub trust_chain_verification: TrustChainVerification,
}

/// What the proxy shows its clients, and asks them for.
pub struct ServerTls {
    acceptor: TlsAcceptor,
    own: Arc<Certificate>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl ServerTls {
    /// Shows a chain of certificates with the key of its first, both as PEM. Without `clients`, clients are
    /// asked for nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`].
    pub fn new(
        chain: &[u8],
        key: &[u8],
        clients: Option<&ClientCertificates>,
    ) -> Result<Self, InvalidTls> {
        let chain = certificates(chain).map_err(InvalidTls::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(InvalidTls::Key)?;
        let own = chain.first().map_or(&[][..], |own| own);
        let own = Certificate::read(own.to_vec()).map_err(InvalidTls::Own)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = clients.map(|clients| verifier(clients, &provider)).transpose()?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(InvalidTls::Rejected)?;
        let builder = match clients.zip(verifier.clone()) {
            None => builder.with_no_client_auth(),
            Some((clients, verifier)) => {
                builder.with_client_cert_verifier(match clients.trust_chain_verification {
                    TrustChainVerification::VerifyTrustChain => verifier,
                    TrustChainVerification::AcceptUntrusted => Arc::new(AcceptUntrusted(verifier)),
                })
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(InvalidTls::Rejected)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, own: Arc::new(own), verifier })
    }

    /// Shakes hands with a client.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Secured), NoHandshake> {
        let shaken = timeout(LONGEST_HANDSHAKE, self.acceptor.accept(stream)).await;
        let stream = shaken.map_err(|_| NoHandshake::TooLong)?.map_err(NoHandshake::Failed)?;
        let secured = self.secured(&stream).map_err(NoHandshake::Peer)?;
        Ok((stream, secured))
    }

    /// What filters are told of a connection.
    fn secured(&self, stream: &TlsStream<TcpStream>) -> Result<Secured, NotRead> {
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::split_first);
        // As on Envoy 1.40: of a session that is resumed nothing is said to be verified.
        let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let verifier = self.verifier.as_ref().filter(|_| !is_resumed);
        let peer_is_valid =
            verifier.zip(shown).is_some_and(|(verifier, (certificate, between))| {
                verifier.verify_client_cert(certificate, between, UnixTime::now()).is_ok()
            });
        let peer = shown.map(|(certificate, _)| Certificate::read(certificate.to_vec()));
        Ok(Secured {
            local: Arc::clone(&self.own),
            peer: peer.transpose()?.map(Arc::new),
            peer_is_valid,
            server_name: session.server_name().map(ToOwned::to_owned),
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                _ => TlsVersion::Tls13,
            },
            told_version: OnceLock::new(),
        })
    }
}

fn verifier(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, InvalidTls> {
    let roots = Arc::new(roots(&clients.ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let verifier = if clients.are_required { verifier } else { verifier.allow_unauthenticated() };
    verifier.build().map(|verifier| verifier as _).map_err(InvalidTls::Verifier)
}

/// Lets in whoever has the key of the certificate that it shows.
#[derive(Debug)]
struct AcceptUntrusted(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AcceptUntrusted {
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Connects with TLS where an origin says so, and else without.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// Whom the proxy trusts among upstreams and services.
#[derive(Clone, Debug)]
pub struct Trust(ClientConfig);

impl Trust {
    /// Trusts certificates that are given as PEM; without any, those that the system trusts.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`], also when the system trusts nobody.
    pub fn new(ca: Option<&[u8]>) -> Result<Self, InvalidTls> {
        Self::in_roots(ca.map_or_else(system_roots, roots)?)
    }

    /// Trusts nobody, for upstreams and services in plain text.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] when TLS cannot be spoken at all.
    pub fn nobody() -> Result<Self, InvalidTls> {
        Self::in_roots(RootCertStore::empty())
    }

    fn in_roots(roots: RootCertStore) -> Result<Self, InvalidTls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(InvalidTls::Rejected)?;
        Ok(Self(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// Connections for HTTP/1.1.
    pub(crate) fn http1(&self) -> Connector {
        self.https().enable_http1().build()
    }

    /// Connections for HTTP/2.
    pub(crate) fn http2(&self) -> Connector {
        self.https().enable_http2().build()
    }

    fn https(&self) -> HttpsConnectorBuilder<WantsProtocols1> {
        HttpsConnectorBuilder::new().with_tls_config(self.0.clone()).https_or_http()
    }
}

fn roots(ca: &[u8]) -> Result<RootCertStore, InvalidTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca).map_err(InvalidTls::Ca)? {
        roots.add(certificate).map_err(InvalidTls::RejectedCa)?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, InvalidTls> {
    let mut roots = RootCertStore::empty();
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 { Err(InvalidTls::NoSystemRoots) } else { Ok(roots) }
}

/// The certificates in a PEM, of which there is one at least.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?;
    if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(all) }
}

/// Certificates or a key that TLS cannot be spoken with.
#[derive(Debug)]
pub enum InvalidTls {
    /// The proxy's chain is no PEM of certificates.
    Chain(pem::Error),
    /// The proxy's certificate cannot be read.
    Own(NotRead),
    /// The key is no PEM of one.
    Key(pem::Error),
    /// A CA is no PEM of certificates.
    Ca(pem::Error),
    /// A CA is no certificate that can be used.
    RejectedCa(rustls::Error),
    /// A CA cannot be trusted.
    Verifier(VerifierBuilderError),
    /// A certificate or a key that cannot be used, or two that do not belong together.
    Rejected(rustls::Error),
    /// Nobody is trusted by the system.
    NoSystemRoots,
}

impl fmt::Display for InvalidTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(error) => write!(f, "the certificate is not read as PEM: {error}"),
            Self::Own(error) => write!(f, "the certificate: {error}"),
            Self::Key(error) => write!(f, "the key is not read as PEM: {error}"),
            Self::Ca(error) => write!(f, "the CA is not read as PEM: {error}"),
            Self::RejectedCa(error) => write!(f, "the CA cannot be used: {error}"),
            Self::Verifier(error) => write!(f, "the CA cannot be used: {error}"),
            Self::Rejected(error) => write!(f, "{error}"),
            Self::NoSystemRoots => {
                f.write_str("the system trusts no CA; name the one of the upstream")
            }
        }
    }
}

impl std::error::Error for InvalidTls {}

/// Why a client did not get in.
#[derive(Debug)]
pub enum NoHandshake {
    /// It was refused, or broke off.
    Failed(io::Error),
    /// It did not come to an end.
    TooLong,
    /// Its certificate cannot be told of.
    Peer(NotRead),
}

impl fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "{error}"),
            Self::TooLong => write!(f, "it took above {} s", LONGEST_HANDSHAKE.as_secs()),
            Self::Peer(error) => write!(f, "its certificate: {error}"),
        }
    }
}

impl std::error::Error for NoHandshake {}
