//! Configuration as an operator meets it: files in a folder, and what is said about them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner};
use renewd::config::examples;
use renewd::config::secrets::{SecretError, resolve};
use renewd::config::{
    self, Config, CredentialSource, Diagnostic, Environment, Loaded, LogFormat, PolicySet, Refusal, Severity,
};
use renewd::domain::money::Fen;
use renewd::domain::policy::{Action, OnAutoRenew, OnUnknown, Renew, RenewWhen, Upgrade};
use renewd::domain::product::Provider;
use renewd::domain::secret::SecretRef;
use renewd::schedule::Schedule;

const LITERAL: &str = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3";

const ACCOUNT: &str = r#"[account.shop]
provider = "tencentcloud"
secret_id = "env:ID"
secret_key = "env:KEY"
"#;

const POLICY: &str = r#"[policy.cache]
account = "shop"
product = "redis"
region = "ap-guangzhou"
instances = ["crs-1"]
schedule = "0 3 * * *"
renew = { months = 12 }
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(settings: &str, policies: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::write(folder.settings(), settings).unwrap();
        fs::create_dir(folder.path("policies.d")).unwrap();
        for (name, text) in policies {
            fs::write(folder.path("policies.d").join(name), text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self) -> PathBuf {
        self.path("renewd.toml")
    }

    fn load(&self) -> Result<Loaded<(Config, PolicySet)>, Refusal> {
        config::load_all(&self.settings(), &Environment::of_pairs([]), now())
    }
}

fn now() -> Timestamp {
    "2026-11-20T00:00:00Z".parse().unwrap()
}

fn load_policy(text: &str) -> Result<Loaded<(Config, PolicySet)>, Refusal> {
    Folder::new(ACCOUNT, &[("a.toml", text)]).load()
}

fn mistakes_of_policy(text: &str) -> Vec<Diagnostic> {
    load_policy(text).unwrap_err().diagnostics().to_vec()
}

fn mistakes_of_settings(text: &str) -> Vec<Diagnostic> {
    let folder = Folder::new(text, &[]);
    let refusal = config::load(&folder.settings(), &Environment::of_pairs([])).unwrap_err();
    refusal.diagnostics().to_vec()
}

fn spot(found: &Diagnostic) -> (usize, usize) {
    let spot = found.place.spot.as_ref().unwrap();
    (spot.line, spot.column)
}

fn marked(found: &Diagnostic) -> &str {
    let spot = found.place.spot.as_ref().unwrap();
    &spot.text[spot.mark.clone()]
}

/// Exactly one mistake, at this place, with these words; `line:column` must be in the rendered text too.
#[track_caller]
fn assert_only(found: &[Diagnostic], (line, column): (usize, usize), message: &str, help: &str) {
    let shown: String = found.iter().map(|found| found.render(false) + "\n").collect();
    assert_eq!(found.len(), 1, "{shown}");
    assert_eq!(found[0].message, message);
    assert_eq!(found[0].help.as_deref(), Some(help));
    assert_eq!(spot(&found[0]), (line, column), "{shown}");
    assert!(shown.contains(&format!(".toml:{line}:{column}\n")), "{shown}");
}

/// The policy with one line put in the place of another.
fn policy_with(old: &str, new: &str) -> String {
    assert!(POLICY.contains(old), "{old}");
    POLICY.replace(old, new)
}

#[test]
fn an_empty_main_file_gives_the_documented_defaults() {
    let folder = Folder::new("", &[]);
    let config = config::load(&folder.settings(), &Environment::of_pairs([])).unwrap().value;
    assert_eq!(config.database, folder.path("renewd.db"));
    assert_eq!(config.policies, folder.path("policies.d"));
    assert_eq!(config.timezone, "UTC");
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Auto, "info"));
    assert_eq!(config.http, None);
    assert!(config.accounts.is_empty());
    let retry = config.retry;
    assert_eq!((retry.first_delay_seconds, retry.max_delay_seconds), (30, 3600));
    assert_eq!((retry.max_attempts, retry.settle_seconds), (12, 21_600));
    assert_eq!((config.history.skipped_days, config.history.runs_days), (30, 400));
}

#[test]
fn the_environment_gives_the_state_folder_and_overrides_the_log_level() {
    let folder = Folder::new("[log]\nlevel = \"warn\"\n", &[]);
    let environment = Environment::of_pairs([("STATE_DIRECTORY", "/state:/other"), ("RENEWD_LOG", "debug")]);
    let config = config::load(&folder.settings(), &environment).unwrap().value;
    assert_eq!(config.database, Path::new("/state/renewd.db"));
    assert_eq!(config.log.level, "debug");
    let environment = Environment::of_pairs([("RENEWD_LOG", "inof")]);
    let refusal = config::load(&folder.settings(), &environment).unwrap_err().to_string();
    assert!(refusal.contains("RENEWD_LOG is not a level: `inof`"), "{refusal}");
}

#[test]
fn a_log_level_is_a_level_or_levels_of_modules_and_nothing_that_would_silence_all() {
    let load = |level: &str, environment: &Environment| {
        let folder = Folder::new(&format!("[log]\nlevel = {level:?}\n"), &[]);
        config::load(&folder.settings(), environment)
    };
    let nothing = Environment::of_pairs([]);
    for level in ["info", "WARN", "off", "warn,renewd=info", "renewd::engine=trace,error", "hyper_util=debug"]
    {
        assert_eq!(load(level, &nothing).unwrap().value.log.level, level);
    }
    assert_eq!(load(" info, renewd=debug", &nothing).unwrap().value.log.level, "info,renewd=debug");
    for level in [
        "LOUD",
        "99",
        "",
        "[x]",
        "a/b",
        "info/b",
        "warn,info=",
        "=info",
        "warn,info",
        "info,",
        "renewd=3",
        "a b=info",
    ] {
        let refusal = load(level, &nothing).unwrap_err();
        let [found] = refusal.diagnostics() else { panic!("{refusal}") };
        assert_eq!(spot(found), (2, 9), "{level}");
        let environment = Environment::of_pairs([("RENEWD_LOG", level)]);
        if !level.is_empty() {
            let refusal = load("info", &environment).unwrap_err().to_string();
            assert!(refusal.contains("RENEWD_LOG"), "{refusal}");
        }
    }
}

#[test]
fn every_key_of_the_main_file_is_read() {
    let folder = Folder::new(
        r#"
database = "state/x.db"
policies = "/etc/other.toml"
timezone = "Asia/Shanghai"
log = { format = "json", level = "info,renewd::engine=debug" }
http = { listen = "[::1]:9000" }
[account.shop]
provider = "volcengine"
access_key_id = "file:keys/id"
secret_access_key = "credential:key"
token = "env:TOKEN"
endpoint = "http://127.0.0.1:9500"
bare_time_zone = "-03:30"
rate = { "ecs:RenewInstance" = 0.5 }
budget = { orders_per_day = 0, cny_per_day = 5000, cny_per_month = "20000.5" }
[retry]
first_delay_seconds = 1
max_delay_seconds = 1
max_attempts = 1
settle_seconds = 1
[history]
skipped_days = 1
runs_days = 2
"#,
        &[],
    );
    let loaded = config::load(&folder.settings(), &Environment::of_pairs([])).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.value;
    assert_eq!(config.database, folder.path("state/x.db"));
    assert_eq!(config.policies, Path::new("/etc/other.toml"));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.http.unwrap().listen.port(), 9000);
    assert_eq!((config.retry.max_attempts, config.history.runs_days), (1, 2));
    let account = config.accounts.values().next().unwrap();
    let CredentialSource::Keys { key_id, secret, token } = &account.credentials else {
        panic!("it has keys")
    };
    assert_eq!(key_id, &SecretRef::File(folder.path("keys/id")));
    assert_eq!(secret, &SecretRef::Credential("key".to_owned()));
    assert_eq!(token, &Some(SecretRef::Env("TOKEN".to_owned())));
    assert_eq!(account.endpoint.as_ref().unwrap().to_string(), "http://127.0.0.1:9500");
    assert_eq!(account.bare_time_zone.seconds(), -12_600);
    assert_eq!(account.rate.get("ecs:RenewInstance"), Some(&0.5));
    assert_eq!(account.budget.orders_per_day, Some(0));
    assert_eq!(account.budget.cny_per_day, Some(Fen::new(500_000)));
    assert_eq!(account.budget.cny_per_month, Some(Fen::new(2_000_050)));
}

#[test]
fn an_account_goes_by_a_role_instead_of_keys() {
    let load = |lines: &str| {
        let text = format!("[account.here]\nprovider = \"volcengine\"\n{lines}\n");
        let loaded = config::load(&Folder::new(&text, &[]).settings(), &Environment::of_pairs([])).unwrap();
        let account = loaded.value.accounts.into_values().next().unwrap();
        let CredentialSource::Role { name, metadata_endpoint } = account.credentials else {
            panic!("{lines}")
        };
        let warnings: Vec<String> = loaded.warnings.into_iter().map(|warning| warning.message).collect();
        (name.map(|name| name.to_string()), metadata_endpoint.map(|endpoint| endpoint.to_string()), warnings)
    };
    assert_eq!(load("credentials = \"instance-role\""), (None, None, vec![]));
    let named = load("credentials = \"instance-role:renewer\"");
    assert_eq!(named, (Some("renewer".to_owned()), None, vec![]));
    for near in ["http://100.96.0.96", "http://127.0.0.1:9500", "https://metadata.example.com"] {
        let role = format!("credentials = \"instance-role\"\nmetadata_endpoint = {near:?}");
        assert_eq!(load(&role), (None, Some(near.to_owned()), vec![]));
    }
    let (_, _, warnings) =
        load("credentials = \"instance-role\"\nmetadata_endpoint = \"http://metadata.example.com\"");
    assert!(warnings[0].starts_with("`metadata_endpoint` is plain http to another machine"), "{warnings:?}");
}

#[test]
fn every_key_of_an_upgrade_is_read_and_only_redis_takes_one() {
    let text = r#"
[policy.grow]
account = "shop"
product = "redis"
region = "ap-guangzhou"
instances = ["crs-1"]
schedule = "0 4 20 10 *"
upgrade = { mem_size_mb = 4096, shards = 3, replicas = 2, allow_shrink = true }
"#;
    let set = load_policy(text).unwrap().value.1;
    let upgrade = Upgrade { mem_size_mb: 4096, shards: Some(3), replicas: Some(2), allow_shrink: true };
    assert_eq!(set.policies[0].terms.action, Action::Upgrade(upgrade));
    let cvm = text.replace("\"redis\"", "\"cvm\"").replace("crs-1", "ins-1");
    let refusal = load_policy(&cvm).unwrap_err();
    let messages: Vec<_> = refusal.diagnostics().iter().map(|found| found.message.as_str()).collect();
    assert_eq!(messages, ["`cvm` cannot be upgraded by renewd"]);
}

#[test]
fn every_key_of_a_policy_is_read() {
    let text = r#"
[policy.cache]
account = "shop"
product = "redis"
region = "ap-guangzhou"
instances = ["crs-1", "crs-2"]
schedule = " 0 3 * * * "
timezone = "Europe/Berlin"
renew = { months = 3, within_days = 20 }
enabled = false
max_price_cny = 1200.10
on_auto_renew = "renew"
unknown = "resend"
renew_data_disks = false
"#;
    let loaded = load_policy(text).unwrap();
    assert_eq!(loaded.warnings, []);
    let set = loaded.value.1;
    let policy = &set.policies[0];
    assert_eq!(policy.instances.len(), 2);
    assert_eq!(
        (policy.schedule.expression.as_str(), policy.schedule.zone.as_str()),
        ("0 3 * * *", "Europe/Berlin")
    );
    assert!(!policy.enabled);
    let renew = Renew { months: 3, when: RenewWhen::WithinDays(20) };
    assert_eq!(policy.terms.action, Action::Renew(renew));
    assert_eq!(policy.terms.max_price, Some(Fen::new(120_010)));
    assert_eq!(policy.terms.on_auto_renew, OnAutoRenew::Renew);
    assert_eq!(policy.terms.unknown, OnUnknown::Resend);
    let source = &set.sources[&policy.name];
    assert_eq!((source.file.ends_with("policies.d/a.toml"), source.line), (true, 2));
}

#[test]
fn a_policy_of_few_words_gets_the_documented_defaults() {
    let (_, set) = load_policy(POLICY).unwrap().value;
    let policy = &set.policies[0];
    assert!(policy.enabled);
    assert_eq!(policy.schedule.zone, "UTC");
    let renew = Renew { months: 12, when: RenewWhen::WithinDays(15) };
    assert_eq!(policy.terms.action, Action::Renew(renew));
    assert_eq!((policy.terms.max_price, policy.terms.renew_data_disks), (None, false));
    assert_eq!((policy.terms.on_auto_renew, policy.terms.unknown), (OnAutoRenew::Skip, OnUnknown::Person));
}

#[test]
fn all_mistakes_of_all_files_are_reported_at_once() {
    let settings = format!("{ACCOUNT}timezon = \"UTC\"\n[retry]\nmax_attempts = 0\n");
    let folder = Folder::new(
        &settings,
        &[
            ("10-a.toml", &policy_with("months = 12", "months = 13")),
            ("20-b.toml", "[policy.b]\nx y\n"),
            (
                "30-c.toml",
                &policy_with("[policy.cache]", "[policy.cache]\nenabeld = true").replace("crs-1", "ins-1"),
            ),
        ],
    );
    let refusal = folder.load().unwrap_err();
    let found: Vec<_> = refusal
        .diagnostics()
        .iter()
        .map(|found| {
            let file = found.place.file.file_name().unwrap().to_str().unwrap();
            format!("{file}:{}: {}", spot(found).0, found.message)
        })
        .collect();
    assert_eq!(
        found,
        [
            "renewd.toml:5: unknown key `timezon` in account `shop`",
            "renewd.toml:7: `max_attempts` is 0, out of range",
            "10-a.toml:7: redis is not sold for 13 months",
            "20-b.toml:2: a key without a value",
            "30-c.toml:1: there are two policies named `cache`",
            "30-c.toml:2: unknown key `enabeld` in policy `cache`",
            "30-c.toml:6: `ins-1` is not the id of a redis instance",
        ]
    );
    assert!(refusal.to_string().ends_with("\n7 mistakes"));
}

#[test]
fn a_mistake_is_shown_with_its_place_its_line_and_what_would_be_right() {
    let refusal = load_policy(&policy_with("schedule =", "schedul =")).unwrap_err();
    let shown = refusal.to_string();
    assert!(shown.contains("error: unknown key `schedul` in policy `cache`\n"), "{shown}");
    assert!(shown.contains("policies.d/a.toml:6:1\n"), "{shown}");
    assert!(shown.contains("6 | schedul = \"0 3 * * *\"\n  | ^^^^^^^\n"), "{shown}");
    assert!(shown.contains("= help: did you mean `schedule`?"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    assert!(refusal.render(true).contains('\u{1b}'));
}

#[test]
fn thousands_of_mistakes_on_one_line_are_all_told_and_none_shows_the_whole_line() {
    const MISTAKES: usize = 4_000;
    let ids = (0..MISTAKES).map(|n| format!("\"crs-é{n}\"")).collect::<Vec<_>>().join(", ");
    let refusal = load_policy(&policy_with("\"crs-1\"", &ids)).unwrap_err();
    assert_eq!(refusal.mistakes().count(), MISTAKES);
    let last = refusal.diagnostics().last().unwrap();
    assert_eq!(marked(last), "\"crs-é3999\"");
    let start = "instances = [".chars().count() + ids.chars().count() - marked(last).chars().count();
    assert_eq!(spot(last), (5, start + 1));
    assert!(last.render(false).contains(&format!("a.toml:5:{}\n", start + 1)), "{last}");
    for found in refusal.diagnostics() {
        assert!(found.place.spot.as_ref().unwrap().text.chars().count() < 200, "{found}");
    }
    let shown = refusal.render(false);
    assert!(shown.contains("`crs-é0`") && shown.contains("`crs-é3999`"), "all are there");
    assert!(shown.len() < 300 * MISTAKES, "{} bytes", shown.len());
    assert!(shown.ends_with("\n4000 mistakes"));
}

#[test]
fn two_policies_of_the_same_thousands_of_instances_are_told_within_what_a_log_line_holds() {
    let ids = (0..4_000).map(|n| format!("\"crs-{n}\"")).collect::<Vec<_>>().join(", ");
    let first = policy_with("\"crs-1\"", &ids);
    let second = first.replace("[policy.cache]", "[policy.other]");
    let refusal = Folder::new(ACCOUNT, &[("a.toml", &first), ("b.toml", &second)]).load().unwrap_err();
    assert_eq!(refusal.mistakes().count(), 4_000);
    let logged = refusal.render_for_log();
    assert!(logged.len() <= 16 * 1024, "{} bytes", logged.len());
    assert!(logged.contains("both renew `crs-0`"), "{logged}");
    assert!(logged.ends_with(" more: `renewd check` shows all\n4000 mistakes"), "{logged}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn mistakes_of_a_policy_say_what_would_be_right() {
    let redis_months = "redis is sold for 1 to 12, 24 or 36 months";
    for (old, new, place, message, help) in [
        (
            "\"shop\"",
            "\"shpo\"",
            (2, 11),
            "there is no account `shpo` in renewd.toml",
            "did you mean `shop`?",
        ),
        ("\"redis\"", "\"reddis\"", (3, 11), "there is no product `reddis`", "did you mean `redis`?"),
        (
            "\"redis\"",
            "\"ecs\"",
            (3, 11),
            "`ecs` is sold by volcengine, but account `shop` is one of tencentcloud",
            "name an account of volcengine, or a product of tencentcloud: redis, cvm, cvm-v2",
        ),
        (
            "\"ap-guangzhou\"",
            "\"gz\"",
            (4, 10),
            "`redis` does not take the short region code `gz`",
            "write \"ap-guangzhou\"",
        ),
        (
            "\"ap-guangzhou\"",
            "\"Guangzhou\"",
            (4, 10),
            "`Guangzhou` is not spelled like a region",
            "did you mean `ap-guangzhou`?",
        ),
        ("[\"crs-1\"]", "[]", (5, 13), "`instances` is empty", "write instances = [\"crs-…\"]"),
        (
            "[\"crs-1\"]",
            "\"crs-1\"",
            (5, 13),
            "`instances` must be a list of instance ids, not text",
            "write instances = [\"crs-…\"]",
        ),
        (
            "[\"crs-1\"]",
            "[\n  \"crs-1\",\n  \"ins-7\",\n]",
            (7, 3),
            "`ins-7` is not the id of a redis instance",
            "ids of redis begin with `crs-`; this one looks like cvm",
        ),
        (
            "[\"crs-1\"]",
            "[\"crs 1\"]",
            (5, 14),
            "the instance id `crs 1` has a character other than letters, digits, `-`, `_` and `.`",
            "write the id that the console shows",
        ),
        (
            "0 3 * * *",
            "0 3 * *",
            (6, 12),
            "`0 3 * *` is not a cron expression: it has 4 fields",
            "write five fields (minute hour day-of-month month weekday), six with seconds first, or one of \
             @hourly, @daily, @weekly, @monthly, @yearly",
        ),
        (
            "0 3 * * *",
            "0 3 31 2 *",
            (6, 12),
            "`0 3 31 2 *` never fires: no such day comes",
            "choose a day that its month has, or `L` for the last day of the month",
        ),
        (
            "renew =",
            "timezone = \"Asia/Shanghia\"\nrenew =",
            (7, 12),
            "`Asia/Shanghia` is not a time zone of this machine's tz database",
            "did you mean `Asia/Shanghai`?",
        ),
        ("months = 12", "months = 13", (7, 20), "redis is not sold for 13 months", redis_months),
        ("months = 12", "months = -1", (7, 20), "`months` is -1, out of range", redis_months),
        (
            "0 3 * * *",
            "0 25 * * *",
            (6, 12),
            "`0 25 * * *` is not a cron expression: hour `25`: number out of bounds; it takes 0-23",
            "write five fields (minute hour day-of-month month weekday), six with seconds first, or one of \
             @hourly, @daily, @weekly, @monthly, @yearly",
        ),
        ("months = 12", "within_days = 3", (7, 1), "`renew` has no `months`", redis_months),
        (
            "months = 12",
            "months = \"12\"",
            (7, 20),
            "`months` must be a whole number, not text",
            "write a whole number",
        ),
        (
            "months = 12",
            "months = 12, within_days = 0",
            (7, 38),
            "`within_days` is 0, out of range",
            "write a whole number from 1 to 1830",
        ),
        (
            "months = 12",
            "months = 12, month = 1",
            (7, 24),
            "unknown key `month` in `renew`",
            "did you mean `months`?",
        ),
        (
            "months = 12",
            "months = 12, within_days = 5, every_fire = true",
            (7, 24),
            "`within_days` and `every_fire` exclude each other",
            "every_fire orders at each firing, however far the expiry is: remove one",
        ),
        (
            "renew = { months = 12 }",
            "",
            (1, 9),
            "policy `cache` has neither `renew` nor `upgrade`",
            "write for example renew = { months = 12, within_days = 15 }",
        ),
        (
            "renew =",
            "upgrade = { mem_size_mb = 1 }\nrenew =",
            (7, 1),
            "policy `cache` has both `renew` and `upgrade`",
            "make two policies of it",
        ),
        (
            "renew = { months = 12 }",
            "upgrade = { mem_size_mb = 0 }",
            (7, 27),
            "`mem_size_mb` is 0, out of range",
            "write a whole number from 1 to 4294967295",
        ),
        (
            "renew =",
            "on_auto_renew = \"skpi\"\nrenew =",
            (7, 17),
            "`on_auto_renew` cannot be `skpi`",
            "did you mean `skip`?",
        ),
        (
            "renew =",
            "unknown = \"never\"\nrenew =",
            (7, 11),
            "`unknown` cannot be `never`",
            "known here: person, resend",
        ),
        (
            "renew =",
            "renew_data_disks = true\nrenew =",
            (7, 1),
            "`renew_data_disks` is for cvm only",
            "remove it",
        ),
        (
            "renew =",
            "enabled = \"yes\"\nrenew =",
            (7, 11),
            "`enabled` must be true or false, not text",
            "write true or false",
        ),
        (
            "[policy.cache]",
            "[policy.\"a b\"]",
            (1, 9),
            "the name of policy `a b` has a character other than letters, digits, `-`, `_` and `.`",
            "write [policy.NAME] with letters, digits, `-`, `_` and `.`",
        ),
        ("region =", "regoin =", (4, 1), "unknown key `regoin` in policy `cache`", "did you mean `region`?"),
        (
            "renew =",
            "token = \"env:TOKEN\"\nrenew =",
            (7, 1),
            "unknown key `token` in policy `cache`",
            "keys belong, as references, to an [account.NAME] of renewd.toml; a secret that stood here should be \
             replaced at the cloud",
        ),
        (
            "[policy.cache]",
            "[polcy.x]\n[policy.cache]",
            (1, 2),
            "unknown key `polcy`",
            "did you mean `policy`?",
        ),
    ] {
        assert_only(&mistakes_of_policy(&policy_with(old, new)), place, message, help);
    }
}

#[test]
fn a_slip_in_the_syntax_is_one_mistake_with_a_plain_hint() {
    for (old, new, hint) in [
        ("\"crs-1\"", "\"crs-1\" \"crs-2\"", "put a comma between the items"),
        ("[\"crs-1\"]", "[\"crs-1\"", "close it with `]`"),
        ("renew =", "upgrade = { mem_size_mb = 1\nrenew =", "close it with `}`"),
        ("[policy.cache]", "[policy.cache", "close the header with `]`"),
        ("[policy.cache]", "[[policy.cache]", "one pair of brackets"),
        ("\"shop\"", "\"shop", "end the text with the quote"),
        ("\"shop\"", "'shop", "end the text with the quote"),
        ("\"shop\"", "“shop”", "use straight quotes"),
        ("\"shop\"", "", "write key = \"value\""),
        ("\"shop\"", "tencentcloud", "put the value in quotes"),
        ("\"shop\"", "info", "put the value in quotes"),
        ("\"shop\"", "= \"shop\"", "write key = value"),
        ("renew =", "enabled = ture\nrenew =", "write true or false"),
        ("\"shop\"", "\"shop\" // ours", "only a comment that begins with `#`"),
        ("\"shop\"", "\"sh\\op\"", "write `\\\\` for a backslash"),
        ("account =", "account :", "write key = value"),
        ("{ months = 12 }", "{ months = 12", "close it with `}`"),
        ("months = 12", "months = 012", "without a zero before it"),
        ("renew =", "enabled = yes\nrenew =", "write true or false"),
        ("renew =", "enabled = True\nrenew =", "write true or false"),
    ] {
        let found = mistakes_of_policy(&policy_with(old, new));
        let shown: String = found.iter().map(|found| found.render(false) + "\n").collect();
        assert_eq!(found.len(), 1, "{shown}");
        assert!(found[0].help.as_ref().unwrap().contains(hint), "{shown}");
    }
}

#[test]
fn a_table_written_twice_is_one_mistake_and_a_key_written_twice_elsewhere_another() {
    let found =
        mistakes_of_policy(&format!("{POLICY}{POLICY}[policy.other]\naccount = \"shop\"\naccount = \"x\"\n"));
    let places: Vec<_> = found.iter().map(|found| (found.message.as_str(), spot(found))).collect();
    let twice = "this stands in the file a second time";
    assert_eq!(places, [(twice, (8, 9)), (twice, (17, 1))]);
}

/// The messages for a policy file, without those of its broken lines.
fn mistakes_beside(text: &str, broken: &[usize]) -> Vec<String> {
    let found = mistakes_of_policy(text);
    let lines: Vec<usize> = found.iter().map(|found| spot(found).0).collect();
    assert!(broken.iter().all(|line| lines.contains(line)), "{lines:?}");
    let others = found.into_iter().filter(|found| !broken.contains(&spot(found).0));
    others.map(|found| found.message).collect()
}

#[test]
fn a_slip_in_one_line_hides_no_mistake_in_another() {
    for slip in [
        "x: 1",
        "x = word",
        "just words",
        "x = \"open",
        "x = 1 2",
        "x = 012",
        "x",
        "= 1",
        "x = tru",
        "a b = 1",
    ] {
        let text = POLICY.replace("product", &format!("{slip}\nprodcut"));
        assert_eq!(
            mistakes_beside(&text, &[3]),
            ["unknown key `prodcut` in policy `cache`"],
            "{slip}: in its own table what is missing may be what is misread"
        );
        let other = "[policy.other]\nacount = \"shop\"\nproduct = \"redis\"\nregion = \"ap-guangzhou\"\n\
                     schedule = \"0 3 * * *\"\nrenew = { months = 12 }\n";
        let text = format!("{}{other}", POLICY.replace("product", &format!("{slip}\nproduct")));
        assert_eq!(
            mistakes_beside(&text, &[3]),
            ["policy `other` has no `instances`", "unknown key `acount` in policy `other`"],
            "{slip}"
        );
    }
    let twice = format!("{POLICY}{POLICY}[policy.other]\naccount = \"shop\"\n");
    let found = mistakes_beside(&twice, &[8]);
    assert!(found.iter().any(|message| message == "policy `other` has no `product`"), "{found:?}");
}

#[test]
fn what_nobody_closes_hides_no_mistake_behind_it() {
    let other = "[policy.other]\nacount = \"shop\"\nproduct = \"redis\"\nregion = \"ap-guangzhou\"\n\
                 instances = [\"crs-9\"]\nschedule = \"0 3 * * *\"\nrenew = { months = 12 }\n";
    for (old, new, line) in [
        ("[\"crs-1\"]", "[\"crs-1\"", 5),
        ("[\"crs-1\"]", "[\"crs-1]", 5),
        ("[\"crs-1\"]", "[\n  \"crs-1\",\n  \"crs-2\"", 5),
        ("[\"crs-1\"]", "[\"crs-1\" # one]", 5),
        ("[\"crs-1\"]", "[\n  \"crs-1\",\n", 5),
        ("[\"crs-1\"]", "[\"crs-1\",", 5),
        ("= [\"crs-1\"]", "[\n  \"crs-1\",\n  \"crs-2\",\n]", 5),
        ("= [\"crs-1\"]", "= (\n  \"crs-1\",\n  \"crs-2\"\n)", 5),
        ("{ months = 12 }", "{ months = 12 within_days = 9 }", 7),
        ("\"shop\"", "\"sh\u{7}op\"", 2),
        ("{ months = 12 }", "{ months = 12", 7),
        ("[policy.cache]", "[policy.cache", 1),
        ("[policy.cache]", "[policy.cache # ours", 1),
        ("[policy.cache]", "policy.cache] # ours", 1),
        ("[policy.cache]", "[[policy.cache]", 1),
        ("[policy.cache]", "[[policy.cache]]", 1),
        ("[policy.cache]", "[policy.session cache]", 1),
        ("[policy.cache]", "[policy.\u{4f1a}]", 1),
        ("[policy.cache]", "[policy.cache] ours", 1),
        ("account =", "account\u{a0}=", 2),
        ("\"shop\"", "\"\"\"shop", 2),
        ("\"shop\"", "'''shop", 2),
    ] {
        let text = POLICY.replace(old, new).replace("0 3 * * *", "0 25 * * *");
        let mistakes = mistakes_beside(&format!("{text}{other}"), &[line]);
        let told = |word: &str| mistakes.iter().any(|message| message.contains(word));
        assert!(told("unknown key `acount` in policy `other`"), "{new}: {mistakes:?}");
        assert!(told("hour `25`"), "{new}: {mistakes:?}");
        assert_eq!(mistakes.len(), 2, "{new}: {mistakes:?}");
    }
}

#[test]
fn a_table_that_is_written_twice_or_below_a_broken_header_is_judged_like_any_other() {
    let second = POLICY.replace("12 }", "13 }").replace("crs-1", "crs-2");
    let text = format!("{POLICY}{second}[policy.cut\naccount = \"shp\"\n[policy.cut.renew]\nmonth = 1\n");
    let found = mistakes_of_policy(&text);
    let told: Vec<_> = found.iter().map(|found| (spot(found), found.message.as_str())).collect();
    assert_eq!(
        told,
        [
            ((8, 9), "this stands in the file a second time"),
            ((14, 20), "redis is not sold for 13 months"),
            ((15, 1), "policy `cut` has no `product`"),
            ((15, 1), "policy `cut` has no `region`"),
            ((15, 1), "policy `cut` has no `instances`"),
            ((15, 1), "policy `cut` has no `schedule`"),
            ((15, 12), "the header is not closed"),
            ((16, 11), "there is no account `shp` in renewd.toml"),
            ((18, 1), "unknown key `month` in `renew`"),
        ]
    );
    let (first, label) = found[0].related.as_ref().unwrap();
    assert_eq!((first.spot.as_ref().unwrap().line, label.as_str()), (1, "first here"));

    let twice = POLICY.replace("region", "account = \"shop\"\nregion");
    let found = mistakes_of_policy(&twice);
    assert_only(
        &found,
        (4, 1),
        "this stands in the file a second time",
        "each key and each [table] is written once",
    );
    assert_eq!(found[0].related.as_ref().unwrap().0.spot.as_ref().unwrap().line, 2);
}

#[test]
fn hundreds_of_broken_and_repeated_tables_are_each_one_mistake() {
    let numbered = |number: usize| {
        POLICY.replace("cache", &format!("p{number}")).replace("crs-1", &format!("crs-{number}"))
    };
    let all: String = (0..150).map(numbered).collect();
    let found = mistakes_of_policy(&format!("{all}{all}"));
    assert!(found.len() == 150 && found.iter().all(|found| found.related.is_some()), "{}", found.len());
    let found = mistakes_of_policy(&all.replace("]\naccount", "\naccount"));
    let of_headers = found.iter().filter(|found| found.message == "the header is not closed").count();
    assert_eq!((found.len(), of_headers), (150, 150));
    // Lists that nobody closes are found one after the other, and not without end.
    let found = mistakes_of_policy(&all.replace("\"]", "\""));
    assert!(
        found.len() >= 99 && found.iter().all(|found| found.message.contains("not closed")),
        "{found:#?}"
    );
}

#[test]
fn a_broken_line_may_be_of_any_length() {
    let ids: Vec<String> = (0..7_000).map(|id| format!("\"crs-{id}\"")).collect();
    let text = POLICY.replace("[\"crs-1\"]", &format!("[{}", ids.join(", ")));
    assert!(text.len() > usize::from(u16::MAX));
    assert_only(
        &mistakes_of_policy(&text),
        (5, 13),
        "the list that begins here is not closed",
        "close it with `]`",
    );
    let tail = format!("{POLICY}{}", "\0".repeat(70_000));
    assert_eq!(mistakes_of_policy(&tail).len(), 1);
    let folder = Folder::new(ACCOUNT, &[]);
    fs::File::create(folder.path("policies.d/a.toml")).unwrap().set_len(17 << 20).unwrap();
    let refusal = folder.load().unwrap_err().to_string();
    assert!(refusal.contains("larger than 16 MB"), "{refusal}");
}

#[test]
fn a_main_file_of_another_encoding_hides_no_mistake_and_the_database_only_where_it_may() {
    let folder = Folder::new("", &[("a.toml", &POLICY.replace("\"0 3", "\"0 25"))]);
    let settings = [b"# Schl\xfcssel\n[retry]\nmax_attempts = 0\n", ACCOUNT.as_bytes()].concat();
    fs::write(folder.settings(), settings).unwrap();
    let refusal = folder.load().unwrap_err();
    let found: Vec<&str> = refusal.diagnostics().iter().map(|found| found.message.as_str()).collect();
    assert!(
        found.len() == 3 && found[0].contains("not UTF-8") && found[2].contains("hour `25`"),
        "{found:#?}"
    );
    // One foreign letter in a comment keeps nobody from a pause; what is cut may lack the database's own line.
    let leniently = || config::load_leniently(&folder.settings(), &Environment::of_pairs([]));
    assert!(leniently().unwrap().refused.is_some());
    for doubtful in [
        &b"database = \"d\xfc.db\"\n"[..],
        b"[log]\n\0\0\0",
        b"d\xfctabase = \"x.db\"\ndatabase = \"y.db\"\n",
    ] {
        fs::write(folder.settings(), doubtful).unwrap();
        leniently().unwrap_err();
    }
}

#[test]
fn a_byte_order_mark_inside_of_a_file_is_one_mistake() {
    let found = mistakes_of_policy(&format!(
        "{POLICY}\u{feff}{}",
        POLICY.replace("cache", "other").replace("crs-1", "crs-2")
    ));
    assert_eq!((found.len(), spot(&found[0])), (1, (8, 1)), "{found:#?}");
}

#[test]
fn a_quote_that_is_missing_in_a_list_is_told_where_it_is_missing() {
    let list = "[\n  \"crs-1\",\n  \"crs-2,\n  \"crs-3\"\n]";
    for (list, place) in [(list, (7, 3)), ("[\n  \"crs-1\",\n  \"crs-2]\n", (7, 3))] {
        let found = mistakes_of_policy(&policy_with("[\"crs-1\"]", list));
        let told: Vec<_> = found.iter().map(|found| (found.message.as_str(), spot(found).0)).collect();
        assert_eq!(told, [("the text is not closed", place.0)], "{found:#?}");
    }
}

#[test]
fn a_table_that_is_closed_by_nothing_ends_before_the_next_header_however_that_is_written() {
    for header in ["[policy.7]", "[ policy . b ]", "[policy .b]", "[policy.\"b\"]", "[\"policy\".b]"] {
        let second = POLICY.replace("[policy.cache]", header).replace("crs-1", "crs-2");
        let found = mistakes_of_policy(&format!("{}{second}", POLICY.replace("12 }", "12")));
        assert_only(&found, (7, 9), "the table that begins here is not closed", "close it with `}`");
    }
}

#[test]
fn an_account_that_is_written_twice_or_below_a_broken_header_is_judged_without_showing_its_secrets() {
    let literal =
        format!("provider = \"tencentcluod\"\nsecret_id = \"env:ID\"\nsecret_key = \"{LITERAL}\"\n");
    for header in ["[account.shop", "account.shop]", "[account.lab]", "[[account.shop]"] {
        let first = "[account.lab]\nprovider = \"volcengine\"\ncredentials = \"instance-role:r\"\n";
        let found = mistakes_of_settings(&format!("{first}{header}\n{literal}"));
        let shown: String = found.iter().map(|found| found.render(false) + "\n").collect();
        assert_eq!(found.len(), 3, "{shown}");
        assert!(shown.contains("did you mean `tencentcloud`?"), "{shown}");
        assert!(shown.contains("holds a literal where a reference"), "{shown}");
        assert!(!shown.contains(LITERAL), "{shown}");
    }
}

#[test]
fn a_file_of_another_encoding_is_judged_as_far_as_it_can_be_read() {
    let text =
        POLICY.replace("\"shop\"", "\"shp\" # f\u{fc}r alle").replace("\"crs-1\"", "\"crs-1\", \"cr\u{fc}\"");
    let latin_1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let utf_16: Vec<u8> =
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let cut = [text.as_bytes(), &[0; 64]].concat();
    let packed = [b"\x1f\x8b\0\n", text.as_bytes()].concat();
    let no_account = "there is no account `shp` in renewd.toml";
    let no_id = "the instance id `crü` has a character other than letters, digits, `-`, `_` and `.`";
    for (bytes, told) in [
        (latin_1, vec![no_account, "the file is not UTF-8 text"]),
        (utf_16, vec!["the file is UTF-16 text", no_account, no_id]),
        (cut, vec![no_account, no_id, "the file holds NUL bytes"]),
        (packed, vec!["the file is not UTF-8 text"]),
    ] {
        let folder = Folder::new(ACCOUNT, &[]);
        fs::write(folder.path("policies.d/a.toml"), bytes).unwrap();
        let refusal = folder.load().unwrap_err();
        let found: Vec<&str> = refusal.diagnostics().iter().map(|found| found.message.as_str()).collect();
        let is_told =
            found.len() == told.len() && found.iter().zip(&told).all(|(found, told)| found.starts_with(told));
        assert!(is_told, "{found:#?}, not {told:#?}");
    }
}

#[test]
fn the_second_line_of_a_secret_is_not_shown() {
    let found = mistakes_of_settings("[account.shop]\nsecret_key = \"AAAA\nS3CRtail==\nS3CRab=1\n");
    let shown: String = found.iter().map(|found| found.render(false)).collect();
    assert!(!shown.contains("S3CR") && shown.contains("credential:NAME"), "{shown}");
}

#[test]
fn a_slip_in_the_main_file_hides_no_mistake_of_the_policies() {
    let settings =
        "datbase = \"x.db\"\n[account.shop]\nprovider: \"tencentcloud\"\n[log]\nlevle = \"info\"\n";
    let folder = Folder::new(settings, &[("a.toml", &POLICY.replace("\"shop\"", "\"shp\""))]);
    let refusal = folder.load().unwrap_err();
    let messages: Vec<&str> = refusal.diagnostics().iter().map(|found| found.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "unknown key `datbase`",
            "there is a `:` where `=` belongs",
            "unknown key `levle` in `log`",
            "there is no account `shp` in renewd.toml"
        ]
    );
}

#[test]
fn a_price_is_read_as_it_is_written() {
    let price = |text: &str| {
        let loaded = load_policy(&format!("{POLICY}max_price_cny = {text}\n"));
        loaded.map(|loaded| loaded.value.1.policies[0].terms.max_price.unwrap())
    };
    for (text, fen) in
        [("1200", 120_000), ("0.07", 7), ("\"19.9\"", 1_990), ("1_200.10", 120_010), ("+5", 500)]
    {
        assert_eq!(price(text).unwrap(), Fen::new(fen), "{text}");
    }
    for (text, message) in [
        ("1.005", "`max_price_cny` is `1.005`, which has more than two decimals"),
        ("-1", "`max_price_cny` is `-1`, which is negative"),
        ("1e3", "`max_price_cny` is `1e3`, which is not an amount such as 1200 or 1200.50"),
        ("nan", "`max_price_cny` is `nan`, which is not an amount such as 1200 or 1200.50"),
        ("true", "`max_price_cny` must be an amount in CNY such as 1200 or 1200.50, not true or false"),
    ] {
        let refusal = price(text).unwrap_err();
        assert_eq!(refusal.diagnostics()[0].message, message);
        assert_eq!(spot(&refusal.diagnostics()[0]), (8, 17));
    }
}

#[test]
fn each_nickname_of_crontab_fires_as_its_five_fields_do() {
    for (nickname, fields) in [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ] {
        let (_, set) = load_policy(&policy_with("0 3 * * *", nickname)).unwrap().value;
        let next = |expression: &str| Schedule::parse(expression, "UTC").unwrap().next_after(now());
        assert_eq!(next(&set.policies[0].schedule.expression), next(fields), "{nickname}");
    }
}

#[test]
fn a_wrong_expression_and_a_wrong_zone_are_both_reported() {
    let found = mistakes_of_policy(&policy_with("\"0 3 * * *\"", "\"0 3\"\ntimezone = \"Mars\""));
    assert_eq!(found.iter().map(spot).collect::<Vec<_>>(), [(6, 12), (7, 12)]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn mistakes_of_the_main_file_say_what_would_be_right() {
    for (text, place, message, help) in [
        ("databse = \"x\"", (1, 1), "unknown key `databse`", "did you mean `database`?"),
        ("database = \"\"", (1, 12), "`database` is empty", "write a path, or leave the key out"),
        (
            "database = \"policies.d\"",
            (1, 12),
            "`database` names a folder",
            "name the file in it, such as renewd.db",
        ),
        (
            "timezone = \"Shanghai\"",
            (1, 12),
            "`Shanghai` is not a time zone of this machine's tz database",
            "did you mean `Asia/Shanghai`?",
        ),
        (
            "timezone = \"\"\"UTC\nx = 1\"\"\"",
            (1, 12),
            "`timezone` has several lines or control characters",
            "write it on one line, between one pair of quotes",
        ),
        (
            "log = 3",
            (1, 7),
            "`log` must be a table, not a whole number",
            "write [log] and its keys on the lines below",
        ),
        ("[log]\nformat = \"jsn\"", (2, 10), "`format` cannot be `jsn`", "did you mean `json`?"),
        ("[log]\nlevel = \"inof\"", (2, 9), "`level` is not a level: `inof`", "did you mean `info`?"),
        (
            "[http]\nlisten = \"9464\"",
            (2, 10),
            "`listen` is `9464`, not an address with a port",
            "write for example \"127.0.0.1:9464\" or \"[::1]:9464\"",
        ),
        (
            "[retry]\nmax_delay_seconds = 20",
            (2, 21),
            "`max_delay_seconds` is 20, less than `first_delay_seconds`, which is 30",
            "the delays grow from the first to the longest",
        ),
        (
            "[retry]\nsettle_seconds = -1",
            (2, 18),
            "`settle_seconds` is -1, out of range",
            "write a whole number from 1 to 2592000",
        ),
        (
            "[history]\nruns_days = 0.5",
            (2, 13),
            "`runs_days` must be a whole number, not a number with decimals",
            "write a whole number",
        ),
        (
            "database = renewd.db",
            (1, 12),
            "text stands without quotes",
            "put the value in quotes: key = \"value\"",
        ),
        (
            "[log]\n[log]",
            (2, 2),
            "this stands in the file a second time",
            "each key and each [table] is written once",
        ),
        (
            "[account.\"my shop\"]\nprovider = \"tencentcloud\"\nsecret_id = \"env:A\"\nsecret_key = \"env:B\"",
            (1, 10),
            "the name of account `my shop` has a character other than letters, digits, `-`, `_` and `.`",
            "write [account.NAME] with letters, digits, `-`, `_` and `.`",
        ),
    ] {
        assert_only(&mistakes_of_settings(text), place, message, help);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn mistakes_of_an_account_say_what_would_be_right() {
    let reference_help = "write \"credential:NAME\", \"env:NAME\" or \"file:PATH\" and keep the secret out of this \
        file; one that stood here should be replaced at the cloud";
    for (old, new, place, message, help) in [
        (
            "provider = \"tencentcloud\"",
            "",
            (1, 10),
            "account `shop` has no `provider`",
            "write provider = \"tencentcloud\" or \"volcengine\"",
        ),
        (
            "tencentcloud",
            "tencent",
            (2, 12),
            "`provider` cannot be `tencent`",
            "did you mean `tencentcloud`?",
        ),
        (
            "secret_key = \"env:KEY\"",
            "",
            (1, 10),
            "account `shop` has no `secret_key`",
            "write secret_key = \"credential:NAME\" (or env:NAME, file:PATH)",
        ),
        (
            "secret_id",
            "access_key_id",
            (3, 1),
            "`access_key_id` is not how tencentcloud calls its keys",
            "tencentcloud has `secret_id` and `secret_key`",
        ),
        (
            "\"env:KEY\"",
            "\"hunter2\"",
            (4, 14),
            "`secret_key` holds a literal where a reference to a secret belongs",
            reference_help,
        ),
        (
            "secret_id = \"env:ID\"",
            "secret_id = 12345678",
            (3, 13),
            "`secret_id` must be a reference to a secret in quotes, not a whole number",
            reference_help,
        ),
        (
            "\"env:KEY\"",
            "\"env: LITERALX\"",
            (4, 14),
            "`secret_key` holds a literal where a reference to a secret belongs",
            reference_help,
        ),
        (
            "secret_id = \"env:ID\"",
            "credentials = \"instance-role\"",
            (4, 1),
            "`secret_key` stands beside `credentials`: an account has keys or a role",
            "remove `credentials` to sign with these keys, or the keys to sign with the role",
        ),
        (
            "secret_id = \"env:ID\"\nsecret_key = \"env:KEY\"",
            "credentials = \"AKIDverysecret\"",
            (3, 15),
            "`credentials` can only be \"instance-role\" or \"instance-role:NAME\"",
            "write one of these, or give `secret_id` and `secret_key` instead",
        ),
        (
            "secret_id = \"env:ID\"\nsecret_key = \"env:KEY\"",
            "credentials = \"instance-role:a/b\"",
            (3, 15),
            "`credentials` names `a/b`, which is not the name of a role: letters, digits and any of _ + = , . @ -, at \
             most 128",
            "write credentials = \"instance-role:NAME\" with the role's name",
        ),
        (
            "secret_id = \"env:ID\"\nsecret_key = \"env:KEY\"",
            "credentials = \"instance-role\"\nmetadata_endpoint = \"http://a/b\"",
            (4, 21),
            "`metadata_endpoint` is not of the form scheme://host[:port]",
            "write for example \"http://127.0.0.1:9500\", without a path or user",
        ),
        (
            "secret_id",
            "metadata_endpoint = \"http://127.0.0.1:9500\"\nsecret_id",
            (3, 1),
            "`metadata_endpoint` is where the keys of a role are asked for, and this account has its own",
            "remove it, or replace the keys by credentials = \"instance-role\"",
        ),
        (
            "secret_id",
            "endpoint = \"http://a/b\"\nsecret_id",
            (3, 12),
            "`endpoint` is not of the form scheme://host[:port]",
            "write for example \"http://127.0.0.1:9500\", without a path or user",
        ),
        (
            "secret_id",
            "bare_time_zone = \"CST\"\nsecret_id",
            (3, 18),
            "`bare_time_zone` is `CST`, not an offset from UTC",
            "write for example \"+08:00\"",
        ),
        (
            "secret_id",
            "rate.\"redis:RenewInstances\" = 18\nsecret_id",
            (3, 6),
            "`redis:RenewInstances` is not an API whose rate can be set",
            "did you mean `redis:RenewInstance`?",
        ),
        (
            "secret_id",
            "rate.\"redis:RenewInstance\" = 0\nsecret_id",
            (3, 30),
            "the rate of `redis:RenewInstance` is `0`, out of range",
            "write requests per second, above 0 and up to 1000",
        ),
        (
            "secret_id",
            "budget = { cny_per_day = 1.234 }\nsecret_id",
            (3, 26),
            "`cny_per_day` is `1.234`, which has more than two decimals",
            "write yuan with at most two decimals, such as 1200 or 1200.50",
        ),
        (
            "secret_id",
            "budget = { order_per_day = 1 }\nsecret_id",
            (3, 12),
            "unknown key `order_per_day` in `budget`",
            "did you mean `orders_per_day`?",
        ),
    ] {
        assert!(ACCOUNT.contains(old), "{old}");
        assert_only(&mistakes_of_settings(&ACCOUNT.replace(old, new)), place, message, help);
    }
}

#[test]
fn a_secret_written_out_is_never_shown_whatever_else_is_wrong() {
    let account = |line: &str| format!("[account.shop]\nprovider = \"tencentcloud\"\n{line}\n");
    for text in [
        account(&format!("secret_key = \"{LITERAL}\"")),
        account(&format!("secret_key = {LITERAL}")),
        account(&format!("secret_key = \"{LITERAL}")),
        account(&format!("secret_key {LITERAL}")),
        account(&format!("secret_key = [\"{LITERAL}\"]")),
        account(&format!("secret_key = [\n\"{LITERAL}\"\n")),
        account(&format!("secret_key = \"\"\"\n{LITERAL}\n\"\"\"")),
        account(&format!("secret_key = \"\"\"\n{LITERAL}\\q\n\"\"\"")),
        account(&format!("secret_key = \"{LITERAL}\" \"x\"")),
        account(&format!("secretkey = \"{LITERAL}\"")),
        account(&format!("kye = \"{LITERAL}\"")),
        account(&format!("access_key_id = \"{LITERAL}\"")),
        account(&format!("token = \"{LITERAL}\\u00zz\"")),
        account(&format!("credentials = \"{LITERAL}\"")),
        account(&format!("endpoint = \"https://x:{LITERAL}@host\"")),
        account(&format!("secret = {{ key = \"{LITERAL}\" }}")),
        format!("account = {{ shop = {{ secret_id = \"{LITERAL}\", x = 1 }} }}\n"),
        format!("account.shop.secret_id = \"{LITERAL}\"\naccount.shop.secret_id = \"{LITERAL}\"\n"),
        format!("key = \"{LITERAL}\"\n"),
        format!("[{LITERAL}]\nx = 1\n"),
        format!("[account.{LITERAL}]\nprovider = 1\n"),
        format!("[account.shop]\nprovider = \"{LITERAL}\"\n"),
        format!("[account.shop.rate]\n{LITERAL} = 1\n"),
        account(&format!("credentials = \"instance-role:{LITERAL}!\"")),
        account(&format!("secret_key = \"env:{LITERAL}\"\nx = 1")),
        account(&format!("secret_key = \"file:/{LITERAL}\" # x\nsecret_key = 1")),
        account(&format!("bare_time_zone = \"{LITERAL}\"")),
        format!("timezone = \"{LITERAL}\"\nlog = {{ level = \"{LITERAL}\", format = \"{LITERAL}\" }}\n"),
        format!("http = {{ listen = \"{LITERAL}\" }}\n"),
    ] {
        let found = mistakes_of_settings(&text);
        let shown: String = found.iter().map(|found| found.render(false)).collect();
        let everything = format!("{shown}{found:?}");
        assert!(!everything.contains(LITERAL), "{text}\n{everything}");
    }
    for text in [
        POLICY.replace("shop", LITERAL),
        POLICY.replace("0 3 * * *", LITERAL),
        POLICY.replace("redis", LITERAL),
        format!("{POLICY}{LITERAL} = 1\n"),
    ] {
        let found = mistakes_of_policy(&text);
        assert!(!format!("{found:?}").contains(LITERAL), "{found:?}");
    }
    let in_policy = mistakes_of_policy(&format!("{POLICY}secret_key = \"{LITERAL}\"\n"));
    assert!(!format!("{in_policy:?}{}", in_policy[0]).contains(LITERAL));
}

#[test]
fn a_literal_secret_is_marked_without_being_shown() {
    let found = mistakes_of_settings(&ACCOUNT.replace("env:KEY", LITERAL));
    assert!(
        found[0].render(false).contains("4 | secret_key = *******************************\n"),
        "{}",
        found[0]
    );
    assert_eq!(marked(&found[0]).len(), LITERAL.len() + 2);
}

#[test]
fn an_instance_in_two_policies_is_reported_with_both_places() {
    let second =
        POLICY.replace("[policy.cache]", "[policy.other]").replace("[\"crs-1\"]", "[\"crs-0\", \"crs-1\"]");
    let refusal = Folder::new(ACCOUNT, &[("a.toml", POLICY), ("b.toml", &second)]).load().unwrap_err();
    let [found] = refusal.diagnostics() else { panic!("{refusal}") };
    assert_eq!(found.message, "policies `cache` and `other` both renew `crs-1`");
    assert!(found.place.file.ends_with("b.toml"));
    assert_eq!(spot(found), (5, 23));
    let (first, label) = found.related.as_ref().unwrap();
    assert!(first.file.ends_with("a.toml"));
    assert_eq!((first.spot.as_ref().unwrap().line, label.as_str()), (5, "first here"));
    let shown = found.render(false);
    assert!(shown.contains("b.toml:5:23\n") && shown.contains("a.toml:5:14\n"), "{shown}");
}

#[test]
fn neither_account_nor_product_nor_region_spelling_hides_that_an_instance_is_there_twice() {
    let settings = format!("{ACCOUNT}{}", ACCOUNT.replace("shop", "other"));
    let policy = |name: &str, account: &str, product: &str, region: &str| {
        POLICY
            .replace("policy.cache", &format!("policy.{name}"))
            .replace("\"shop\"", &format!("{account:?}"))
            .replace("redis", product)
            .replace("ap-guangzhou", region)
            .replace("crs-1", "ins-1")
    };
    let text = policy("a", "shop", "cvm", "ap-guangzhou") + &policy("b", "other", "cvm-v2", "gz");
    let refusal = Folder::new(&settings, &[("a.toml", &text)]).load().unwrap_err();
    let clashes: Vec<_> = refusal
        .mistakes()
        .filter(|found| found.message == "policies `a` and `b` both renew `ins-1`")
        .collect();
    assert_eq!(clashes.len(), 1, "{refusal}");
    assert_eq!(spot(clashes[0]), (12, 14));
}

#[test]
fn an_instance_in_two_regions_is_reported_with_both_places_whichever_account_pays() {
    let settings = format!("{ACCOUNT}{}", ACCOUNT.replace("shop", "other"));
    let elsewhere = POLICY.replace("policy.cache", "policy.b").replace("ap-guangzhou", "ap-shanghai");
    for account in ["shop", "other"] {
        let second = elsewhere.replace("\"shop\"", &format!("{account:?}"));
        let refusal = Folder::new(&settings, &[("a.toml", POLICY), ("b.toml", &second)]).load().unwrap_err();
        let [found] = refusal.diagnostics() else { panic!("{refusal}") };
        assert_eq!(
            found.message,
            "policies `cache` and `b` both renew `crs-1`, in ap-guangzhou and in ap-shanghai"
        );
        assert!(found.help.as_ref().unwrap().starts_with("an id exists in one region only"), "{refusal}");
        let shown = found.render(false);
        assert!(shown.contains("b.toml:5:14\n") && shown.contains("a.toml:5:14\n"), "{shown}");
    }
}

#[test]
fn a_clash_is_found_also_in_a_policy_that_has_another_mistake() {
    let second = POLICY.replace("policy.cache", "policy.b").replace("months = 12", "months = 13");
    let messages: Vec<_> =
        mistakes_of_policy(&format!("{POLICY}{second}")).into_iter().map(|f| f.message).collect();
    assert_eq!(messages, ["policies `cache` and `b` both renew `crs-1`", "redis is not sold for 13 months"]);
    let twice = mistakes_of_policy(&policy_with("[\"crs-1\"]", "[\"crs-1\", \"crs-x y\", \"crs-1\"]"));
    assert_eq!(twice.iter().map(spot).collect::<Vec<_>>(), [(5, 23), (5, 34)]);
    assert_eq!(twice[1].message, "`crs-1` is listed twice");
}

#[test]
fn policies_of_the_same_name_in_two_files_are_reported_with_both_places() {
    let second = POLICY.replace("crs-1", "crs-2");
    let refusal = Folder::new(ACCOUNT, &[("a.toml", POLICY), ("b.toml", &second)]).load().unwrap_err();
    let [found] = refusal.diagnostics() else { panic!("{refusal}") };
    assert_eq!(found.message, "there are two policies named `cache`");
    assert_eq!((spot(found), marked(found)), ((1, 9), "cache"));
    assert!(found.place.file.ends_with("b.toml"));
    assert!(found.related.as_ref().unwrap().0.file.ends_with("a.toml"));
}

#[test]
fn doubtful_policies_are_warned_of_and_accepted() {
    for (old, new, place, message) in [
        (
            "0 3 * * *",
            "0 3 1 * *",
            (6, 12),
            "up to 31 days pass between two firings, more than `within_days` = 15 (the default)",
        ),
        (
            "months = 12",
            "months = 1, within_days = 29",
            (7, 37),
            "`within_days` is 29, but 1 month can last only 28 days: it stays due after each renewal",
        ),
        (
            "months = 12",
            "months = 1, every_fire = true",
            (6, 12),
            "each firing buys 1 month, and one comes every 24h: it buys faster than time passes",
        ),
        (
            "0 3 * * *",
            "0 3 * * * *",
            (6, 12),
            "`0 3 * * * *` fires every hour, 3 minutes past: six fields begin with the seconds",
        ),
        ("renew =", "max_price_cny = 0\nrenew =", (7, 17), "`max_price_cny` is 0: nothing is ever ordered"),
        ("ap-guangzhou", "ap-guangzou", (4, 10), "this build does not know the region `ap-guangzou`"),
    ] {
        let loaded = load_policy(&policy_with(old, new)).unwrap();
        let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
        assert_eq!(warning.severity, Severity::Warning);
        assert_eq!((warning.message.as_str(), spot(warning)), (message, place));
        assert!(warning.render(false).starts_with("warning: "), "{warning}");
        assert_eq!(loaded.value.1.policies.len(), 1);
    }
    for (product, id) in [("cvm", "ins-1"), ("cvm-v2", "ins-1")] {
        let text = policy_with("ap-guangzhou", "ap-guangzou").replace("redis", product).replace("crs-1", id);
        let warnings = load_policy(&text).unwrap().warnings;
        assert_eq!(warnings[0].help.as_deref(), Some("did you mean `ap-guangzhou`?"), "{product}");
    }
    let monthly =
        policy_with("0 3 * * *", "0 3 1 * *").replace("months = 12", "months = 1, every_fire = true");
    assert_eq!(load_policy(&monthly).unwrap().warnings, []);
}

#[test]
fn plain_http_to_another_machine_is_warned_of() {
    let warnings = |endpoint: &str| {
        let folder = Folder::new(&format!("{ACCOUNT}endpoint = \"{endpoint}\"\n"), &[]);
        config::load(&folder.settings(), &Environment::of_pairs([])).unwrap().warnings.len()
    };
    assert_eq!(warnings("http://10.0.0.1:80"), 1);
    assert_eq!(warnings("http://localhost:80"), 0);
    assert_eq!(warnings("https://10.0.0.1"), 0);
}

#[test]
fn policies_are_read_in_name_order_from_a_folder_or_from_one_file() {
    let named = |name: &str, id: &str| POLICY.replace("policy.cache", name).replace("crs-1", id);
    let files = [
        ("20.toml", named("policy.b", "crs-2")),
        ("10.toml", named("policy.z", "crs-1") + &named("policy.a", "crs-3")),
        (".hidden.toml", "broken".to_owned()),
        ("30.toml~", "broken".to_owned()),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let folder = Folder::new(ACCOUNT, &files);
    let names = |set: &PolicySet| set.policies.iter().map(|p| p.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&folder.load().unwrap().value.1), ["z", "a", "b"]);
    fs::write(folder.settings(), format!("policies = \"policies.d/20.toml\"\n{ACCOUNT}")).unwrap();
    assert_eq!(names(&folder.load().unwrap().value.1), ["b"]);
}

#[test]
fn a_file_whose_name_only_seems_to_end_as_it_should_is_warned_of() {
    let folder =
        Folder::new(ACCOUNT, &[("a.toml", POLICY), ("B.TOML", "x"), ("c.toml.txt", "x"), ("README", "x")]);
    let loaded = folder.load().unwrap();
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("B.TOML is not read") && told[0].contains("end in `.toml`"), "{}", told[0]);
    assert!(told[1].contains("c.toml.txt is not read"), "{}", told[1]);
}

#[test]
fn without_any_policy_file_and_without_any_policy_there_is_a_mistake() {
    let folder = Folder::new(ACCOUNT, &[]);
    let refusal = folder.load().unwrap_err();
    assert!(
        refusal.diagnostics()[0].message.starts_with("there is no policy file (*.toml) in "),
        "{refusal}"
    );
    for text in ["", "# nothing yet\n", "[policy]\n"] {
        fs::write(folder.path("policies.d/a.toml"), text).unwrap();
        let refusal = folder.load().unwrap_err();
        let [found] = refusal.diagnostics() else { panic!("{refusal}") };
        assert!(found.message.starts_with("the policy files hold no policy at all"), "{refusal}");
        assert!(found.help.as_ref().unwrap().contains("enabled = false"), "{refusal}");
    }
    fs::write(folder.path("policies.d/b.toml"), POLICY).unwrap();
    assert_eq!(folder.load().unwrap().value.1.policies.len(), 1, "another file of the set holds one");
}

#[test]
fn files_that_cannot_be_read_as_text_are_mistakes_with_their_path() {
    let folder = Folder::new(ACCOUNT, &[("b.toml", POLICY)]);
    fs::create_dir(folder.path("policies.d/a.toml")).unwrap();
    fs::write(folder.path("policies.d/c.toml"), b"# caf\xe9\n").unwrap();
    let refusal = folder.load().unwrap_err();
    let found: Vec<_> = refusal.diagnostics().iter().collect();
    assert_eq!(found.len(), 2, "{refusal}");
    assert!(found[0].place.file.ends_with("a.toml") && found[0].message.contains("is a folder"));
    assert_eq!((found[1].message.contains("not UTF-8 text"), spot(found[1])), (true, (1, 6)));

    fs::remove_dir_all(folder.path("policies.d")).unwrap();
    let refusal = folder.load().unwrap_err().to_string();
    assert!(refusal.contains("policies.d cannot be read: No such file"), "{refusal}");
    let environment = Environment::of_pairs([]);
    let refusal = config::load(folder.0.path(), &environment).unwrap_err().to_string();
    assert!(refusal.contains("name the file in the folder"), "{refusal}");
}

#[test]
fn broken_syntax_in_the_main_file_does_not_blame_the_policies() {
    let folder = Folder::new("[account.shop\nprovider = \"tencentcloud\"\n", &[("a.toml", POLICY)]);
    let refusal = folder.load().unwrap_err();
    let files: BTreeSet<_> =
        refusal.diagnostics().iter().map(|f| f.place.file.file_name().unwrap()).collect();
    assert!(files.into_iter().eq(["renewd.toml"]), "{refusal}");
}

#[test]
fn the_digest_follows_all_that_the_set_follows_from() {
    let folder = Folder::new(ACCOUNT, &[("a.toml", POLICY)]);
    let digest = || {
        let (config, set) = folder.load().unwrap().value;
        assert_eq!(config::digest_on_disk(&config).unwrap(), set.digest);
        assert_eq!(config::load_policies(&config, now()).unwrap().value.digest, set.digest);
        set.digest
    };
    let first = digest();
    assert_eq!(digest(), first);
    fs::write(folder.path("policies.d/a.toml"), format!("{POLICY}\n")).unwrap();
    let edited = digest();
    fs::write(folder.path("policies.d/b.toml"), "").unwrap();
    let with_file = digest();
    fs::write(folder.settings(), format!("timezone = \"Asia/Shanghai\"\n{ACCOUNT}")).unwrap();
    let in_zone = digest();
    let all = [first, edited, with_file, in_zone];
    assert!((1..all.len()).all(|n| !all[..n].contains(&all[n])), "{all:?}");
}

#[test]
fn secrets_are_read_from_where_their_references_point() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop-key"), "from credential\n").unwrap();
    let file = folder.path().join("key");
    fs::write(&file, "  from file \n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let environment = Environment::of_pairs([
        ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()),
        ("KEY", "from env"),
    ]);
    let value = |reference: SecretRef| resolve(&reference, &environment).unwrap().expose().to_owned();
    assert_eq!(value(SecretRef::Credential("shop-key".to_owned())), "from credential");
    assert_eq!(value(SecretRef::Env("KEY".to_owned())), "from env");
    assert_eq!(value(SecretRef::File(file)), "from file");
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, LITERAL).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = resolve(&SecretRef::File(file.clone()), &Environment::of_pairs([])).unwrap_err();
        assert!(matches!(error, SecretError::Shared { .. }));
        assert!(
            error.to_string().contains(&format!("(mode 0{mode:o}); run: chmod 600 {}", file.display())),
            "{error}"
        );
    }
}

#[test]
fn a_secret_that_is_missing_or_no_secret_is_told_without_its_text() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("empty", " \n"), ("lines", &format!("{LITERAL}\n{LITERAL}")), ("long", &"x".repeat(65 * 1024))]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::write(folder.path().join("bytes"), b"\xff\xfe").unwrap();
    let environment =
        Environment::of_pairs([("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()), ("NONE", "")]);
    let error = |reference: &str| {
        let error = resolve(&SecretRef::parse(reference).unwrap(), &environment).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(LITERAL));
        error.to_string()
    };
    assert_eq!(error("credential:empty"), "`credential:empty` is empty");
    assert!(error("credential:lines").contains("several lines"));
    assert!(error("credential:long").contains("larger than 64 KiB"));
    assert!(error("credential:bytes").contains("not UTF-8"));
    assert!(error("credential:none").contains("LoadCredential=none:"));
    assert!(error("env:NONE").contains("is not set, empty"));
    assert!(error("file:/nowhere/at/all").contains("cannot be read: No such file"));
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

#[test]
fn the_shipped_examples_are_valid_and_without_warnings() {
    let loaded = config::load_all(&shipped().join("renewd.toml"), &Environment::of_pairs([]), now()).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.value.1.policies.len(), 1);

    let practice = shipped().join("practice/renewd.toml");
    let (config, set) = config::load_all(&practice, &Environment::of_pairs([]), now()).unwrap().value;
    assert!(config.accounts.values().all(|account| account.endpoint.is_some()), "practice costs no money");
    assert_eq!(set.policies.len(), 1);
}

#[test]
fn what_the_examples_show_in_comments_is_right_too() {
    let settings = examples::with_every_setting(examples::MAIN_FILE);
    let files = examples::POLICY_FILES.map(|(name, text)| (name, examples::with_every_setting(text)));
    let folder = Folder::new(&settings, &files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let loaded = config::load_all(&folder.settings(), &Environment::of_pairs([]), now()).unwrap();
    assert_eq!(loaded.warnings, []);
    let (config, set) = loaded.value;
    assert_eq!((config.accounts.len(), set.policies.len()), (3, 6));
    let default = config::load(&Folder::new("", &[]).settings(), &Environment::of_pairs([])).unwrap().value;
    assert_eq!((config.retry, config.history, config.log), (default.retry, default.history, default.log));
    let products: BTreeSet<_> = set.policies.iter().map(|policy| policy.product).collect();
    let on_sale = Provider::ALL.iter().flat_map(|provider| provider.products().iter().copied());
    assert_eq!(products, on_sale.collect::<BTreeSet<_>>(), "an example for every product");
}

/// What the contract knows, and where a role's keys are asked for.
const KEYS_OF_MAIN_FILE: &str = "database policies timezone log.format log.level http.listen account.provider \
    account.secret_id account.secret_key account.access_key_id account.secret_access_key account.token account.credentials \
    account.metadata_endpoint account.endpoint account.bare_time_zone account.rate account.budget.orders_per_day account.budget.cny_per_day \
    account.budget.cny_per_month retry.first_delay_seconds retry.max_delay_seconds retry.max_attempts \
    retry.settle_seconds history.skipped_days history.runs_days";
const KEYS_OF_POLICIES: &str = "policy.account policy.product policy.region policy.instances policy.schedule \
    policy.timezone policy.renew.months policy.renew.within_days policy.renew.every_fire policy.enabled \
    policy.max_price_cny policy.on_auto_renew policy.unknown policy.renew_data_disks policy.upgrade.mem_size_mb \
    policy.upgrade.shards policy.upgrade.replicas policy.upgrade.allow_shrink";

#[test]
fn the_examples_show_every_key_there_is() {
    let keys = |text: &str| {
        let mut keys = BTreeSet::new();
        collect_keys(&examples::with_every_setting(text).parse().unwrap(), "", &mut keys);
        keys
    };
    let all = |list: &str| list.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(keys(examples::MAIN_FILE), all(KEYS_OF_MAIN_FILE));
    let shown: BTreeSet<String> = examples::POLICY_FILES.iter().flat_map(|(_, text)| keys(text)).collect();
    assert_eq!(shown, all(KEYS_OF_POLICIES));
}

/// Paths of keys, without the names that accounts, policies and APIs have.
fn collect_keys(table: &toml::Table, path: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = match path {
            "" => key.clone(),
            "account" | "policy" => path.to_owned() + ".",
            path => format!("{}.{key}", path.trim_end_matches('.')),
        };
        match value.as_table().filter(|_| path != "account.rate") {
            Some(table) => collect_keys(table, &path, keys),
            None => drop(keys.insert(path)),
        }
    }
}

/// An edit gone wrong: a piece of the file is replaced by something else.
fn spoilt(text: &str, from: prop::sample::Index, length: usize, insert: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let from = from.index(chars.len());
    let to = (from + length).min(chars.len());
    chars[..from].iter().copied().chain(insert.chars()).chain(chars[to..].iter().copied()).collect()
}

#[test]
fn no_spoilt_file_brings_the_reader_down_or_shows_a_secret() {
    // Nothing in its looks tells that it is a secret.
    let literal = "z8krbsJ5yKBZQpn74WFkmLPx3qqqq";
    let settings = "timezone = \"UTC\"\nlog.level = \"info\"\n".to_owned()
        + &ACCOUNT.replace("env:KEY", literal)
        + "[retry]\nmax_attempts = 3\n";
    let policies = POLICY.to_owned() + "max_price_cny = 12.50\non_auto_renew = \"skip\"\n";
    let piece = prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "\"", "'", "\"\"\"", "[", "]", "{", "}", "=", "\n", "#", ",", "\t", "é", "\u{0}", "9"
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    let edit = (any::<prop::sample::Index>(), 0..12_usize, piece);
    let cases = Cases { cases: 500, failure_persistence: None, ..Cases::default() };
    let mut runner = TestRunner::new_with_rng(cases, TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]));
    let folder = Folder::new("", &[]);
    let outcome = runner.run(&(edit.clone(), edit), |(first, second)| {
        fs::write(folder.settings(), spoilt(&settings, first.0, first.1, &first.2)).unwrap();
        fs::write(folder.path("policies.d/a.toml"), spoilt(&policies, second.0, second.1, &second.2))
            .unwrap();
        if let Err(refusal) = folder.load() {
            let shown = refusal.render(false) + &refusal.render(true);
            prop_assert!(!shown.contains(&literal[..12]), "{}", shown);
        }
        Ok(())
    });
    outcome.unwrap();
}
