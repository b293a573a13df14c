//! A line on the terminal while the clouds are asked, for who waits longer than a moment.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Progress;

/// What is done by then shows nothing.
const QUIET: Duration = Duration::from_secs(1);
const REDRAW_EVERY: Duration = Duration::from_millis(100);
const TEMPLATE: &str = "asking the clouds {bar:24} {pos} of {len}, {elapsed}";

/// Works, and shows how far it has come; nothing where output goes into a file or a pipe.
pub(super) async fn shown<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    if !(io::stdout().is_terminal() && io::stderr().is_terminal()) {
        return work.await;
    }
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(QUIET, &mut work).await {
        return done;
    }
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    loop {
        let (done, wanted) = progress.so_far();
        bar.set_length(wanted as u64);
        bar.set_position(done as u64);
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            () = tokio::time::sleep(REDRAW_EVERY) => {}
        }
    }
}
