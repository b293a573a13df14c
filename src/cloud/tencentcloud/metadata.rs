//! The metadata service of CVM, as far as it hands out a role's keys.
//!
//! Source: "instance roles" (document/product/213/47668) and the official SDK's `CVMRoleCredential`.

use jiff::Timestamp;
use serde::Deserialize;

use crate::cloud::role::{Keys, NoKeys, RoleName, SecretText};

pub const ENDPOINT: &str = "http://metadata.tencentyun.com";
pub const ROLES_PATH: &str = "/latest/meta-data/cam/security-credentials/";
const SUCCESS: &str = "Success";
const LONGEST_CODE: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    code: Option<String>,
    tmp_secret_id: Option<SecretText>,
    tmp_secret_key: Option<SecretText>,
    token: Option<SecretText>,
    expired_time: Option<i64>,
}

pub fn keys_path(role: &RoleName) -> String {
    format!("{ROLES_PATH}{role}")
}

pub(in crate::cloud) fn read_keys(body: &[u8]) -> Result<Keys, NoKeys> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| NoKeys::Unreadable)?;
    match answer.code {
        Some(code) if code == SUCCESS => {}
        Some(code) => return Err(NoKeys::Refused(readable(code))),
        None => return Err(NoKeys::Unreadable),
    }
    let keys = (answer.tmp_secret_id, answer.tmp_secret_key, answer.token, answer.expired_time);
    let (Some(key_id), Some(secret_key), Some(token), Some(end)) = keys else {
        return Err(NoKeys::Unreadable);
    };
    let expires_at = Timestamp::from_second(end).map_err(|_| NoKeys::Unreadable)?;
    Ok(Keys { key_id: key_id.0, secret_key: secret_key.0, token: token.0, expires_at })
}

fn readable(code: String) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if code.len() <= LONGEST_CODE && code.chars().all(is_word) {
        code
    } else {
        "an unreadable code".to_owned()
    }
}
