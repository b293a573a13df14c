//! `renewd sandbox`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{EXIT_FAILED, Outcome, output};
use crate::clock::SystemClock;
use crate::sandbox::seed::{self, Seed};
use crate::sandbox::{self, Options, SECRET_KEY, TENCENT_KEY_PREFIX, VOLCENGINE_KEY_PREFIX};

#[derive(Debug, Args)]
#[command(after_long_help = seed_help())]
pub(super) struct SandboxArgs {
    /// Where it listens: an address or a name, with a port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9500", value_parser = parse_address)]
    listen: SocketAddr,
    /// More instances, balances and faults (TOML; `--help` shows the format).
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    seed: Option<PathBuf>,
}

fn seed_help() -> String {
    format!("Seed file:\n\n{}", seed::FORMAT)
}

/// A name may have several addresses; of `localhost` the older kind is what most clients try.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let addresses: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; write for example 127.0.0.1:9500 or localhost:9500"))?
        .collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| "the name has no address".to_owned())
}

pub(super) async fn sandbox(args: &SandboxArgs) -> Outcome {
    let seed = match &args.seed {
        None => None,
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(Seed::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?)
        }
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let options = Options { listen: args.listen, seed, clock: Arc::new(SystemClock::new()) };
    let running = match sandbox::start(options).await {
        Ok(running) => running,
        Err(error) => {
            output::say(&format!("renewd: the practice cloud cannot listen on {}: {error}", args.listen));
            return Ok(ExitCode::from(EXIT_FAILED));
        }
    };
    output::say(&format!(
        "practice cloud on {}: secret_id {TENCENT_KEY_PREFIX}… or access_key_id {VOLCENGINE_KEY_PREFIX}…, \
         secret {SECRET_KEY}; GET {}/_sandbox/ tells more",
        running.base_url(),
        running.base_url()
    ));
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}
