//! `renewd why INSTANCE`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;

use super::lists::{error_words, short_time};
use super::{EXIT_FAILED, Outcome, open_store, output};
use crate::store::Story;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The instance, such as crs-5a4py64p.
    instance: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Test {
    test: String,
    value: String,
    passed: bool,
}

pub(super) async fn why(config: &Path, args: &WhyArgs) -> Outcome {
    let store = match open_store(config).await? {
        Ok((_, store)) => store,
        Err(code) => return Ok(code),
    };
    let stories = store.stories(&args.instance).await?;
    if args.json {
        return output::print_json(&stories);
    }
    if stories.is_empty() {
        eprintln!(
            "renewd: no run of {} yet: either no policy names it (`renewd instances`) or none has fired",
            args.instance
        );
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    let told: Vec<String> = stories.iter().map(tell).collect();
    output::print(&told.join("\n\n"))
}

fn tell(story: &Story) -> String {
    let run = &story.run;
    let mut lines = vec![format!(
        "{} under policy {} (revision {}): run {} is {}",
        run.instance, run.policy, run.policy_revision, run.id, run.state
    )];
    lines.push(format!("  because   {}", run.reason.as_deref().unwrap_or("it waits for its turn")));
    let missed = match run.missed_count {
        0 => String::new(),
        count => format!(", for {count} missed firings"),
    };
    lines.push(format!("  due       {} ({}{missed})", short_time(Some(&run.due_at)), run.origin));
    if let Some(next) = &run.next_attempt_at {
        lines.push(format!("  again     {}", short_time(Some(next))));
    }
    let tests: Vec<Test> =
        story.verdict.as_deref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    for test in tests {
        let mark = if test.passed { "passed" } else { "STOPS " };
        lines.push(format!("  {mark}    {}: {}", test.test, test.value));
    }
    for order in &story.orders {
        let number = order.order_id.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
        let error = match &order.error {
            Some(error) => format!(", {}", error_words(Some(error))),
            None => String::new(),
        };
        lines.push(format!("  order     row {}{number} is {}{error}", order.id, order.state));
    }
    for attempt in &story.attempts {
        let code = attempt.code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
        lines.push(format!(
            "  call      {} {}: {}{code}, {} ms",
            short_time(Some(&attempt.at)),
            attempt.api,
            attempt.class,
            attempt.duration_ms
        ));
    }
    for look in &story.looks {
        lines.push(format!(
            "  look      {} row {}: {}",
            short_time(Some(&look.at)),
            look.order_row,
            look.finding
        ));
    }
    lines.join("\n")
}
