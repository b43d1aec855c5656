//! From the flags about TLS to a [`Tls`]: files are read, contradictions refused, recklessness is warned of.
//!
//! # Invariant
//!
//! A flag that is about TLS is never without effect: where no TLS is spoken it is refused, so that nobody believes to
//! be encrypted.

use std::path::Path;

use redknot::endpoint::{Address, Side};
use redknot::tls::{Settings, SettingsError, Tls};
use secrecy::{ExposeSecret, SecretSlice};

use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::passwords::warn_of_readers;
use super::servers::flag;

/// Longest file of certificates that is read; a system's whole store has a quarter of a megabyte.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What was said about TLS to one server.
#[derive(Default)]
pub struct TlsSaid<'a> {
    pub tls: bool,
    pub cacert: Option<&'a Path>,
    pub cert: Option<&'a Path>,
    pub key: Option<&'a Path>,
    pub sni: Option<&'a str>,
    pub insecure: bool,
}

/// How TLS is spoken to the server, if it is.
///
/// # Errors
///
/// If two flags contradict each other, or one has no effect, or a file can't be used.
pub fn tls(
    side: Side,
    said: &TlsSaid<'_>,
    by_url: bool,
    address: &Address,
    console: &Console,
) -> Result<Option<Tls>, Failure> {
    let name = |end: &str| flag(side, end);
    let is_socket = matches!(address, Address::Unix { .. });
    if is_socket && said.tls {
        return Err(Failure::usage(
            format!("{} and a socket contradict each other", name("-tls")),
            "what goes through a socket of this machine is not encrypted",
            format!("leave {} away", name("-tls")),
        ));
    }
    if !(by_url || said.tls) {
        return match said.first(side) {
            None => Ok(None),
            Some(flag) => Err(Failure::usage(
                format!("{flag} has no effect without TLS"),
                format!("{} does not speak TLS", name("")),
                format!(
                    "write rediss:// or give {}, or leave {flag} away",
                    name("-tls")
                ),
            )),
        };
    }
    said.refuse_contradictions(side)?;
    let authorities = read(said.cacert, &name("-cacert"))?;
    let certificate = read(said.cert, &name("-cert"))?;
    if let Some(path) = said.key {
        warn_of_readers(path, &name("-key"), "the private key", console);
    }
    let key = read(said.key, &name("-key"))?.map(SecretSlice::from);
    let settings = Settings {
        authorities: authorities.as_deref(),
        identity: match (&certificate, &key) {
            (Some(certificate), Some(key)) => Some((certificate, key.expose_secret())),
            _ => None,
        },
        name: said.sni,
        insecure: said.insecure,
    };
    let tls = Tls::new(&settings).map_err(|error| unusable(side, said, &error))?;
    if said.insecure {
        console.warn_always(&format!(
            "W-INSECURE: {} is believed whoever answers ({}): passwords and data can be read and changed on the way",
            name(""),
            name("-insecure")
        ));
    }
    Ok(Some(tls))
}

impl TlsSaid<'_> {
    /// The first flag that says how TLS is to be spoken, rather than that it is.
    fn first(&self, side: Side) -> Option<String> {
        let all = [
            (self.cacert.is_some(), "-cacert"),
            (self.cert.is_some(), "-cert"),
            (self.key.is_some(), "-key"),
            (self.sni.is_some(), "-sni"),
            (self.insecure, "-insecure"),
        ];
        let first = all.into_iter().find(|(given, _)| *given);
        first.map(|(_, end)| flag(side, end))
    }

    fn refuse_contradictions(&self, side: Side) -> Result<(), Failure> {
        let (cert, key) = (flag(side, "-cert"), flag(side, "-key"));
        let needs = |this: &str, other: &str| {
            Err(Failure::usage(
                format!("{this} needs {other}"),
                "a certificate is of use only to who holds its private key",
                format!("give {other} FILE too; it may be the same file"),
            ))
        };
        match (self.cert, self.key) {
            (Some(_), None) => return needs(&cert, &key),
            (None, Some(_)) => return needs(&key, &cert),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.insecure && self.cacert.is_some() {
            let (insecure, cacert) = (flag(side, "-insecure"), flag(side, "-cacert"));
            return Err(Failure::usage(
                format!("{insecure} and {cacert} contradict each other"),
                "the one believes everybody, the other only whom an authority has signed",
                format!("leave {insecure} away"),
            ));
        }
        Ok(())
    }
}

fn read(path: Option<&Path>, flag: &str) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let refuse = |why: String| {
        Failure::usage(
            format!("{flag} {}: it can't be read", path.display()),
            why,
            "a file in PEM, as in -----BEGIN CERTIFICATE-----",
        )
    };
    let read = || -> std::io::Result<Vec<u8>> {
        use std::io::Read;
        let mut content = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(PEM_BYTES_MAX + 1).read_to_end(&mut content)?;
        Ok(content)
    };
    let content = read().map_err(|error| refuse(error.to_string()))?;
    match content.len() as u64 > PEM_BYTES_MAX {
        true => Err(refuse("it has more than 4 MiB".to_owned())),
        false => Ok(Some(content)),
    }
}

/// Says of which flag the trouble is.
fn unusable(side: Side, said: &TlsSaid<'_>, error: &SettingsError) -> Failure {
    let of = |end: &str, path: Option<&Path>, hint: &str| {
        let path = path.map_or_else(String::new, |path| format!(" {}", path.display()));
        Failure::usage(
            format!("{}{path}: it can't be used", flag(side, end)),
            error.to_string(),
            hint,
        )
    };
    const PEM: &str = "PEM is text; openssl x509 -inform der makes it of a binary certificate";
    match error {
        SettingsError::NoAuthority | SettingsError::BadAuthority(_) => {
            of("-cacert", said.cacert, PEM)
        }
        SettingsError::NoCertificate => of("-cert", said.cert, PEM),
        SettingsError::BadIdentity(_) => of(
            "-cert",
            said.cert,
            "the first certificate of the file has to be the one that belongs to the key",
        ),
        SettingsError::NoKey => of(
            "-key",
            said.key,
            "PEM with PKCS #8, PKCS #1 or SEC 1: -----BEGIN PRIVATE KEY-----",
        ),
        SettingsError::EncryptedKey => of(
            "-key",
            said.key,
            "openssl pkey -in FILE -out PLAIN decrypts it; chmod 600 the result",
        ),
        SettingsError::BadName => of("-sni", None, "for example cache.example.com"),
        SettingsError::NoSystemAuthorities(_) => Failure::new(
            ExitCode::Tls,
            format!("{} can't be verified", flag(side, "")),
            error.to_string(),
        )
        .hint(format!(
            "install them (ca-certificates), name them with SSL_CERT_FILE, or give {} FILE",
            flag(side, "-cacert")
        )),
    }
}
