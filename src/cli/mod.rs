//! The command line: one file a command.
//!
//! Results go to stdout, messages to stderr. Exit codes: 0 fine, 1 failed, 2 wrong usage, 78 configuration or
//! policies refused.

mod backup;
mod check;
mod completions;
mod demo;
mod listing;
mod lists;
mod man;
mod orders_control;
mod output;
mod person;
mod plan;
mod progress;
mod run;
mod sandbox;
mod status;
mod time_argument;
mod times;
mod why;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use jiff::Timestamp;

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Environment, ServiceMark};
use crate::domain::order::OrderState;
use crate::domain::run::RunState;
use crate::store::{DaemonLock, Filter, Store};
use time_argument::{Direction, TimeArgument};

const DEFAULT_CONFIG: &str = "/etc/renewd/renewd.toml";
const CONFIG_VARIABLE: &str = "RENEWD_CONFIG";

const EXIT_FAILED: u8 = 1;
/// `EX_CONFIG` of sysexits.h: the unit does not restart on it.
const EXIT_REFUSED: u8 = 78;

/// Keeps prepaid cloud instances from lapsing, without ever paying twice.
///
/// renewd reads policies from files and, when they say so, renews or upgrades prepaid instances at Tencent Cloud and
/// Volcengine. `renewd run` is the service; the other commands look at what it does or tell it something, and work while
/// it is down too.
#[derive(Debug, Parser)]
#[command(name = "renewd", version, propagate_version = true)]
struct Cli {
    /// The main configuration file [env: RENEWD_CONFIG] [default: /etc/renewd/renewd.toml].
    // Not clap's own env and default: it takes a variable that is set and empty for a missing value.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service in the foreground.
    ///
    /// SIGHUP reads the files again, SIGTERM and SIGINT stop: no new orders, requests under way are finished.
    Run,
    /// Validate everything; print the zone and the next five firings of each policy. `--online` asks the clouds too.
    ///
    /// Every mistake of every file is told at once, with its place and what would be right.
    Check(check::CheckArgs),
    /// What would happen with the policies on disk, and what it costs: renew, upgrade, skip or blocked, and why.
    Plan(plan::PlanArgs),
    /// What runs, what is queued, what is paused, what is at risk.
    Status(ShownArgs),
    /// The policies in force.
    ///
    /// With those that are disabled, and those that have left the files; the latest accepted first.
    #[command(mut_arg("state", |state| state.value_parser(lists::POLICY_STATES)))]
    Policies(ListArgs),
    /// The instances of the policies, soonest expiry first.
    #[command(mut_arg("state", |state| state.value_parser(lists::INSTANCE_STATES)))]
    Instances(ListArgs),
    /// Runs, newest first.
    ///
    /// A run is one firing of one policy for one instance. It ends once, with a reason.
    #[command(mut_arg("state", |state| state.value_parser(RunState::ALL.map(RunState::as_str))))]
    Runs(ListArgs),
    /// Orders, newest first.
    ///
    /// An order is one purchase request, recorded before it is sent. Its ROW is what `renewd resolve` takes.
    #[command(mut_arg("state", |state| state.value_parser(OrderState::ALL.map(OrderState::as_str))))]
    Orders(ListArgs),
    /// Why the latest run of an instance did what it did, in words.
    ///
    /// Every test with its value and verdict, its orders, its calls to the cloud, and what you may have to do.
    Why(why::WhyArgs),
    /// Stop orders: of an account, of a policy, or all of them. In force when the command returns.
    ///
    /// Orders already sent are followed to their end. It works before the first start of the service too.
    Pause(orders_control::PauseArgs),
    /// Allow orders again.
    ///
    /// Without a filter every pause is lifted, those that the service set itself too.
    Resume(orders_control::ResumeArgs),
    /// Settle an order of which no evidence tells whether it was paid.
    ///
    /// Look in the console first. What you say is recorded with your name; --not-paid is refused when the expiry has moved.
    Resolve(orders_control::ResolveArgs),
    /// Fire a policy now, whatever its schedule says.
    ///
    /// All tests before an order still apply. It lapses if no service takes it within 10 minutes.
    Trigger(orders_control::TriggerArgs),
    /// Queue a new run for a failed one: the same firing, so never a second charge for it.
    Retry(orders_control::RetryArgs),
    /// Copy the database while the service runs; a service started on the copy holds all orders until `resume`.
    ///
    /// The copy is whole and checked when it gets its name. No secret is in it.
    Backup(backup::BackupArgs),
    /// The practice cloud: plays the providers, charges nobody.
    Sandbox(sandbox::SandboxArgs),
    /// The main job on the practice cloud, with sample policies; ends by itself.
    Demo,
    /// Print the completions of a shell: put them where it looks for them.
    ///
    /// For bash: `renewd completions bash > /usr/share/bash-completion/completions/renewd`.
    Completions(completions::CompletionsArgs),
    /// Write the manual: a page for renewd, one for each command, one for the configuration.
    ///
    /// `man -l DIR/renewd.1` shows a page from where it is; a package installs them into man1 and man5.
    Man(man::ManArgs),
}

/// How a command shows what it found.
#[derive(Debug, Args)]
struct ShownArgs {
    /// Print JSON; its times are UTC.
    #[arg(long)]
    json: bool,
    /// Show times in UTC instead of the `timezone` of renewd.toml.
    #[arg(long)]
    utc: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Only of this account.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only of this instance.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Only in this state.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only what was made (of instances: observed, of policies: accepted) since then: an RFC 3339 time, a date or time in the `timezone` of renewd.toml, or a span back from now
    /// such as 36h or 2d.
    #[arg(long, value_name = "TIME", value_parser = TimeArgument::parse)]
    since: Option<TimeArgument>,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    #[command(flatten)]
    shown: ShownArgs,
}

impl ListArgs {
    fn filter(&self, config: &Config) -> Result<Filter, Failure> {
        let since = self.since.map(|since| since.resolve(config, now(), Direction::Back)).transpose()?;
        Ok(Filter {
            policy: self.policy.clone(),
            account: self.account.clone(),
            instance: self.instance.clone(),
            state: self.state.clone(),
            since,
            limit: self.limit,
        })
    }
}

/// What a command failed with; printed once, to stderr.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<ExitCode, Failure>;

/// Parses the arguments of the process and does what they say.
pub fn main() -> ExitCode {
    // clap itself exits with 2 on wrong usage.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    runtime.block_on(dispatch(cli)).unwrap_or_else(|error| failed(&error))
}

async fn dispatch(cli: Cli) -> Outcome {
    let config = config_file(cli.config);
    let config = config.as_path();
    match &cli.command {
        Command::Run => run::run(config).await,
        Command::Check(args) => check::check(config, args).await,
        Command::Plan(args) => plan::plan(config, args).await,
        Command::Status(args) => status::status(config, args).await,
        Command::Policies(args) => lists::policies(config, args).await,
        Command::Instances(args) => lists::instances(config, args).await,
        Command::Runs(args) => lists::runs(config, args).await,
        Command::Orders(args) => lists::orders(config, args).await,
        Command::Why(args) => why::why(config, args).await,
        Command::Pause(args) => orders_control::pause(config, args).await,
        Command::Resume(args) => orders_control::resume(config, args).await,
        Command::Resolve(args) => orders_control::resolve(config, args).await,
        Command::Trigger(args) => orders_control::trigger(config, args).await,
        Command::Retry(args) => orders_control::retry(config, args).await,
        Command::Backup(args) => backup::backup(config, args).await,
        Command::Sandbox(args) => sandbox::sandbox(args).await,
        Command::Demo => demo::demo().await,
        Command::Completions(args) => completions::completions(Cli::command(), args),
        Command::Man(args) => man::man(Cli::command(), args),
    }
}

fn config_file(named: Option<PathBuf>) -> PathBuf {
    let of_environment = || std::env::var_os(CONFIG_VARIABLE).filter(|value| !value.is_empty());
    named.or_else(|| of_environment().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
}

/// For commands that need the time once.
fn now() -> Timestamp {
    SystemClock::new().now()
}

fn failed(error: &Failure) -> ExitCode {
    output::say(&format!("renewd: {error}"));
    ExitCode::from(EXIT_FAILED)
}

/// The database for a command that writes beside the daemon, or the exit code after it was told why not.
async fn open_store(path: &Path) -> Result<Result<(Config, Store), ExitCode>, Failure> {
    let config = match load_for_database(path) {
        Ok(config) => config,
        Err(code) => return Ok(Err(code)),
    };
    refuse_another_database(&config)?;
    let store = Store::open_for_command(&config.database).await?;
    Ok(Ok((config, store)))
}

/// As [`open_store`], for a command that makes sense before the service has ever run: it makes the database.
async fn open_or_make_store(path: &Path) -> Result<Result<(Config, Store), ExitCode>, Failure> {
    let config = match load_for_database(path) {
        Ok(config) => config,
        Err(code) => return Ok(Err(code)),
    };
    let store = make_store(&config).await?;
    Ok(Ok((config, store)))
}

async fn make_store(config: &Config) -> Result<Store, Failure> {
    refuse_another_database(config)?;
    let (store, is_made) = Store::open_or_make(&config.database).await?;
    if is_made {
        output::say(&format!(
            "renewd: made the database {}: the service has not run yet",
            config.database.display()
        ));
    }
    Ok(store)
}

/// As [`open_store`], for a command that only reads: it needs no more rights than that.
async fn open_store_to_read(path: &Path) -> Result<Result<(Config, Store), ExitCode>, Failure> {
    let config = match load_for_database(path) {
        Ok(config) => config,
        Err(code) => return Ok(Err(code)),
    };
    if serves_another(&config) {
        output::say(&format!("renewd: warning: {}", another_database(&config)));
    }
    let store = Store::open_for_reading(&config.database).await?;
    Ok(Ok((config, store)))
}

/// Whether a service runs by this file and holds another database than the file names now: `database` was edited and
/// only a restart takes it.
fn serves_another(config: &Config) -> bool {
    !DaemonLock::is_held(&config.database) && ServiceMark::is_set(&config.source)
}

/// What is written into a database that nobody serves stops no order.
fn refuse_another_database(config: &Config) -> Result<(), Failure> {
    match serves_another(config) {
        true => Err(format!("nothing was done: {}", another_database(config)).into()),
        false => Ok(()),
    }
}

fn another_database(config: &Config) -> String {
    format!(
        "a service runs by {}, but not on the database {} that the file names now: it goes by the one that it started \
         with until it is restarted. Restart it (`systemctl restart renewd`), or put `database` back as it was",
        config.source.display(),
        config.database.display()
    )
}

/// A mistake in `renewd.toml` does not stop a command as long as the database is certain: it is told, and the
/// command goes on.
fn load_for_database(path: &Path) -> Result<Config, ExitCode> {
    let lenient = config::load_leniently(path, &Environment::of_process()).map_err(|refusal| {
        output::say(&refusal.render(output::colour_on_stderr()));
        ExitCode::from(EXIT_REFUSED)
    })?;
    let config = lenient.config;
    if lenient.refused.is_some() {
        output::say(&format!(
            "renewd: warning: {} has mistakes and the service would not start with it: `renewd check` shows \
             them. Going on with the database {}",
            path.display(),
            config.database.display()
        ));
    }
    Ok(config)
}
