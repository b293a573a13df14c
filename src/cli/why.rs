//! `renewd why INSTANCE`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;

use super::lists::error_words;
use super::times::Times;
use super::{EXIT_FAILED, Failure, Outcome, ShownArgs, open_store_to_read, output};
use crate::domain::failure::Class;
use crate::store::{Filter, InstanceRow, PolicyRow, Store, Story};

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The instance, such as crs-5a4py64p.
    instance: String,
    #[command(flatten)]
    shown: ShownArgs,
}

#[derive(Deserialize)]
struct Test {
    test: String,
    value: String,
    passed: bool,
}

pub(super) async fn why(config: &Path, args: &WhyArgs) -> Outcome {
    let (config, store) = match open_store_to_read(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let stories = store.stories(&args.instance).await?;
    if args.shown.json {
        return output::print_json(&stories);
    }
    let times = Times::of(&config, args.shown.utc)?;
    let mut told: Vec<String> = stories.iter().map(|story| tell(story, &times)).collect();
    if told.is_empty() {
        told = before_a_run(&store, &args.instance, &times).await?;
    }
    if told.is_empty() {
        output::say(&format!(
            "renewd: no policy in force names {}, and it never had a run: `renewd instances` lists those that have one",
            args.instance
        ));
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    output::print(&times.sentence(&told.join("\n\n")))
}

/// What is known of an instance that a policy names and that has had no run: by each such policy.
async fn before_a_run(store: &Store, instance: &str, times: &Times) -> Result<Vec<String>, Failure> {
    let of_instance = Filter { instance: Some(instance.to_owned()), ..Filter::default() };
    let mut told = Vec::new();
    for row in store.instances(&of_instance).await? {
        let of_policy = Filter { policy: Some(row.policy.clone()), limit: Some(1), ..Filter::default() };
        if let Some(policy) = store.policies(&of_policy).await?.pop() {
            told.push(tell_before_a_run(&row, &policy, times));
        }
    }
    Ok(told)
}

fn tell_before_a_run(row: &InstanceRow, policy: &PolicyRow, times: &Times) -> String {
    let PolicyRow { policy: name, revision, schedule, .. } = policy;
    let why = if policy.enabled { "its policy has not fired yet" } else { "its policy is disabled" };
    let mut lines = vec![
        format!("{} under policy {name} (revision {revision}): no run yet", row.instance),
        format!("  because   {why}"),
    ];
    if policy.enabled {
        lines.push(format!("  next      {} ({schedule})", times.text(policy.next_due_at.as_deref())));
    }
    let look = match &row.observed_at {
        Some(at) => format!(", last look at {}", times.text(Some(at))),
        None => String::new(),
    };
    lines.push(format!("  seen      {}{look}", seen_words(row, times)));
    if is_not_visible(row) {
        lines.push(format!(
            "  you       correct its id, its region or its account in policy {name} ({}), or grant the key the right \
             to see it",
            policy.source
        ));
    }
    lines.join("\n")
}

fn is_not_visible(row: &InstanceRow) -> bool {
    row.state.as_deref() == Some("not_visible")
}

/// What the last look at an instance found of its expiry.
pub(super) fn seen_words(row: &InstanceRow, times: &Times) -> String {
    match row.expires_at.as_deref() {
        _ if is_not_visible(row) => format!("not visible in {} with account {}", row.region, row.account),
        Some(at) => format!("expires {}", times.text(Some(at))),
        None if row.observed_at.is_none() => "never looked at yet".to_owned(),
        None => "shows no readable expiry".to_owned(),
    }
}

fn tell(story: &Story, times: &Times) -> String {
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
    lines.push(format!("  due       {} ({}{missed})", times.text(Some(&run.due_at)), run.origin));
    if let Some(next) = &run.next_attempt_at {
        lines.push(format!("  again     {}", times.text(Some(next))));
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
    let calls = story.attempts.iter().map(|attempt| {
        let code = attempt.code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
        (attempt.at.as_str(), format!("{}: {}{code}", attempt.api, attempt.class))
    });
    lines.extend(folded("call", calls, times));
    let looks = story
        .looks
        .iter()
        .map(|look| (look.at.as_str(), format!("row {}: {}", look.order_row, look.finding)));
    lines.extend(folded("look", looks, times));
    lines.extend(advice(story).map(|advice| format!("  you       {advice}")));
    lines.join("\n")
}

/// What repeats is one line with its first and last time.
fn folded<'a>(what: &str, facts: impl Iterator<Item = (&'a str, String)>, times: &Times) -> Vec<String> {
    let mut groups: Vec<(&str, &str, u32, String)> = Vec::new();
    for (at, words) in facts {
        match groups.last_mut() {
            Some((_, last, count, same)) if *same == words => (*last, *count) = (at, *count + 1),
            _ => groups.push((at, at, 1, words)),
        }
    }
    let line = |(first, last, count, words): (&str, &str, u32, String)| {
        let first = times.text(Some(first));
        let more = if count > 1 {
            format!(" (and {} times more, last {})", count - 1, times.text(Some(last)))
        } else {
            String::new()
        };
        format!("  {what:<9} {first} {words}{more}")
    };
    groups.into_iter().map(line).collect()
}

/// What the person who asks may have to do.
fn advice(story: &Story) -> Option<String> {
    if let Some(order) = story.orders.iter().find(|order| order.state == "unknown") {
        return Some(format!(
            "nothing yet: it is watched until evidence settles it. To settle it yourself look in the console, then \
             `renewd resolve {0} --paid` or `renewd resolve {0} --not-paid`",
            order.id
        ));
    }
    let error: Error = serde_json::from_str(story.run.error.as_deref()?.get()).ok()?;
    let advice = match error.class {
        Class::Throttled | Class::Unsent | Class::Busy | Class::Unavailable | Class::Unknown => {
            "nothing: it is tried again by itself"
        }
        Class::Blocked => {
            "change what stands in its way; it then goes on by itself, or at once after `renewd resume`"
        }
        Class::Credential => "put the right key in place; it is read again at each test",
        Class::Rejected => "correct the policy or the instance: the same request would be refused again",
    };
    Some(advice.to_owned())
}

/// The part of an error that decides what to do.
#[derive(Deserialize)]
struct Error {
    class: Class,
}
