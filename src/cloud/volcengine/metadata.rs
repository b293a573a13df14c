//! The metadata service of ECS, as far as it hands out a role's keys: a session first, then whatever is asked with it.
//!
//! Source: the official SDKs' ECS role providers.

use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use crate::cloud::role::{Header, Keys, NoKeys, RoleName, SecretText};

pub const ENDPOINT: &str = "http://100.96.0.96";
pub const SESSION_PATH: &str = "/latest/api/token";
pub const ROLES_PATH: &str = "/volcstack/latest/iam/security_credentials?type=user&format=json";
const KEYS_PATH: &str = "/volcstack/latest/iam/security_credentials/";
const TTL_HEADER: &str = "x-volc-ecs-metadata-token-ttl-seconds";
/// The longest there is; a session is used for one fetch.
const TTL_SECONDS: &str = "21600";
const SESSION_HEADER: &str = "x-volc-ecs-metadata-token";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: SecretText,
    secret_access_key: SecretText,
    session_token: SecretText,
    /// RFC 3339.
    expired_time: Timestamp,
}

pub(in crate::cloud) fn session_ttl() -> Header {
    Header { name: TTL_HEADER, value: Zeroizing::new(TTL_SECONDS.to_owned()) }
}

/// None when it is no single word.
pub(in crate::cloud) fn read_session(body: &[u8]) -> Option<Header> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| Header { name: SESSION_HEADER, value: Zeroizing::new(text.to_owned()) })
}

pub fn keys_path(role: &RoleName) -> String {
    format!("{KEYS_PATH}{role}")
}

pub(in crate::cloud) fn read_keys(body: &[u8]) -> Result<Keys, NoKeys> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| NoKeys::Unreadable)?;
    let Answer { access_key_id, secret_access_key, session_token, expired_time } = answer;
    Ok(Keys {
        key_id: access_key_id.0,
        secret_key: secret_access_key.0,
        token: session_token.0,
        expires_at: expired_time,
    })
}
