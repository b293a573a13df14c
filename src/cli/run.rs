//! `renewd run`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{EXIT_FAILED, EXIT_REFUSED, Outcome, load_config};
use crate::clock::SystemClock;
use crate::config::{Environment, LogFormat};
use crate::daemon;
use crate::telemetry::{self, Format};

pub(super) async fn run(config: &Path) -> Outcome {
    let signals = daemon::Signals::listen()?;
    let environment = Environment::of_process();
    let config = match load_config(config, &environment) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let format = match config.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Journal => Format::Journal,
        LogFormat::Auto => Format::automatic(),
    };
    let logging = telemetry::init(format, &config.log.level)?;
    telemetry::log_panics();
    match daemon::run(config, &environment, Arc::new(SystemClock::new()), signals, &logging).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is_configuration() => {
            tracing::error!(
                event = "config.refused",
                "renewd does not run: the policies on disk are refused and no set was ever accepted:\n{error}"
            );
            Ok(ExitCode::from(EXIT_REFUSED))
        }
        Err(error) => {
            tracing::error!(event = "service.stopped", "renewd does not run: {error}");
            Ok(ExitCode::from(EXIT_FAILED))
        }
    }
}
