//! The role bound to the machine that renewd runs on: temporary keys, from a metadata service that only the machine
//! can reach. Nothing has to be kept secret on disk then.
//!
//! Invariant: time and size are bounded, no proxy is used and no redirect followed: what comes from elsewhere than the
//! address asked is not the machine's role. No message repeats an answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, Method};
use secrecy::zeroize::Zeroizing;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use thiserror::Error;

use crate::clock::Clock;
use crate::cloud::account::Credentials;
use crate::cloud::endpoint::Endpoint;
use crate::cloud::{BuildError, header, tencentcloud, transport, volcengine};
use crate::domain::failure::{Class, Failure};
use crate::domain::product::Provider;
use crate::domain::secret::Secret;

/// It is a few microseconds away, on the machine's own host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(3);
/// Keys with a session token are two thousand bytes.
const ANSWER_MAX_BYTES: usize = 32 * 1024;
const NAME_MAX: usize = 128;

/// What a role is called, in configuration and in the path that its keys are asked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleName(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not the name of a role: letters, digits and any of _ + = , . @ -, at most 128")]
pub struct NotARoleName;

impl RoleName {
    pub fn parse(text: &str) -> Result<RoleName, NotARoleName> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        let is_path = text.chars().all(|c| c == '.');
        let is_name = !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(is_allowed) && !is_path;
        if is_name { Ok(RoleName(text.to_owned())) } else { Err(NotARoleName) }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A role, and where its keys are asked for.
pub struct Role {
    provider: Provider,
    /// None: the one that the machine has.
    name: Option<RoleName>,
    endpoint: Endpoint,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// Keys of a role for a while.
#[derive(Debug)]
pub struct Issued {
    pub credentials: Credentials,
    pub expires_at: Timestamp,
    pub role: RoleName,
}

/// What a provider's answer holds.
pub(super) struct Keys {
    pub key_id: Secret,
    pub secret_key: Secret,
    pub token: Secret,
    pub expires_at: Timestamp,
}

/// Why an answer holds no keys.
pub(super) enum NoKeys {
    Unreadable,
    /// With the service's own word for it.
    Refused(String),
}

/// A header that an answer depends on.
pub(super) struct Header {
    pub name: &'static str,
    pub value: Zeroizing<String>,
}

struct Answer {
    http_status: u16,
    body: Zeroizing<Vec<u8>>,
}

impl Role {
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(
        provider: Provider,
        name: Option<RoleName>,
        endpoint: Option<Endpoint>,
        clock: Arc<dyn Clock>,
    ) -> Result<Role, BuildError> {
        let endpoint = endpoint.unwrap_or_else(|| Role::endpoint_of(provider));
        let client = transport::client(CONNECT_TIMEOUT).timeout(TIMEOUT).pool_max_idle_per_host(0).build()?;
        Ok(Role { provider, name, endpoint, client, clock })
    }

    /// Where the vendor's machines find it.
    pub fn endpoint_of(provider: Provider) -> Endpoint {
        let text = match provider {
            Provider::TencentCloud => tencentcloud::metadata::ENDPOINT,
            Provider::Volcengine => volcengine::metadata::ENDPOINT,
        };
        Endpoint::parse(text).unwrap_or_else(|error| unreachable!("{text} {error}"))
    }

    /// Whether the keys would be the same ones.
    pub fn is_same(&self, other: &Role) -> bool {
        let parts = |role: &Role| (role.provider, role.name.clone(), role.endpoint.clone());
        parts(self) == parts(other)
    }

    /// Whose quota its keys use up, however often they are replaced. By the machine and not by the role's name: two
    /// roles of one machine belong to one account at the cloud.
    pub fn quota(&self) -> String {
        format!("role of {} at {}", self.provider, self.endpoint)
    }

    /// Asks for keys, once.
    ///
    /// # Errors
    /// `unsent` where the service cannot be asked or is not to be understood, `credential` where somebody has to bind a
    /// role or to name the right one.
    pub async fn fetch(&self) -> Result<Issued, Failure> {
        let session = match self.provider {
            Provider::TencentCloud => None,
            Provider::Volcengine => Some(self.session().await?),
        };
        let role = match &self.name {
            Some(name) => name.clone(),
            None => self.discover(session.as_ref()).await?,
        };
        let path = match self.provider {
            Provider::TencentCloud => tencentcloud::metadata::keys_path(&role),
            Provider::Volcengine => volcengine::metadata::keys_path(&role),
        };
        let answer = self.ask(Method::GET, &path, session.as_ref()).await?;
        if answer.http_status == 404 {
            let message = format!("this machine has no role {role}: bind it, or correct `credentials`");
            return Err(Failure::ours(Class::Credential, "NoSuchRole", message));
        }
        let body = self.body_of(answer)?;
        let keys = match self.provider {
            Provider::TencentCloud => tencentcloud::metadata::read_keys(&body),
            Provider::Volcengine => volcengine::metadata::read_keys(&body),
        };
        self.accept(role, keys)
    }

    /// Volcengine's service wants a token first, so that nothing on the machine can be tricked into asking.
    async fn session(&self) -> Result<Header, Failure> {
        let answer = self
            .ask(Method::PUT, volcengine::metadata::SESSION_PATH, Some(&volcengine::metadata::session_ttl()))
            .await?;
        let body = self.body_of(answer)?;
        volcengine::metadata::read_session(&body).ok_or_else(|| self.unreadable("a session"))
    }

    async fn discover(&self, session: Option<&Header>) -> Result<RoleName, Failure> {
        let path = match self.provider {
            Provider::TencentCloud => tencentcloud::metadata::ROLES_PATH,
            Provider::Volcengine => volcengine::metadata::ROLES_PATH,
        };
        let answer = self.ask(Method::GET, path, session).await?;
        let names = if answer.http_status == 404 { Vec::new() } else { self.names(answer)? };
        match names.as_slice() {
            [] => {
                let message = format!(
                    "no role is bound to this machine: bind one that may renew in the console of {}",
                    self.provider
                );
                Err(Failure::ours(Class::Credential, "NoRole", message))
            }
            [one] => Ok(one.clone()),
            several => {
                let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                let message = format!(
                    "this machine has several roles ({}): name one, as in credentials = \"instance-role:{}\"",
                    names.join(", "),
                    names[0]
                );
                Err(Failure::ours(Class::Credential, "SeveralRoles", message))
            }
        }
    }

    fn names(&self, answer: Answer) -> Result<Vec<RoleName>, Failure> {
        let body = self.body_of(answer)?;
        let text = std::str::from_utf8(&body).map_err(|_| self.unreadable("its roles"))?;
        let names: Vec<String> = match serde_json::from_str(text) {
            Ok(names) => names,
            // One a line, which is all that one of the vendors knows and the other's older machines do.
            Err(_) => {
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
        };
        let parsed: Result<Vec<RoleName>, NotARoleName> =
            names.iter().map(|name| RoleName::parse(name)).collect();
        parsed.map_err(|_| self.unreadable("its roles"))
    }

    fn accept(&self, role: RoleName, keys: Result<Keys, NoKeys>) -> Result<Issued, Failure> {
        let keys = keys.map_err(|no_keys| match no_keys {
            NoKeys::Unreadable => self.unreadable(&format!("the keys of role {role}")),
            NoKeys::Refused(word) => {
                let message = format!(
                    "the metadata service at {} gives no keys of role {role} ({word}): see in the console of {} that \
                     the role exists and that machines may take it",
                    self.endpoint, self.provider
                );
                Failure::ours(Class::Credential, "RoleRefused", message)
            }
        })?;
        let Keys { key_id, secret_key, token, expires_at } = keys;
        let is_usable = |secret: &Secret| !secret.is_empty() && !secret.expose().contains(char::is_control);
        if ![&key_id, &secret_key, &token].into_iter().all(is_usable) {
            return Err(self.unreadable(&format!("the keys of role {role}")));
        }
        if expires_at <= self.clock.now() {
            let message = format!(
                "the metadata service at {} gave keys of role {role} that ended at {expires_at}: see that this \
                 machine's clock is right",
                self.endpoint
            );
            return Err(Failure::ours(Class::Unsent, "RoleKeysEnded", message));
        }
        let credentials = Credentials { key_id, secret_key, token: Some(token) };
        Ok(Issued { credentials, expires_at, role })
    }

    async fn ask(&self, method: Method, path: &str, header: Option<&Header>) -> Result<Answer, Failure> {
        let mut url = self.endpoint.url().clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        url.set_query(query);
        let mut request = self.client.request(method, url);
        if let Some(Header { name, value }) = header {
            request = request.header(header::name(name), header::secret_value(value)?);
        }
        let mut response = request.send().await.map_err(|error| self.lost(error))?;
        let http_status = response.status().as_u16();
        // Never moved while it grows: what is wiped is all there was.
        let mut body = Zeroizing::new(Vec::with_capacity(ANSWER_MAX_BYTES));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(error))? {
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(self.unreadable("what was asked"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { http_status, body })
    }

    fn body_of(&self, answer: Answer) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if answer.http_status == 200 {
            return Ok(answer.body);
        }
        let message = format!(
            "the metadata service at {} answers with HTTP {}; it is asked again",
            self.endpoint, answer.http_status
        );
        Err(Failure::ours(Class::Unsent, "MetadataRefused", message))
    }

    fn lost(&self, error: reqwest::Error) -> Failure {
        let cause = transport::diagnosis::failure(error, &self.endpoint.host()).message;
        let message = format!(
            "no answer from the metadata service at {} ({cause}): a role's keys are there on a machine of {} only, \
             and its firewall must let renewd ask",
            self.endpoint, self.provider
        );
        Failure::ours(Class::Unsent, "NoMetadata", message)
    }

    fn unreadable(&self, what: &str) -> Failure {
        let message = format!(
            "the metadata service at {} answered something that is not {what}: see that the address is right",
            self.endpoint
        );
        Failure::ours(Class::Unsent, "MetadataUnreadable", message)
    }
}

/// Text that goes from the answer into its wiped place without a stop in between.
pub(super) struct SecretText(pub Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Secret::new(text)))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn role(provider: Provider) -> Role {
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
        Role::new(provider, None, None, clock).unwrap()
    }

    fn names(text: &str) -> Result<Vec<String>, Failure> {
        let answer = Answer { http_status: 200, body: Zeroizing::new(text.as_bytes().to_vec()) };
        let names = role(Provider::Volcengine).names(answer)?;
        Ok(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn roles_are_listed_as_json_or_one_a_line() {
        assert_eq!(names("[\"one\", \"two\"]").unwrap(), ["one", "two"]);
        assert_eq!(names("one\ntwo\n").unwrap(), ["one", "two"]);
        assert!(names("").unwrap().is_empty());
        assert!(names("[]").unwrap().is_empty());
        for page in ["<html>no such page</html>", "{\"Code\": \"x\"}", "a/b", ".."] {
            assert_eq!(names(page).unwrap_err().code, "MetadataUnreadable", "{page}");
        }
    }

    #[test]
    fn keys_are_taken_whole_and_alive_or_not_at_all() {
        let accept = |body: &str| {
            let keys = tencentcloud::metadata::read_keys(body.as_bytes());
            role(Provider::TencentCloud).accept(RoleName::parse("r").unwrap(), keys)
        };
        let whole = "{\"TmpSecretId\":\"ID\",\"TmpSecretKey\":\"KEY\",\"Token\":\"a\\/b\",\"ExpiredTime\":1800000001,\
                     \"Code\":\"Success\"}";
        let issued = accept(whole).unwrap();
        assert_eq!(issued.credentials.token.as_ref().map(Secret::expose), Some("a/b"));
        assert_eq!(issued.expires_at.as_second(), 1_800_000_001);
        let code = |body: &str| accept(body).unwrap_err().code;
        assert_eq!(code(&whole.replace("0001", "0000")), "RoleKeysEnded");
        assert_eq!(code(&whole.replace("\"KEY\"", "\"\"")), "MetadataUnreadable");
        assert_eq!(code(&whole.replace("KEY", "K\\nEY")), "MetadataUnreadable");
        assert_eq!(code(&whole.replace("Token", "Tok")), "MetadataUnreadable");
        assert_eq!(code("{\"Code\": \"InternalError\"}"), "RoleRefused");
        assert_eq!(code(&whole[..40]), "MetadataUnreadable");
        let refused = accept(&whole.replace("Success", "Denied\\u0007 <b>")).unwrap_err();
        assert!(refused.message.contains("(an unreadable code)"), "{refused}");
        for failure in [accept(&whole[..40]), accept(&whole.replace("0001", "0000"))] {
            let told = failure.unwrap_err().to_string();
            assert!(!told.contains("KEY") && !told.contains("a/b"), "{told}");
        }
    }

    #[test]
    fn volcengine_writes_the_end_with_its_offset() {
        let body = "{\"AccessKeyId\":\"ID\",\"SecretAccessKey\":\"KEY\",\"SessionToken\":\"T\",\
                    \"ExpiredTime\":\"2027-01-15T16:00:01+08:00\"}";
        let keys = volcengine::metadata::read_keys(body.as_bytes());
        let issued = role(Provider::Volcengine).accept(RoleName::parse("r").unwrap(), keys).unwrap();
        assert_eq!(issued.expires_at.as_second(), 1_800_000_001);
    }

    #[test]
    fn a_role_name_is_one_part_of_a_path() {
        for good in ["renewd", "Renewd_role-1", "a.b", "x@y"] {
            assert_eq!(RoleName::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "a?b", "a#b", "a%2fb", "é", "a\n"] {
            assert!(RoleName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
