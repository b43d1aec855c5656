//! What a certificate says of itself, for messages only: nothing is decided by it.
//!
//! # Invariant
//!
//! Whatever a server sends instead of a certificate can be shown: what can't be read is said to be unreadable, and no
//! byte reaches a terminal unescaped.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::key::Escaped;

/// Names beyond this many are counted, not shown.
const NAMES_SHOWN_MAX: usize = 8;

/// The readable parts of a certificate.
pub(super) struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// The names that it is for.
    pub names: String,
    /// From when to when.
    pub validity: String,
}

impl Certificate {
    pub(super) fn read(der: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = x509_cert::Certificate::from_der(der) else {
            let unreadable = || "(not readable)".to_owned();
            return Self {
                subject: unreadable(),
                issuer: unreadable(),
                names: unreadable(),
                validity: unreadable(),
            };
        };
        let contents = certificate.tbs_certificate;
        let from = contents.validity.not_before.to_unix_duration();
        let until = contents.validity.not_after.to_unix_duration();
        let names = match contents.get::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names,
            Ok(None) | Err(_) => Vec::new(),
        };
        Self {
            subject: shown(&contents.subject),
            issuer: shown(&contents.issuer),
            names: list(&names),
            validity: format!(
                "valid from {} until {}",
                date(UnixTime::since_unix_epoch(from)),
                date(UnixTime::since_unix_epoch(until))
            ),
        }
    }

    pub(super) fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }
}

/// Day and time, UTC.
pub(super) fn date(time: UnixTime) -> String {
    // A certificate may name a time beyond every calendar, and the formatting of one panics.
    const LAST: u64 = 253_402_300_799;
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs().min(LAST));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// A distinguished name; an empty one is allowed.
fn shown(name: &impl Display) -> String {
    let text = name.to_string();
    match text.as_str() {
        "" => "(no name)".to_owned(),
        text => Escaped(text.as_bytes()).to_string(),
    }
}

fn list(names: &[GeneralName]) -> String {
    let known: Vec<String> = names.iter().filter_map(name).collect();
    let more = known.len().saturating_sub(NAMES_SHOWN_MAX);
    let mut text = known[..known.len() - more].join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    match text.as_str() {
        "" => "no host at all".to_owned(),
        _ => text,
    }
}

/// Names that a server can be asked for; the others are of no concern here.
fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(Escaped(name.as_bytes()).to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4: Result<[u8; 4], _> = bytes.try_into();
            let v6: Result<[u8; 16], _> = bytes.try_into();
            let address = v4.map(IpAddr::from).or(v6.map(IpAddr::from)).ok()?;
            Some(address.to_string())
        }
        GeneralName::OtherName(_)
        | GeneralName::Rfc822Name(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::UniformResourceIdentifier(_)
        | GeneralName::RegisteredId(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn signed(names: &[&str], common_name: &str) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common_name.is_empty() {
            params
                .distinguished_name
                .push(DnType::CommonName, common_name);
        }
        let address = SanType::IpAddress("2001:db8::7".parse().expect("an address"));
        params.subject_alt_names.push(address);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Certificate::read(certificate.der())
    }

    #[test]
    fn a_certificate_is_described_by_who_for_whom_and_how_long() {
        let read = signed(&["cache.example", "*.cache.example", "10.0.0.9"], "cache");
        assert_eq!(read.subject, "CN=cache");
        assert_eq!(
            read.names,
            "cache.example, *.cache.example, 10.0.0.9, 2001:db8::7"
        );
        assert!(read.is_self_signed());
        assert_eq!(
            read.validity,
            "valid from 1975-01-01 00:00:00 UTC until 4096-01-01 00:00:00 UTC"
        );
        let many: Vec<String> = (0..20).map(|number| format!("h{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(signed(&many, "").names.ends_with("h7 and 13 more"));
        assert_eq!(signed(&[], "").subject, "(no name)");
    }

    #[test]
    fn what_is_no_certificate_can_be_shown_too() {
        for bytes in [b"".as_slice(), b"\x30\x80", &[0xff; 100]] {
            let read = Certificate::read(&CertificateDer::from(bytes));
            assert_eq!(read.subject, "(not readable)");
        }
        let hostile = signed(&[], "\x1b[31mred\n");
        assert!(
            !hostile.subject.contains(['\x1b', '\n']),
            "{}",
            hostile.subject
        );
        assert_eq!(
            date(UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX))),
            "9999-12-31 23:59:59 UTC"
        );
    }
}
