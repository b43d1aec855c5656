//! Authorities and the certificates that they sign, good and bad, as files in PEM.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
    /// Its own certificate: what has to be believed.
    pub certificate: PathBuf,
}

/// A certificate and its private key.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate alone; its authority is not in it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It was valid in 2001.
    Expired,
    /// It will be valid in 2090.
    NotYetValid,
    /// It is for another host.
    WrongName,
}

impl Authority {
    /// An authority whose files are in `folder`, which must outlive it.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        let certificate = folder.join(format!("{name}.pem"));
        write(&certificate, &own.pem());
        Self {
            issuer: Issuer::new(params, key),
            folder: folder.to_owned(),
            name: name.to_owned(),
            certificate,
        }
    }

    /// A certificate for loopback, of a server or of a client, under `name`.
    pub fn sign(&self, name: &str, flaw: Flaw) -> Files {
        let (params, key) = request(name, flaw);
        let signed = params
            .signed_by(&key, &self.issuer)
            .expect("a signed certificate");
        let name = format!("{}-{name}", self.name);
        Files::write(&self.folder, &name, &signed.pem(), &key)
    }
}

impl Files {
    /// A certificate that its owner has signed, under `name`.
    pub fn self_signed(folder: &Path, name: &str) -> Self {
        let (params, key) = request(name, Flaw::None);
        let own = params.self_signed(&key).expect("a certificate");
        Self::write(folder, name, &own.pem(), &key)
    }

    fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Self {
        let files = Self {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        write(&files.certificate, certificate);
        write(&files.key, &key.serialize_pem());
        files
    }
}

fn request(name: &str, flaw: Flaw) -> (CertificateParams, KeyPair) {
    let hosts = match flaw {
        Flaw::WrongName => ["other.example", "192.0.2.1"],
        Flaw::None | Flaw::Expired | Flaw::NotYetValid => ["localhost", "127.0.0.1"],
    };
    let mut params =
        CertificateParams::new(hosts.map(str::to_owned)).expect("names of hosts are valid");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let (from, until) = match flaw {
        Flaw::None | Flaw::WrongName => (2020, 2080),
        Flaw::Expired => (2000, 2001),
        Flaw::NotYetValid => (2090, 2099),
    };
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    (params, KeyPair::generate().expect("a key"))
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("a file in the test's own folder");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("a file of our own");
}
