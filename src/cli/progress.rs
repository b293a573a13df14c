//! A line on the terminal for who waits longer than a moment: how far it has come, or at least that it goes on.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;
use crate::engine::Progress;

/// What is done by then shows nothing.
const QUIET: Duration = Duration::from_secs(1);
const REDRAW_EVERY: Duration = Duration::from_millis(100);
const CLOUDS: &str = "asking the clouds {bar:24} {pos} of {len}, {elapsed}";
const WAIT: &str = "{spinner} {msg}, {elapsed}";

/// Works, and shows how far it has come; nothing where output goes into a file or a pipe.
pub(super) async fn shown<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let draw = |bar: &ProgressBar| {
        let (done, wanted) = progress.so_far();
        bar.set_length(wanted as u64);
        bar.set_position(done as u64);
    };
    beside(work, CLOUDS, draw).await
}

/// As [`shown`], of work that does not tell how far it has come.
pub(super) async fn waited<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let draw = |bar: &ProgressBar| {
        bar.set_message(what);
        bar.tick();
    };
    beside(work, WAIT, draw).await
}

/// As [`waited`], of work that keeps its thread busy.
pub(super) async fn waited_busy<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(waited(what, tokio::task::spawn_blocking(work)).await?)
}

async fn beside<T>(work: impl Future<Output = T>, template: &str, draw: impl Fn(&ProgressBar)) -> T {
    if !(io::stdout().is_terminal() && io::stderr().is_terminal()) {
        return work.await;
    }
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(QUIET, &mut work).await {
        return done;
    }
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    loop {
        draw(&bar);
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            () = tokio::time::sleep(REDRAW_EVERY) => {}
        }
    }
}
