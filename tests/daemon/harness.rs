//! A stage for one story: a folder with a configuration, a practice cloud, and the binary run in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use renewd::clock::{Clock, SystemClock};
use renewd::sandbox::{self, Options, Running, SECRET_KEY};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const KEY_ID: &str = "AKIDsandbox-behaviour";
/// Nothing here takes a tenth of it on an idle machine.
const DEADLINE: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// The practice cloud's thread is left behind with the stage that holds it.
pub struct Stage {
    pub cloud: Running,
    runtime: Runtime,
    folder: TempDir,
}

/// What a story changes about `renewd.toml`.
pub struct Settings {
    pub level: &'static str,
    pub max_delay_seconds: u32,
    /// More of `[account.shop]` and tables below it.
    pub account: &'static str,
    pub key_id: &'static str,
    pub secret: &'static str,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { level: "info", max_delay_seconds: 2, account: "", key_id: KEY_ID, secret: SECRET_KEY }
    }
}

impl Stage {
    pub fn new() -> Stage {
        Stage::with(&Settings::default())
    }

    pub fn with(settings: &Settings) -> Stage {
        Stage::with_clock(settings, Arc::new(SystemClock::new()))
    }

    /// With the cloud's own clock.
    pub fn with_clock(settings: &Settings, clock: Arc<dyn Clock>) -> Stage {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
        let options = Options { listen, seed: None, clock };
        let cloud = runtime.block_on(sandbox::start(options)).unwrap();
        let stage = Stage { cloud, runtime, folder: tempfile::tempdir().unwrap() };
        write_settings(stage.folder(), &stage.cloud.base_url(), settings);
        stage
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn database(&self) -> PathBuf {
        self.folder().join("renewd.db")
    }

    pub fn write_policies(&self, text: &str) {
        write_policies(self.folder(), text);
    }

    /// With `[http]` from the next start on.
    pub fn listen(&self, address: &str) {
        let path = self.folder().join("renewd.toml");
        let settings = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{settings}[http]\nlisten = \"{address}\"\n")).unwrap();
    }

    /// Edits `renewd.toml` as `sed` does: a new file takes the old one's place.
    pub fn edit_settings(&self, edit: impl FnOnce(String) -> String) {
        let path = self.folder().join("renewd.toml");
        replace_file(&path, &edit(fs::read_to_string(&path).unwrap()));
    }

    pub fn write_secret(&self, secret: &str) {
        write_secret(&self.folder().join("secret-key"), secret);
    }

    /// Work on the database, beside the daemon.
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    pub fn expires_in_days(&self, instance: &str, days: i64) -> Timestamp {
        let expires_at = Timestamp::from_second(Timestamp::now().as_second()).unwrap()
            + SignedDuration::from_hours(24 * days);
        self.change(instance, json!({ "expires_at": expires_at }));
        expires_at
    }

    pub fn expire_in_days(&self, instances: impl IntoIterator<Item = impl AsRef<str>>, days: i64) {
        for instance in instances {
            self.expires_in_days(instance.as_ref(), days);
        }
    }

    /// As `PUT /_sandbox/instances/ID`.
    pub fn change(&self, instance: &str, change: Value) {
        self.cloud.set_instance(instance, serde_json::from_value(change).unwrap()).unwrap();
    }

    /// Starts the service and waits until it is ready.
    pub fn start(&self) -> Daemon {
        start(self.folder())
    }

    pub fn renewd(&self, arguments: &[&str]) -> Output {
        renewd(self.folder(), arguments)
    }

    /// A command that must succeed; its stdout.
    pub fn ok(&self, arguments: &[&str]) -> String {
        ok(self.folder(), arguments)
    }

    pub fn list(&self, arguments: &[&str]) -> Vec<Value> {
        list(self.folder(), arguments)
    }

    pub fn orders(&self) -> Vec<Value> {
        self.list(&["orders"])
    }

    pub fn runs_of(&self, instance: &str) -> Vec<Value> {
        self.list(&["runs", "--instance", instance])
    }

    pub fn orders_of(&self, instance: &str) -> Vec<Value> {
        self.list(&["orders", "--instance", instance])
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }

    pub fn charges_of(&self, instance: &str) -> usize {
        self.cloud.ledger().iter().filter(|charge| charge.instance == instance).count()
    }

    /// Waits until the instance has an order in the state; answers the order.
    pub fn until_order(&self, instance: &str, state: &str) -> Value {
        let look = || self.orders_of(instance).into_iter().find(|order| order["state"] == state);
        until_or_tell(&format!("{instance} has an order that is {state}"), look, || self.story_of(instance))
    }

    /// Waits until a run of the instance is in the state; answers the latest such run.
    pub fn until_run(&self, instance: &str, state: &str) -> Value {
        let look = || self.runs_of(instance).into_iter().find(|run| run["state"] == state);
        until_or_tell(&format!("{instance} has a run that is {state}"), look, || self.story_of(instance))
    }

    fn story_of(&self, instance: &str) -> String {
        format!("{:#?}\n{}", self.orders_of(instance), self.ok(&["why", instance]))
    }

    /// The ledger and the database say the same, and nobody was charged twice.
    pub fn assert_agreement(&self) {
        let ledger = serde_json::to_value(self.cloud.ledger()).unwrap();
        assert_agreement(ledger.as_array().unwrap(), &self.orders());
    }
}

/// Each charge has exactly one confirmed order, alike in every fact both know, and the other way round.
pub fn assert_agreement(ledger: &[Value], orders: &[Value]) {
    let confirmed: Vec<&Value> = orders.iter().filter(|order| order["state"] == "confirmed").collect();
    assert_eq!(ledger.len(), confirmed.len(), "ledger {ledger:#?}\norders {orders:#?}");
    for charge in ledger {
        let alike: Vec<&&Value> =
            confirmed.iter().filter(|order| order["order_id"] == charge["order_id"]).collect();
        let [order] = alike.as_slice() else { panic!("{charge:#} has {} orders", alike.len()) };
        for fact in ["provider", "product", "action", "instance", "months"] {
            assert_eq!(order[fact], charge[fact], "{fact} of {order:#}");
        }
        for time in ["expiry_before", "expiry_after"] {
            // An upgrade moves no expiry, and its row claims none.
            if order[time].is_null() && charge["action"] == "upgrade" {
                continue;
            }
            assert_eq!(instant(&order[time]), instant(&charge[time]), "{time} of {order:#}");
        }
        // A renewal's one cycle; an upgrade's dimensions are orders of their own.
        let same = |other: &&Value| ["instance", "action"].iter().all(|fact| other[fact] == charge[fact]);
        let charges = ledger.iter().filter(same).count();
        assert!(charges == 1 || charge["action"] == "upgrade", "{} was charged twice", charge["instance"]);
    }
}

/// Of a policy that fires each second: every second from its first firing to its last has one run, or is counted in one.
pub fn assert_each_second_is_accounted_for(mut runs: Vec<Value>) {
    runs.sort_by_key(|run| instant(&run["due_at"]));
    for pair in runs.windows(2) {
        let apart = instant(&pair[1]["due_at"]).duration_since(instant(&pair[0]["due_at"]));
        let accounted = match text(&pair[1], "origin") {
            "catch_up" => pair[1]["missed_count"].as_i64().unwrap(),
            _ => {
                assert_eq!(pair[1]["missed_count"], 0);
                1
            }
        };
        assert_eq!((apart.as_secs(), apart.subsec_nanos()), (accounted, 0), "{pair:#?}");
    }
}

/// How many orders left at most within a second. A little less than one: the row's time is read a moment before the
/// pace counts the request.
pub fn most_sent_in_a_second(orders: &[Value]) -> usize {
    const NEARLY_A_SECOND: SignedDuration = SignedDuration::from_millis(950);
    let mut sent: Vec<Timestamp> = orders
        .iter()
        .filter(|order| !order["sent_at"].is_null())
        .map(|order| instant(&order["sent_at"]))
        .collect();
    sent.sort_unstable();
    let within =
        |from: &Timestamp| sent.iter().filter(|at| *at >= from && **at < *from + NEARLY_A_SECOND).count();
    sent.iter().map(within).max().unwrap_or(0)
}

pub fn instant(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value:#}"))
}

/// A policy that fires each second and renews for a month.
pub fn policy(name: &str, instances: &[&str], more: &str) -> String {
    format!(
        "[policy.{name}]\naccount = \"shop\"\nproduct = \"redis\"\nregion = \"ap-guangzhou\"\n\
         instances = {instances:?}\nschedule = \"* * * * * *\"\nrenew = {{ months = 1 }}\n{more}\n"
    )
}

pub fn write_settings(folder: &Path, endpoint: &str, settings: &Settings) {
    let Settings { level, max_delay_seconds, account, key_id, secret } = settings;
    write_secret(&folder.join("secret-id"), key_id);
    write_secret(&folder.join("secret-key"), secret);
    fs::create_dir_all(folder.join("policies.d")).unwrap();
    let text = format!(
        "database = \"renewd.db\"\npolicies = \"policies.d\"\n\
         [log]\nformat = \"json\"\nlevel = \"{level}\"\n\
         [account.shop]\nprovider = \"tencentcloud\"\nsecret_id = \"file:secret-id\"\n\
         secret_key = \"file:secret-key\"\nendpoint = \"{endpoint}\"\n{account}\n\
         [retry]\nfirst_delay_seconds = 1\nmax_delay_seconds = {max_delay_seconds}\nsettle_seconds = 3\n"
    );
    fs::write(folder.join("renewd.toml"), text).unwrap();
}

pub fn write_policies(folder: &Path, text: &str) {
    fs::write(folder.join("policies.d/story.toml"), text).unwrap();
}

/// As most editors save: the whole text in a file of its own, which then takes the name.
pub fn replace_file(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

pub fn write_secret(path: &Path, secret: &str) {
    let mut open = fs::OpenOptions::new();
    let mut file = open.create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(secret.as_bytes()).unwrap();
}

/// The binary in the folder, with nothing of this process's surroundings.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_renewd"));
    command
        .arg("--config")
        .arg(folder.join("renewd.toml"))
        .args(arguments)
        .env_clear()
        .env("USER", "operator")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn renewd(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

pub fn ok(folder: &Path, arguments: &[&str]) -> String {
    let output = renewd(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub fn list(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let text = ok(folder, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_or_tell(what, look, String::new)
}

/// As [`until`]; what `tell` has to say goes with the complaint.
pub fn until_or_tell<T>(what: &str, mut look: impl FnMut() -> Option<T>, tell: impl Fn() -> String) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}\n{}", tell());
        std::thread::sleep(LOOK_EVERY);
    }
}

pub fn start(folder: &Path) -> Daemon {
    let daemon = Daemon::spawn(command(folder, &["run"]));
    daemon.until_event("service.ready");
    daemon
}

/// A process of ours with all it writes to stderr; killed when dropped.
pub struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    pub fn spawn(mut command: Command) -> Daemon {
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, written) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        Daemon { child, lines, reader: Some(reader) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn events(&self, kind: &str) -> Vec<Value> {
        let parse = |line: &String| serde_json::from_str::<Value>(line).ok();
        self.lines().iter().filter_map(parse).filter(|event| event["event"] == kind).collect()
    }

    pub fn until_event(&self, kind: &str) -> Value {
        self.until_event_that(kind, |_| true)
    }

    pub fn until_event_that(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let look = || self.events(kind).into_iter().find(&fits);
        until_or_tell(&format!("{kind} is logged"), look, || self.lines().join("\n"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Tells it to read the files again and waits for its answer of that kind.
    pub fn reload(&self, answer: &str) -> Value {
        self.after(|| self.signal(Signal::HUP), answer)
    }

    /// Does something and waits for the next event of that kind.
    pub fn after(&self, act: impl FnOnce(), kind: &str) -> Value {
        let before = self.events(kind).len();
        act();
        let look = || self.events(kind).into_iter().nth(before);
        until_or_tell(&format!("{kind} is logged"), look, || self.lines().join("\n"))
    }

    /// Waits for its end; all it wrote is in hand then.
    pub fn until_end(&mut self) -> ExitStatus {
        let status = until("the process ends", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    pub fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        let status = self.until_end();
        assert!(status.success(), "{status}:\n{}", self.lines().join("\n"));
        self.lines()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
