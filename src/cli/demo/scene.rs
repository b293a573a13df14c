//! The demo's stage: instances, policies, and what the practice cloud is told to get wrong.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::super::Failure;
use crate::sandbox::faults::{Effect, Fault, Spoilt};
use crate::sandbox::instance::{InstanceChange, Switch};
use crate::sandbox::{Running, SECRET_KEY, TENCENT_KEY_PREFIX, VOLCENGINE_KEY_PREFIX};

/// One run an instance.
pub(super) const RUNS: usize = 13;

/// Far enough off that the daemon is up, near enough that nobody waits.
const FIRES_IN: SignedDuration = SignedDuration::from_secs(3);
const FAR_EXPIRY: SignedDuration = SignedDuration::from_hours(24 * 200);

const RENEW: &str = "redis:RenewInstance";

const SETTINGS: &str = r#"timezone = "UTC"

[account.practice]
provider   = "tencentcloud"
secret_id  = "file:secret-id"
secret_key = "file:secret-key"
endpoint   = "ENDPOINT"

[account.games]
provider          = "volcengine"
access_key_id     = "file:access-key-id"
secret_access_key = "file:secret-key"
endpoint          = "ENDPOINT"

# So short only here: in service an unknown order is watched for six hours before it may be called not ordered.
[retry]
first_delay_seconds = 2
max_delay_seconds   = 10
settle_seconds      = 6
"#;

const POLICIES: &str = r#"[policy.session-cache]
account   = "practice"
product   = "redis"
region    = "ap-guangzhou"
instances = ["crs-sandbox-1", "crs-sandbox-3", "crs-sandbox-4", "crs-sandbox-5", "crs-sandbox-6"]
schedule  = "SECOND * * * * *"
renew     = { months = 1 }

[policy.orders-cache]
account   = "practice"
product   = "redis"
region    = "ap-shanghai"
instances = ["crs-sandbox-2"]
schedule  = "SECOND * * * * *"
renew     = { months = 12 }
max_price_cny = 1200

[policy.reports-cache]
account   = "practice"
product   = "redis"
region    = "ap-beijing"
instances = ["crs-sandbox-7", "crs-sandbox-8", "crs-sandbox-9"]
schedule  = "SECOND * * * * *"
renew     = { months = 1, within_days = 15 }

[policy.web-vm]
account   = "practice"
product   = "cvm"
region    = "ap-guangzhou"
instances = ["ins-sandbox-1"]
schedule  = "SECOND * * * * *"
renew     = { months = 1 }

[policy.old-vm]
account   = "practice"
product   = "cvm-v2"
region    = "gz"
instances = ["ins-sandbox-2"]
schedule  = "SECOND * * * * *"
renew     = { months = 1 }

[policy.grow-before-sale]
account   = "practice"
product   = "redis"
region    = "ap-guangzhou"
instances = ["crs-sandbox-sale"]
schedule  = "SECOND * * * * *"
upgrade   = { mem_size_mb = 4096, replicas = 2 }

[policy.game-server]
account   = "games"
product   = "ecs"
region    = "cn-beijing"
instances = ["i-sandbox-1"]
schedule  = "SECOND * * * * *"
renew     = { months = 1, within_days = 15 }
"#;

/// Sets the stage in `folder`; answers when the policies fire.
pub(super) fn set(cloud: &Running, folder: &Path, now: Timestamp) -> Result<Timestamp, Failure> {
    let fires_at = Timestamp::from_second((now + FIRES_IN).as_second())?;
    let second = fires_at.as_second().rem_euclid(60).to_string();
    write_secret(&folder.join("secret-id"), &format!("{TENCENT_KEY_PREFIX}demo"))?;
    write_secret(&folder.join("access-key-id"), &format!("{VOLCENGINE_KEY_PREFIX}demo"))?;
    write_secret(&folder.join("secret-key"), SECRET_KEY)?;
    fs::write(folder.join("renewd.toml"), SETTINGS.replace("ENDPOINT", &cloud.base_url()))?;
    fs::create_dir(folder.join("policies.d"))?;
    fs::write(folder.join("policies.d/practice.toml"), POLICIES.replace("SECOND", &second))?;
    let far = InstanceChange { expires_at: Some(now + FAR_EXPIRY), ..InstanceChange::default() };
    cloud.set_instance("crs-sandbox-8", far)?;
    cloud.set_instance("crs-sandbox-sale", InstanceChange::default())?;
    let auto_renew = InstanceChange { auto_renew: Some(Switch(true)), ..InstanceChange::default() };
    cloud.set_instance("crs-sandbox-9", auto_renew)?;
    cloud.inject(faults());
    Ok(fires_at)
}

fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?.write_all(secret.as_bytes())
}

fn faults() -> Vec<Fault> {
    let code = |code: &str| Spoilt::Code(code.to_owned());
    vec![
        Fault::spoil(RENEW, Effect::Before, code("RequestLimitExceeded")).on("crs-sandbox-3"),
        Fault::spoil(RENEW, Effect::Before, code("ResourceInUse.InstanceBeenLocked")).on("crs-sandbox-4"),
        Fault::spoil(RENEW, Effect::After, Spoilt::Drop).on("crs-sandbox-5"),
        Fault::spoil(RENEW, Effect::Before, Spoilt::Drop).on("crs-sandbox-6"),
        Fault::spoil(RENEW, Effect::Before, code("LimitExceeded.PeriodExceedMaxLimit")).on("crs-sandbox-7"),
    ]
}

pub(super) fn opening(url: &str, fires_at: Timestamp) -> String {
    format!(
        "The practice cloud listens on {url}; seven policies over ten Redis instances, two
CVM (one by each of its APIs) and one ECS fire at {}.
It will throttle crs-sandbox-3, lock crs-sandbox-4, cut the answer to crs-sandbox-5 after charging for it,
cut the one to crs-sandbox-6 without a charge, and refuse crs-sandbox-7. crs-sandbox-8 is not due; crs-sandbox-9
renews itself in the console. crs-sandbox-sale is upgraded in memory and copies, one order after the other.
",
        fires_at.strftime("%H:%M:%SZ")
    )
}
