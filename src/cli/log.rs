//! `-v`, `-vv`: what is decided and what is sent, line by line on standard error.

use tracing_subscriber::EnvFilter;

use super::console::{Console, Paint};

/// Begins to log. `REDKNOT_LOG` can choose by module, as `RUST_LOG` does elsewhere.
pub fn start(verbose: u8, console: &Console) {
    let level = match verbose {
        0 => "off",
        1 => "redknot=info",
        2 => "redknot=debug",
        _ => "trace,sled=debug",
    };
    let filter = EnvFilter::try_from_env("REDKNOT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(console.err_paint != Paint::PLAIN)
        .with_target(false)
        .log_internal_errors(false);
    // Fails only if a logger is already there, which then stays.
    let _ = subscriber.try_init();
}
