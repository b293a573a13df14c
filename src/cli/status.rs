//! `renewd status`.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::times::Times;
use super::why::seen_words;
use super::{Outcome, ShownArgs, open_store_to_read, output};
use crate::config::{self, Config, Environment, OnDisk};
use crate::domain::written_time;
use crate::store::{DaemonLock, InstanceRow, NextFiring, Pause, SetInForce, SettingsInForce};

const FIRINGS: u32 = 10;
const RISKS_SHOWN: usize = 10;

#[derive(Serialize)]
struct Status {
    daemon: DaemonStatus,
    settings: SettingsStatus,
    policies: SetStatus,
    runs: BTreeMap<String, i64>,
    unknown_orders: i64,
    paused: Vec<Pause>,
    at_risk: Vec<InstanceRow>,
    next_firings: Vec<NextFiring>,
}

#[derive(Serialize)]
struct DaemonStatus {
    running: bool,
    pid: Option<i64>,
    #[serde(serialize_with = "written_time::serialize_option")]
    since: Option<Timestamp>,
    version: Option<String>,
}

/// Of `renewd.toml`.
#[derive(Serialize)]
struct SettingsStatus {
    #[serde(serialize_with = "written_time::serialize_option")]
    accepted_at: Option<Timestamp>,
    /// Whether the daemon goes by the file as it is on disk, but for what needs a restart.
    is_on_disk: bool,
    /// Whether the file on disk has mistakes, so that it is not taken.
    is_refused: bool,
    /// Keys whose new values only a restart takes.
    needs_restart: Vec<String>,
}

#[derive(Serialize)]
struct SetStatus {
    #[serde(serialize_with = "written_time::serialize_option")]
    accepted_at: Option<Timestamp>,
    /// Whether the set in force is the one on disk; not known while `renewd.toml` is refused.
    is_on_disk: Option<bool>,
    #[serde(serialize_with = "written_time::serialize_option")]
    refused_at: Option<Timestamp>,
    refused: Option<String>,
}

pub(super) async fn status(config: &Path, args: &ShownArgs) -> Outcome {
    let (config, store) = match open_store_to_read(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let is_main_file_refused = config::load(&config.source, &Environment::of_process()).is_err();
    let row = store.status(FIRINGS).await?;
    let running = DaemonLock::is_held(&config.database);
    let status = Status {
        daemon: DaemonStatus {
            running,
            pid: row.pid.filter(|_| running),
            since: if running { row.started_at } else { row.stopped_at },
            version: row.version,
        },
        settings: settings_status(&config, is_main_file_refused, store.settings_in_force().await?),
        policies: set_status(&config, is_main_file_refused, store.set_in_force().await?),
        runs: row.runs.into_iter().collect(),
        unknown_orders: row.unknown_orders,
        paused: store.pauses(super::now()).await?,
        at_risk: store.instances_at_risk().await?,
        next_firings: row.next_firings,
    };
    if args.json {
        return output::print_json(&status);
    }
    output::print(&words(&status, &Times::of(&config, args.utc)?))
}

fn settings_status(config: &Config, is_refused: bool, settings: SettingsInForce) -> SettingsStatus {
    SettingsStatus {
        accepted_at: settings.accepted_at,
        is_on_disk: settings.digest == Some(OnDisk::settings(&config.source)),
        is_refused,
        needs_restart: settings.needs_restart,
    }
}

fn set_status(config: &Config, is_main_file_refused: bool, set: SetInForce) -> SetStatus {
    let on_disk = config::digest_on_disk(config).ok();
    let is_on_disk = on_disk.is_some() && on_disk == set.digest;
    SetStatus {
        accepted_at: set.accepted_at,
        is_on_disk: (!is_main_file_refused).then_some(is_on_disk),
        refused_at: set.refused_at,
        refused: set.refused_text,
    }
}

fn words(status: &Status, times: &Times) -> String {
    let running = status.daemon.running;
    let mut lines = vec![
        daemon_words(&status.daemon, times),
        settings_words(&status.settings, running, times),
        set_words(&status.policies, running, times),
    ];
    let runs: Vec<String> = status.runs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    lines
        .push(format!("runs      {}", if runs.is_empty() { "none yet".to_owned() } else { runs.join(", ") }));
    if status.unknown_orders > 0 {
        lines.push(format!(
            "unknown   {} order{}: `renewd orders --state unknown` lists them",
            status.unknown_orders,
            if status.unknown_orders == 1 { "" } else { "s" }
        ));
    }
    for pause in &status.paused {
        let name = pause.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
        let until = pause.until.map(|until| format!(", until {}", times.at(until))).unwrap_or_default();
        let note = pause.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        lines.push(format!(
            "paused    {}{name} since {} by {} ({}){until}{note}",
            pause.scope,
            times.at(pause.since),
            pause.set_by,
            pause.kind
        ));
    }
    for row in status.at_risk.iter().take(RISKS_SHOWN) {
        let expiry = seen_words(row, times);
        lines.push(format!(
            "AT RISK   {} ({}), {expiry}: `renewd why {}`",
            row.instance, row.policy, row.instance
        ));
    }
    if status.at_risk.len() > RISKS_SHOWN {
        lines.push(format!("          and {} more: `renewd instances`", status.at_risk.len() - RISKS_SHOWN));
    }
    for firing in &status.next_firings {
        lines.push(format!("next      {} fires at {}", firing.policy, times.at(firing.due_at)));
    }
    lines.join("\n")
}

fn daemon_words(daemon: &DaemonStatus, times: &Times) -> String {
    let version = daemon.version.as_deref().unwrap_or("?");
    match (daemon.running, daemon.since.map(|since| times.at(since))) {
        (true, Some(since)) => {
            format!(
                "daemon    running, pid {}, version {version}, since {since}",
                daemon.pid.unwrap_or_default()
            )
        }
        (true, None) => "daemon    starting".to_owned(),
        (false, Some(since)) => format!("daemon    NOT running: stopped at {since}"),
        (false, None) if daemon.version.is_none() => "daemon    NOT running: it was never started".to_owned(),
        (false, None) => "daemon    NOT running: it did not stop by itself".to_owned(),
    }
}

fn settings_words(settings: &SettingsStatus, running: bool, times: &Times) -> String {
    let Some(since) = settings.accepted_at.map(|at| times.at(at)) else {
        return "settings  none yet: the service takes them from renewd.toml when it starts".to_owned();
    };
    let differs = match (settings.is_on_disk, settings.is_refused) {
        (true, _) => "the same as on disk",
        (false, true) => "the file on disk is REFUSED (`renewd check` says why), and older settings run",
        (false, false) => takes_it(running),
    };
    let restart = match settings.needs_restart.as_slice() {
        [] => String::new(),
        keys => format!("; `systemctl restart renewd` is needed for {}", keys.join(", ")),
    };
    format!("settings  accepted {since}, {differs}{restart}")
}

fn set_words(set: &SetStatus, running: bool, times: &Times) -> String {
    let Some(since) = set.accepted_at.map(|at| times.at(at)) else {
        return "policies  none yet: the service takes them from the files when it starts".to_owned();
    };
    match (&set.refused, set.is_on_disk) {
        (Some(text), _) => {
            format!("policies  accepted {since}; the files on disk are REFUSED, an older set runs:\n{text}")
        }
        (None, Some(true)) => format!("policies  accepted {since}, the same as on disk"),
        (None, None) => format!(
            "policies  accepted {since}; renewd.toml has mistakes, so nobody knows whether the files on disk differ"
        ),
        (None, Some(false)) => format!("policies  accepted {since}, {}", takes_it(running)),
    }
}

fn takes_it(running: bool) -> &'static str {
    if running {
        "what is on disk differs and is taken in a moment, or at once by `systemctl reload renewd`"
    } else {
        "what is on disk differs and is taken at the next start"
    }
}
