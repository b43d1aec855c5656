//! What is done with a server's certificate: verified, and described if it is refused; or believed without a look.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::certificate::{Certificate, date};

/// Why a server's certificate is not believed, with what the certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which part of it differs from what was expected.
    pub flaw: Flaw,
    why: String,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is out of date, or not in date yet.
    Dates,
    /// It is for another host.
    Name,
    /// Nobody known has signed it.
    Authority,
    /// Something else.
    Other,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

impl Refused {
    fn new(
        why: &CertificateError,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Self {
        let name = name.to_str();
        let read = Certificate::read(certificate);
        let subject = &read.subject;
        let (flaw, why) = match why {
            CertificateError::ExpiredContext { time, not_after } => (
                Flaw::Dates,
                format!(
                    "expired at {}, and it is {} now",
                    date(*not_after),
                    date(*time)
                ),
            ),
            CertificateError::NotValidYetContext { time, not_before } => (
                Flaw::Dates,
                format!(
                    "is not valid before {}, and it is {} now",
                    date(*not_before),
                    date(*time)
                ),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (
                    Flaw::Name,
                    format!("is not for {name}: it is for {}", read.names),
                )
            }
            CertificateError::UnknownIssuer if read.is_self_signed() => (
                Flaw::Authority,
                format!(
                    "is signed by itself and by no known authority ({})",
                    read.validity
                ),
            ),
            CertificateError::UnknownIssuer => (
                Flaw::Authority,
                format!(
                    "is signed by {}, which is no known authority ({})",
                    read.issuer, read.validity
                ),
            ),
            other => (Flaw::Other, format!("can't be believed: {other}")),
        };
        Self {
            flaw,
            why: format!("the certificate of {subject} {why}"),
        }
    }
}

/// Verifies as the web does, and says what is wrong in words for the operator.
#[derive(Debug)]
pub(super) struct Verify(Arc<WebPkiServerVerifier>);

impl Verify {
    pub(super) fn new(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self(verifier)
    }
}

impl ServerCertVerifier for Verify {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0
                .verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        verified.map_err(|error| match error {
            Error::InvalidCertificate(why) => {
                let refused = Refused::new(&why, certificate, name);
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Believes whoever answers. That it holds the key of its certificate is still checked, since that costs nothing.
#[derive(Debug)]
pub(super) struct BelieveAll(WebPkiSupportedAlgorithms);

impl BelieveAll {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for BelieveAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
