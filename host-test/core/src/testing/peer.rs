//! Clients with certificates, for filters that ask who calls.

use std::net::IpAddr;

use crate::scenario::{self, CertificateTime, InvalidScenario, Issuance, Issuer, SubjectAltName};
use crate::tls::{DistinguishedName, TlsVersion};

/// A client of a proxy that terminates TLS, and the certificate that it shows: unless something else is
/// said, an X.509-SVID without names, whose subject is the peer's name, signed by the CA that the proxy
/// trusts. The same peer has the same certificate each time, byte for byte.
#[derive(Clone, Debug)]
pub struct Peer {
    name: String,
    shows: Option<Shown>,
    server_name: Option<String>,
    version: TlsVersion,
}

/// What is said of a certificate.
#[derive(Clone, Debug, Default)]
struct Shown {
    subject: Option<String>,
    subject_alt_names: Vec<SubjectAltName>,
    issuer: Issuer,
    valid: Option<(CertificateTime, CertificateTime)>,
}

impl Peer {
    /// A client that requests call by a name.
    pub fn new(name: impl Into<String>) -> Self {
        let shows = Some(Shown::default());
        Self { name: name.into(), shows, server_name: None, version: TlsVersion::default() }
    }

    /// A client that shows no certificate.
    pub fn without_certificate(name: impl Into<String>) -> Self {
        Self { shows: None, ..Self::new(name) }
    }

    /// Adds a URI to its names; a SPIFFE ID is one.
    #[must_use]
    pub fn uri(self, uri: impl Into<String>) -> Self {
        self.named(SubjectAltName::Uri(uri.into()))
    }

    /// Adds a name of the DNS to its names.
    #[must_use]
    pub fn dns(self, name: impl Into<String>) -> Self {
        self.named(SubjectAltName::Dns(name.into()))
    }

    /// Adds an address for mail to its names.
    #[must_use]
    pub fn email(self, address: impl Into<String>) -> Self {
        self.named(SubjectAltName::Email(address.into()))
    }

    /// Adds an address of the Internet protocol to its names.
    #[must_use]
    pub fn ip(self, address: IpAddr) -> Self {
        self.named(SubjectAltName::Ip(address))
    }

    /// Sets its subject, the most particular part first: `CN=web,O=acme`.
    #[must_use]
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.shown(|shown| shown.subject = Some(subject.into()))
    }

    /// Sets who signs its certificate.
    #[must_use]
    pub fn issuer(self, issuer: Issuer) -> Self {
        self.shown(|shown| shown.issuer = issuer)
    }

    /// Sets the first and the last second at which its certificate is valid: an hour before the proxy starts
    /// and a day after, unless it is set.
    #[must_use]
    pub fn valid(self, from: CertificateTime, to: CertificateTime) -> Self {
        self.shown(|shown| shown.valid = Some((from, to)))
    }

    /// Sets the server that it asks for (SNI); by default it asks for none.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets the only version of TLS that it speaks.
    #[must_use]
    pub fn version(mut self, version: TlsVersion) -> Self {
        self.version = version;
        self
    }

    fn named(self, name: SubjectAltName) -> Self {
        self.shown(|shown| shown.subject_alt_names.push(name))
    }

    /// Who says something of a certificate shows one.
    fn shown(mut self, say: impl FnOnce(&mut Shown)) -> Self {
        say(self.shows.get_or_insert_default());
        self
    }

    /// The peer as scenarios have it.
    pub(super) fn read(self) -> Result<scenario::Peer, InvalidScenario> {
        let Self { name, shows, server_name, version } = self;
        let certificate = shows.map(|shown| shown.read(&name)).transpose()?;
        Ok(scenario::Peer { name, certificate, server_name, version })
    }
}

impl Shown {
    fn read(self, name: &str) -> Result<Issuance, InvalidScenario> {
        let subject = match &self.subject {
            Some(text) => DistinguishedName::parse(text),
            None => DistinguishedName::of_common_name(name),
        };
        let subject =
            subject.map_err(|error| InvalidScenario(format!("peers.{name}.subject: {error}")))?;
        let own = Issuance::new(subject);
        let (not_before, not_after) = self.valid.unwrap_or((own.not_before, own.not_after));
        let Self { subject_alt_names, issuer, .. } = self;
        Ok(Issuance { subject_alt_names, issuer, not_before, not_after, ..own })
    }
}
