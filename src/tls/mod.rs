//! How one side is spoken to over TLS: whom to believe, which name to expect, who we are. Does no I/O but to read the
//! system's authorities.
//!
//! # Invariants
//!
//! - A certificate's chain, dates and name are verified unless the operator said that nothing is to be; there is no way
//!   in between, and no default that leads there.
//! - Each connection is verified for itself: sessions are not resumed, so a server that came back with another
//!   certificate is noticed at its first connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

mod certificate;
mod seen;
mod verify;

use seen::{Fingerprint, Remember};
use verify::{BelieveAll, Verify};
pub use verify::{Flaw, Refused};

/// How to speak TLS to one side. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    identity: Arc<Identity>,
    name: Option<ServerName<'static>>,
    verified: bool,
    believed: Fingerprint,
}

/// What the operator said about TLS. Files are given by their content, in PEM.
#[derive(Default)]
pub struct Settings<'a> {
    /// Certificates of the authorities to believe; without them the system's.
    pub authorities: Option<&'a [u8]>,
    /// Our certificate, with those between it and its authority, and its private key.
    pub identity: Option<(&'a [u8], &'a [u8])>,
    /// The name that the certificate must have and that is sent to the server; without it, the host.
    pub name: Option<&'a str>,
    /// Believe any certificate.
    pub insecure: bool,
}

/// Why TLS can't be spoken with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file of authorities has none.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoAuthority,
    /// The file of authorities is damaged.
    #[error("a certificate in it can't be read: {0}")]
    BadAuthority(String),
    /// The system has no authorities.
    #[error("the system has no certificates of authorities{0}")]
    NoSystemAuthorities(String),
    /// The file of our certificate has none.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// The file of our key has none that can be read.
    #[error("there is no private key in it that can be read")]
    NoKey,
    /// The key is protected by a passphrase.
    #[error("the private key in it is encrypted")]
    EncryptedKey,
    /// Certificate and key are of no use together.
    #[error("the certificate and the key can't be used: {0}")]
    BadIdentity(String),
    /// The name is none that a certificate could have.
    #[error("it is neither a host name nor an IP address")]
    BadName,
}

impl Tls {
    /// TLS with these settings.
    ///
    /// # Errors
    ///
    /// What in the settings, or on the system, can't be used.
    pub fn new(settings: &Settings<'_>) -> Result<Self, SettingsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match settings.insecure {
            true => Arc::new(BelieveAll::new(&provider)),
            false => Arc::new(Verify::new(verifier(settings.authorities, &provider)?)),
        };
        let believed = Fingerprint::default();
        let verifier = Arc::new(Remember::new(verifier, &believed));
        let identity = Arc::new(Identity {
            certified: match settings.identity {
                Some((certificate, key)) => Some(certified(certificate, key, &provider)?),
                None => None,
            },
            asked: AtomicBool::new(false),
        });
        let name = match settings.name {
            Some(name) => Some(server_name(name).ok_or(SettingsError::BadName)?),
            None => None,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::clone(&identity) as Arc<dyn ResolvesClientCert>);
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            identity,
            name,
            verified: !settings.insecure,
            believed,
        })
    }

    /// For a connection that only finds out whether TLS is spoken, and on which nothing is said.
    pub(crate) fn to_ask_whether() -> Self {
        let settings = Settings {
            insecure: true,
            ..Settings::default()
        };
        Self::new(&settings).expect("these settings name nothing that could be wrong")
    }

    /// Whether certificates are verified.
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    /// SHA-256 of the certificate that the server showed last and that was believed, once one was.
    pub fn certificate_sha256(&self) -> Option<Vec<u8>> {
        let believed = self.believed.lock();
        believed.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name to ask `host` for; `None` if nobody could have it.
    pub(crate) fn name_of(&self, host: &str) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| server_name(host))
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Whether the server has ever asked who we are.
    pub(crate) fn was_asked_for_certificate(&self) -> bool {
        self.identity.asked.load(Ordering::Relaxed)
    }

    /// Whether we have a certificate to show.
    pub(crate) fn has_certificate(&self) -> bool {
        self.identity.certified.is_some()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.verified {
            true => "TLS",
            false => "TLS, not verified",
        })
    }
}

fn server_name(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

/// Believes what these authorities, or the system's, have signed.
fn verifier(
    authorities: Option<&[u8]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, SettingsError> {
    let roots = match authorities {
        Some(pem) => given_roots(pem)?,
        None => system_roots()?,
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| SettingsError::BadAuthority(error.to_string()))
}

fn given_roots(pem: &[u8]) -> Result<RootCertStore, SettingsError> {
    let bad = |error: &dyn fmt::Display| SettingsError::BadAuthority(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(&error))?;
        roots.add(certificate).map_err(|error| bad(&error))?;
    }
    match roots.is_empty() {
        true => Err(SettingsError::NoAuthority),
        false => Ok(roots),
    }
}

fn system_roots() -> Result<RootCertStore, SettingsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's store may well hold one that can't be read; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(": {error}"));
        return Err(SettingsError::NoSystemAuthorities(why));
    }
    Ok(roots)
}

fn certified(
    certificate: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, SettingsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| SettingsError::NoCertificate)?;
    if chain.is_empty() {
        return Err(SettingsError::NoCertificate);
    }
    let encrypted = |pem: &[u8]| {
        let begins = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
        begins(b"BEGIN ENCRYPTED PRIVATE KEY") || begins(b"Proc-Type: 4,ENCRYPTED")
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| match encrypted(key) {
        true => SettingsError::EncryptedKey,
        false => SettingsError::NoKey,
    })?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| SettingsError::BadIdentity(error.to_string()))
}

/// Who we are, and whether anybody wanted to know.
#[derive(Debug)]
struct Identity {
    certified: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}
