//! `renewd run`.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{EXIT_FAILED, EXIT_REFUSED, Outcome, output};
use crate::clock::SystemClock;
use crate::config::{self, Environment, LogFormat, Refusal};
use crate::daemon;
use crate::telemetry::{self, Format};

pub(super) async fn run(config: &Path) -> Outcome {
    let signals = daemon::Signals::listen()?;
    let environment = Environment::of_process();
    let config = match config::load(config, &environment) {
        Ok(loaded) => loaded.value,
        Err(refusal) => return refuse(&refusal, format(config::log_format(config, &environment))),
    };
    let logging = telemetry::init(format(config.log.format), &config.log.level)?;
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

fn format(configured: LogFormat) -> Format {
    match configured {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Journal => Format::Journal,
        LogFormat::Auto => Format::automatic(),
    }
}

/// Whatever level a refused file asks for: why the service does not run is told where its log is read.
const LEVEL_OF_REFUSAL: &str = "warn";

fn refuse(refusal: &Refusal, format: Format) -> Outcome {
    if format == Format::Text && io::stderr().is_terminal() {
        output::say(&refusal.render(output::colour_on_stderr()));
    } else {
        let _writes_the_rest = telemetry::init(format, LEVEL_OF_REFUSAL)?;
        tracing::error!(
            event = "config.refused",
            mistakes = refusal.mistakes().count(),
            "renewd does not run: its configuration is refused:\n{}",
            refusal.render_for_log()
        );
    }
    Ok(ExitCode::from(EXIT_REFUSED))
}
