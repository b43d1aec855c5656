//! Remembers which certificate the server showed, for the audit; nothing is decided by it.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// SHA-256 of the certificate that was believed last, once one was.
pub(super) type Fingerprint = Arc<Mutex<Option<Vec<u8>>>>;

/// Passes everything on to who decides, and remembers the certificates that were believed.
#[derive(Debug)]
pub(super) struct Remember {
    decides: Arc<dyn ServerCertVerifier>,
    believed: Fingerprint,
}

impl Remember {
    pub(super) fn new(decides: Arc<dyn ServerCertVerifier>, believed: &Fingerprint) -> Self {
        Self {
            decides,
            believed: Arc::clone(believed),
        }
    }
}

impl ServerCertVerifier for Remember {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.decides.verify_server_cert(
            certificate,
            intermediates,
            name,
            ocsp_response,
            now,
        )?;
        let believed = &mut *self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        *believed = sha256(certificate);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.decides
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.decides
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.decides.supported_verify_schemes()
    }
}

/// As `openssl x509 -fingerprint -sha256` computes it; by the hash that TLS itself uses.
fn sha256(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13()?;
    let hash = suite.common.hash_provider.hash(certificate);
    Some(hash.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hash = sha256(&CertificateDer::from(Vec::new())).unwrap_or_default();
        assert_eq!(crate::audit::entry::hex(&hash), empty);
    }
}
