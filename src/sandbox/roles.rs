//! The role of the machine that the practice cloud stands on: the temporary keys that it handed out, and which of
//! them are good.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cloud::canonical::sha256_hex;
use crate::domain::product::Provider;
use crate::sandbox::{TENCENT_KEY_PREFIX, VOLCENGINE_KEY_PREFIX};

/// Both vendors hand out hours.
const DEFAULT_LIFETIME_SECONDS: u32 = 6 * 3_600;
const DEFAULT_NAME: &str = "renewd-practice";
/// Key ids that go on like this after their provider's prefix are temporary ones. Without it, and without what follows,
/// it is the account that the calls are for: its quota, its balance, its orders.
const ROLE: &str = "-role";

/// What a machine has, as `PUT /_sandbox/role` takes it and `GET` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// One machine has one; none and several are what an operator gets wrong.
    #[serde(default = "default_names")]
    pub names: Vec<String>,
    /// Of the keys that are handed out from now on.
    #[serde(default = "default_lifetime")]
    pub lifetime_seconds: u32,
}

impl Default for Role {
    fn default() -> Role {
        Role { names: default_names(), lifetime_seconds: default_lifetime() }
    }
}

fn default_names() -> Vec<String> {
    vec![DEFAULT_NAME.to_owned()]
}

fn default_lifetime() -> u32 {
    DEFAULT_LIFETIME_SECONDS
}

/// All that was handed out, and is never forgotten: what has ended is told from what never was.
pub(crate) struct Roles {
    pub role: Role,
    issued: HashMap<String, Issued>,
    stem: String,
    given: u64,
}

struct Issued {
    token: String,
    expires_at: Timestamp,
    is_revoked: bool,
}

/// Temporary keys as they are handed out; their secret is that of all keys here.
pub(crate) struct TemporaryKey {
    pub key_id: String,
    pub token: String,
    pub expires_at: Timestamp,
}

/// Why a call with temporary keys is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadToken {
    #[error("the session token of these temporary keys is missing")]
    Missing,
    #[error("the session token is not that of these temporary keys")]
    Wrong,
    #[error("these temporary keys have expired")]
    Expired,
    #[error("these temporary keys were revoked")]
    Revoked,
}

impl Roles {
    /// Keys differ from one life of the practice cloud to the next.
    pub(crate) fn new(stem: &str) -> Roles {
        Roles { role: Role::default(), issued: HashMap::new(), stem: stem.to_owned(), given: 0 }
    }

    /// New keys at each asking.
    pub(crate) fn issue(&mut self, provider: Provider, now: Timestamp) -> TemporaryKey {
        self.given += 1;
        let hash = sha256_hex(format!("{} temporary key {}", self.stem, self.given).as_bytes());
        let key_id = format!("{}{ROLE}-{}", prefix(provider), &hash[..12]);
        let token = format!("sandbox-session-{}", &hash[12..]);
        let lifetime = SignedDuration::from_secs(i64::from(self.role.lifetime_seconds));
        // Whole seconds, as both vendors write them.
        let end = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        let expires_at = Timestamp::from_second(end.as_second()).unwrap_or(end);
        let issued = Issued { token: token.clone(), expires_at, is_revoked: false };
        self.issued.insert(key_id.clone(), issued);
        TemporaryKey { key_id, token, expires_at }
    }

    /// Ends all keys handed out so far, as a person does who takes the role's sessions back.
    pub(crate) fn revoke(&mut self) {
        self.issued.values_mut().for_each(|issued| issued.is_revoked = true);
    }

    /// Whose quota and balance a call is for. A token beside a key that is not temporary is of no account.
    pub(crate) fn account_of(
        &self,
        key_id: &str,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<String, BadToken> {
        let account = [Provider::TencentCloud, Provider::Volcengine]
            .map(|provider| format!("{}{ROLE}", prefix(provider)))
            .into_iter()
            .find(|account| key_id.strip_prefix(account.as_str()).is_some_and(|rest| rest.starts_with('-')));
        let Some(account) = account else { return Ok(key_id.to_owned()) };
        let token = token.filter(|token| !token.is_empty()).ok_or(BadToken::Missing)?;
        let issued = self.issued.get(key_id).filter(|issued| issued.token == token);
        match issued.ok_or(BadToken::Wrong)? {
            Issued { is_revoked: true, .. } => Err(BadToken::Revoked),
            issued if issued.expires_at <= now => Err(BadToken::Expired),
            _ => Ok(account),
        }
    }
}

fn prefix(provider: Provider) -> &'static str {
    match provider {
        Provider::TencentCloud => TENCENT_KEY_PREFIX,
        Provider::Volcengine => VOLCENGINE_KEY_PREFIX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_keys_are_good_with_their_own_token_until_they_end_or_are_revoked() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut roles = Roles::new("life");
        let (key, other) = (roles.issue(Provider::TencentCloud, now), roles.issue(Provider::Volcengine, now));
        let judge = |roles: &Roles, token: Option<&str>, at| roles.account_of(&key.key_id, token, at);
        assert_eq!(judge(&roles, Some(&key.token), now), Ok("AKIDsandbox-role".to_owned()));
        assert_eq!(judge(&roles, None, now), Err(BadToken::Missing));
        assert_eq!(judge(&roles, Some(""), now), Err(BadToken::Missing));
        assert_eq!(judge(&roles, Some(&other.token), now), Err(BadToken::Wrong));
        assert_eq!(judge(&Roles::new("next life"), Some(&key.token), now), Err(BadToken::Wrong));
        assert_eq!(judge(&roles, Some(&key.token), key.expires_at), Err(BadToken::Expired));
        roles.revoke();
        assert_eq!(judge(&roles, Some(&key.token), now), Err(BadToken::Revoked));
        let own = roles.account_of("AKIDsandbox-rolex", Some("any"), now);
        assert_eq!(own, Ok("AKIDsandbox-rolex".to_owned()), "of an account of its own");
    }
}
