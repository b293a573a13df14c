//! The real binary on a folder of its own, against a practice cloud that outlives it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use renewd::clock::SystemClock;
use renewd::sandbox::seed::Seed;
use renewd::sandbox::{Options, Running, SECRET_KEY, TENCENT_KEY_PREFIX, start};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

pub struct Service {
    folder: TempDir,
    config: PathBuf,
    lives: u32,
}

/// One life of the daemon. Dropping it is SIGKILL: no handler, no flush, no goodbye.
pub struct Life {
    pub child: Child,
    log: PathBuf,
}

pub async fn practice_cloud(seed: &str) -> Running {
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        seed: Some(Seed::parse(seed).unwrap()),
        clock: Arc::new(SystemClock::new()),
    };
    start(options).await.unwrap()
}

impl Service {
    /// `settings` goes below the accounts; `accounts` are their names, each with a key of its own.
    pub fn new(cloud: &Running, accounts: &[&str], settings: &str, policies: &str) -> Service {
        let endpoint = cloud.base_url();
        let mut text = String::from("database = \"renewd.db\"\n[log]\nformat = \"json\"\n");
        for account in accounts {
            text += &format!(
                "[account.{account}]\nprovider = \"tencentcloud\"\nsecret_id = \"env:KEY_ID_{account}\"\n\
                 secret_key = \"env:SECRET_KEY\"\nendpoint = \"{endpoint}\"\n"
            );
        }
        Service::of(&(text + settings), policies)
    }

    /// With a configuration of one's own, whose secrets are `env:KEY_ID_…` and `env:SECRET_KEY`.
    pub fn of(text: &str, policies: &str) -> Service {
        let folder = tempfile::Builder::new().prefix("renewd-test-").tempdir().unwrap();
        let config = folder.path().join("renewd.toml");
        fs::write(&config, text).unwrap();
        fs::create_dir(folder.path().join("policies.d")).unwrap();
        fs::write(folder.path().join("policies.d/fleet.toml"), policies).unwrap();
        Service { folder, config, lives: 0 }
    }

    pub fn start(&mut self, accounts: &[&str]) -> Life {
        let keys = accounts
            .iter()
            .map(|account| (format!("KEY_ID_{account}"), format!("{TENCENT_KEY_PREFIX}{account}")));
        self.start_under(&[], keys)
    }

    /// As the child of `wrapper`, a program with its arguments; of nothing when that is empty.
    pub fn start_under(
        &mut self,
        wrapper: &[String],
        keys: impl IntoIterator<Item = (String, String)>,
    ) -> Life {
        self.lives += 1;
        let log = self.folder.path().join(format!("life-{}.log", self.lives));
        let mut words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        words.push(env!("CARGO_BIN_EXE_renewd"));
        let child = Command::new(words[0])
            .args(&words[1..])
            .arg("--config")
            .arg(&self.config)
            .arg("run")
            .env_clear()
            .envs(keys)
            .env("SECRET_KEY", SECRET_KEY)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Life { child, log }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Life {
    pub fn log(&self) -> PathBuf {
        self.log.clone()
    }

    /// SIGTERM to a service that is up, and the exit that must be a good one.
    pub fn stop(mut self) {
        while !std::fs::read_to_string(&self.log).unwrap().contains("service.ready") {
            self.assert_alive();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", tail(&self.log));
    }

    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the daemon ended by itself: {ended:?}\n{}", tail(&self.log));
    }
}

impl Drop for Service {
    /// What a failed test leaves is there to be looked at.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("database and logs are kept in {}", self.folder.path().display());
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // With what it wraps or is wrapped in; it may have ended by itself already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
