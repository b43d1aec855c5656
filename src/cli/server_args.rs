//! The flags that say how to reach a server and how to log in, for each side.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::args::db;

/// How to log in to the source, and how to speak TLS to it. Spelled out beside [`TargetArgs`], because the flags differ in every name.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Servers")]
pub struct SourceArgs {
    /// User of the source
    #[arg(
        long,
        env = "REDKNOT_FROM_USER",
        value_name = "NAME",
        alias = "source-user"
    )]
    pub from_user: Option<String>,
    /// File with the password of the source, `-` for standard input
    #[arg(
        long,
        env = "REDKNOT_FROM_PASS_FILE",
        value_name = "FILE",
        alias = "source-pass-file"
    )]
    pub from_pass_file: Option<PathBuf>,
    /// Ask for the password of the source
    #[arg(long, env = "REDKNOT_FROM_ASKPASS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, alias = "source-askpass")]
    pub from_askpass: bool,
    /// Database of the source [default: the URL's, or 0]
    #[arg(long, env = "REDKNOT_FROM_DB", value_name = "N", value_parser = db,
        allow_negative_numbers = true, alias = "source-db")]
    pub from_db: Option<u32>,
    /// Speak TLS to the source, also where the URL says redis:// or nothing
    #[arg(long, env = "REDKNOT_FROM_TLS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, alias = "source-tls")]
    pub from_tls: bool,
    /// File with certificates (PEM) of the authorities to believe about the source [default: the system's]
    #[arg(
        long,
        env = "REDKNOT_FROM_CACERT",
        value_name = "FILE",
        alias = "source-cacert"
    )]
    pub from_cacert: Option<PathBuf>,
    /// File with our certificate (PEM), for a source that asks who we are
    #[arg(
        long,
        env = "REDKNOT_FROM_CERT",
        value_name = "FILE",
        alias = "source-cert"
    )]
    pub from_cert: Option<PathBuf>,
    /// File with the private key (PEM, not encrypted) of that certificate
    #[arg(
        long,
        env = "REDKNOT_FROM_KEY",
        value_name = "FILE",
        alias = "source-key"
    )]
    pub from_key: Option<PathBuf>,
    /// Name that the certificate of the source must have, and that is sent to it (SNI) [default: the host]
    #[arg(
        long,
        env = "REDKNOT_FROM_SNI",
        value_name = "NAME",
        alias = "source-sni"
    )]
    pub from_sni: Option<String>,
    /// Believe any certificate of the source: whoever stands in between can read and change everything
    #[arg(long, env = "REDKNOT_FROM_INSECURE", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, alias = "source-insecure")]
    pub from_insecure: bool,
    /// User of the sentinels, where the address of the source is redis-sentinel://…
    #[arg(
        long,
        env = "REDKNOT_FROM_SENTINEL_USER",
        value_name = "NAME",
        alias = "source-sentinel-user"
    )]
    pub from_sentinel_user: Option<String>,
    /// File with the password of these sentinels, which is not that of their servers
    #[arg(
        long,
        env = "REDKNOT_FROM_SENTINEL_PASS_FILE",
        value_name = "FILE",
        alias = "source-sentinel-pass-file"
    )]
    pub from_sentinel_pass_file: Option<PathBuf>,
}

impl SourceArgs {
    /// Every flag as said here, or else as said in `other`.
    pub fn or(self, other: Self) -> Self {
        // Taken apart, so that a new flag does not compile until it is merged.
        let Self {
            from_user,
            from_pass_file,
            from_askpass,
            from_db,
            from_tls,
            from_cacert,
            from_cert,
            from_key,
            from_sni,
            from_insecure,
            from_sentinel_user,
            from_sentinel_pass_file,
        } = self;
        Self {
            from_user: from_user.or(other.from_user),
            from_pass_file: from_pass_file.or(other.from_pass_file),
            from_askpass: from_askpass || other.from_askpass,
            from_db: from_db.or(other.from_db),
            from_tls: from_tls || other.from_tls,
            from_cacert: from_cacert.or(other.from_cacert),
            from_cert: from_cert.or(other.from_cert),
            from_key: from_key.or(other.from_key),
            from_sni: from_sni.or(other.from_sni),
            from_insecure: from_insecure || other.from_insecure,
            from_sentinel_user: from_sentinel_user.or(other.from_sentinel_user),
            from_sentinel_pass_file: from_sentinel_pass_file.or(other.from_sentinel_pass_file),
        }
    }
}

/// How to log in to the target, and how to speak TLS to it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Servers")]
pub struct TargetArgs {
    /// User of the target
    #[arg(
        long,
        env = "REDKNOT_TO_USER",
        value_name = "NAME",
        alias = "target-user"
    )]
    pub to_user: Option<String>,
    /// File with the password of the target, `-` for standard input
    #[arg(
        long,
        env = "REDKNOT_TO_PASS_FILE",
        value_name = "FILE",
        alias = "target-pass-file"
    )]
    pub to_pass_file: Option<PathBuf>,
    /// Ask for the password of the target
    #[arg(long, env = "REDKNOT_TO_ASKPASS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, alias = "target-askpass")]
    pub to_askpass: bool,
    /// Database of the target [default: the URL's, or 0]
    #[arg(long, env = "REDKNOT_TO_DB", value_name = "N", value_parser = db,
        allow_negative_numbers = true, alias = "target-db")]
    pub to_db: Option<u32>,
    /// Speak TLS to the target, also where the URL says redis:// or nothing
    #[arg(long, env = "REDKNOT_TO_TLS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, alias = "target-tls")]
    pub to_tls: bool,
    /// File with certificates (PEM) of the authorities to believe about the target [default: the system's]
    #[arg(
        long,
        env = "REDKNOT_TO_CACERT",
        value_name = "FILE",
        alias = "target-cacert"
    )]
    pub to_cacert: Option<PathBuf>,
    /// File with our certificate (PEM), for a target that asks who we are
    #[arg(
        long,
        env = "REDKNOT_TO_CERT",
        value_name = "FILE",
        alias = "target-cert"
    )]
    pub to_cert: Option<PathBuf>,
    /// File with the private key (PEM, not encrypted) of that certificate
    #[arg(
        long,
        env = "REDKNOT_TO_KEY",
        value_name = "FILE",
        alias = "target-key"
    )]
    pub to_key: Option<PathBuf>,
    /// Name that the certificate of the target must have, and that is sent to it (SNI) [default: the host]
    #[arg(
        long,
        env = "REDKNOT_TO_SNI",
        value_name = "NAME",
        alias = "target-sni"
    )]
    pub to_sni: Option<String>,
    /// Believe any certificate of the target: whoever stands in between can read and change everything
    #[arg(long, env = "REDKNOT_TO_INSECURE", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, alias = "target-insecure")]
    pub to_insecure: bool,
    /// User of the sentinels, where the address of the target is redis-sentinel://…
    #[arg(
        long,
        env = "REDKNOT_TO_SENTINEL_USER",
        value_name = "NAME",
        alias = "target-sentinel-user"
    )]
    pub to_sentinel_user: Option<String>,
    /// File with the password of these sentinels, which is not that of their servers
    #[arg(
        long,
        env = "REDKNOT_TO_SENTINEL_PASS_FILE",
        value_name = "FILE",
        alias = "target-sentinel-pass-file"
    )]
    pub to_sentinel_pass_file: Option<PathBuf>,
}

impl TargetArgs {
    /// Every flag as said here, or else as said in `other`.
    pub fn or(self, other: Self) -> Self {
        // Taken apart, so that a new flag does not compile until it is merged.
        let Self {
            to_user,
            to_pass_file,
            to_askpass,
            to_db,
            to_tls,
            to_cacert,
            to_cert,
            to_key,
            to_sni,
            to_insecure,
            to_sentinel_user,
            to_sentinel_pass_file,
        } = self;
        Self {
            to_user: to_user.or(other.to_user),
            to_pass_file: to_pass_file.or(other.to_pass_file),
            to_askpass: to_askpass || other.to_askpass,
            to_db: to_db.or(other.to_db),
            to_tls: to_tls || other.to_tls,
            to_cacert: to_cacert.or(other.to_cacert),
            to_cert: to_cert.or(other.to_cert),
            to_key: to_key.or(other.to_key),
            to_sni: to_sni.or(other.to_sni),
            to_insecure: to_insecure || other.to_insecure,
            to_sentinel_user: to_sentinel_user.or(other.to_sentinel_user),
            to_sentinel_pass_file: to_sentinel_pass_file.or(other.to_sentinel_pass_file),
        }
    }
}
