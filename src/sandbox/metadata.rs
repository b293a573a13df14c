//! The metadata services that machines of the providers find their role's keys at. Nobody signs there: who can ask is
//! on the machine. The paths of the two are distinct, and none is a path of their APIs.
//!
//! Source: "instance roles" of CVM; "instance metadata" of ECS, with its session token.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, Request};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::cloud::canonical::sha256_hex;
use crate::domain::product::Provider;
use crate::sandbox::delivery::{Answer, Delivery};
use crate::sandbox::desk::ApiName;
use crate::sandbox::faults::{Acted, Call};
use crate::sandbox::roles::Roles;
use crate::sandbox::{Memory, SECRET_KEY};

const TENCENT_ROLES: &str = "/latest/meta-data/cam/security-credentials/";
const VOLCENGINE_TOKEN: &str = "/latest/api/token";
const VOLCENGINE_ROLES: &str = "/volcstack/latest/iam/security_credentials";
const TTL_HEADER: &str = "x-volc-ecs-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-volc-ecs-metadata-token";
/// The longest life of a token that may be asked for, and what ours live.
const TTL_MAX_SECONDS: i64 = 21_600;

const ROLES: ApiName = ApiName("metadata:roles");
const CREDENTIALS: ApiName = ApiName("metadata:credentials");
const TOKEN: ApiName = ApiName("metadata:token");

pub(crate) fn api_names() -> impl Iterator<Item = ApiName> {
    [ROLES, CREDENTIALS, TOKEN].into_iter()
}

/// What is asked for.
enum Asked<'a> {
    Token,
    Roles(Provider),
    Keys(Provider, &'a str),
}

/// Answers a call for one of the metadata services; none where it is for something else.
pub(crate) fn answer(
    memory: &mut Memory,
    request: &Request<Bytes>,
    now: Timestamp,
    moment: Duration,
) -> Option<Delivery> {
    let asked = Asked::of(request.uri().path())?;
    let api = asked.api();
    memory.counters.arrived(api.0, moment);
    let refuse = |code: &str| asked.refusal(code);
    let call = Call { api, instances: &[], refuse: &refuse };
    let Memory { roles, faults, .. } = memory;
    let played = faults.play(&call, |_| match asked.answer(roles, request, now) {
        answer if answer.status == 200 => Acted::Done(answer),
        answer => Acted::Refused { code: format!("http {}", answer.status), answer },
    });
    memory.counters.ended(api.0, &played.code);
    Some(played.delivery)
}

impl Asked<'_> {
    fn of(path: &str) -> Option<Asked<'_>> {
        if path == VOLCENGINE_TOKEN {
            return Some(Asked::Token);
        }
        let (provider, rest) = match path.strip_prefix(TENCENT_ROLES) {
            Some(rest) => (Provider::TencentCloud, rest),
            None => (Provider::Volcengine, path.strip_prefix(VOLCENGINE_ROLES)?),
        };
        match (provider, rest.trim_start_matches('/')) {
            (_, "") => Some(Asked::Roles(provider)),
            (Provider::Volcengine, _) if !rest.starts_with('/') => None,
            (_, role) => Some(Asked::Keys(provider, role)),
        }
    }

    fn api(&self) -> ApiName {
        match self {
            Asked::Token => TOKEN,
            Asked::Roles(_) => ROLES,
            Asked::Keys(..) => CREDENTIALS,
        }
    }

    fn refusal(&self, code: &str) -> Answer {
        match self {
            // Its answers carry a code of their own.
            Asked::Keys(Provider::TencentCloud, _) => Answer::json(200, &json!({ "Code": code })),
            _ => Answer::text(500, code),
        }
    }

    fn answer(&self, roles: &mut Roles, request: &Request<Bytes>, now: Timestamp) -> Answer {
        match (self, request.method()) {
            (Asked::Token, &Method::PUT) => match ttl(request) {
                Some(_) => Answer::text(200, session(now)),
                None => Answer::text(400, format!("{TTL_HEADER} is not 1 to {TTL_MAX_SECONDS}")),
            },
            (Asked::Token, _) => Answer::text(405, "a token is asked for by PUT"),
            (_, method) if method != Method::GET => Answer::text(405, "only GET"),
            (Asked::Roles(Provider::Volcengine) | Asked::Keys(Provider::Volcengine, _), _)
                if !has_session(request, now) =>
            {
                Answer::text(401, format!("{TOKEN_HEADER} is missing, or its token has ended"))
            }
            (Asked::Roles(provider), _) => list(*provider, &roles.role.names),
            (Asked::Keys(_, role), _) if !roles.role.names.iter().any(|name| name == role) => {
                Answer::text(404, "this machine has no such role")
            }
            (Asked::Keys(provider, _), _) => keys(*provider, roles, now),
        }
    }
}

fn list(provider: Provider, names: &[String]) -> Answer {
    match provider {
        Provider::TencentCloud if names.is_empty() => Answer::text(404, "404 - Not Found"),
        Provider::TencentCloud => Answer::text(200, names.join("\n")),
        Provider::Volcengine => Answer::json(200, &json!(names)),
    }
}

fn keys(provider: Provider, roles: &mut Roles, now: Timestamp) -> Answer {
    let key = roles.issue(provider, now);
    match provider {
        Provider::TencentCloud => Answer::json(
            200,
            &json!({
                "TmpSecretId": key.key_id,
                "TmpSecretKey": SECRET_KEY,
                "ExpiredTime": key.expires_at.as_second(),
                "Expiration": key.expires_at.to_string(),
                "Token": key.token,
                "Code": "Success",
            }),
        ),
        Provider::Volcengine => {
            let here = TimeZone::fixed(Offset::constant(8));
            let written =
                |at: Timestamp| at.to_zoned(here.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            Answer::json(
                200,
                &json!({
                    "AccessKeyId": key.key_id,
                    "SecretAccessKey": SECRET_KEY,
                    "SessionToken": key.token,
                    "CurrentTime": written(now),
                    "ExpiredTime": written(key.expires_at),
                }),
            )
        }
    }
}

fn ttl(request: &Request<Bytes>) -> Option<i64> {
    let text = request.headers().get(TTL_HEADER)?.to_str().ok()?;
    text.parse().ok().filter(|seconds| (1..=TTL_MAX_SECONDS).contains(seconds))
}

/// A token that says itself when it was given: nothing needs to be remembered of it.
fn session(now: Timestamp) -> String {
    let at = now.as_second();
    format!("{at}-{}", sha256_hex(format!("metadata session of {at}").as_bytes()))
}

fn has_session(request: &Request<Bytes>, now: Timestamp) -> bool {
    let token = request.headers().get(TOKEN_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given_at = token.split('-').next().and_then(|at| Timestamp::from_second(at.parse().ok()?).ok());
    given_at.is_some_and(|at| {
        let age = now.duration_since(at);
        session(at) == token && age.as_secs() < TTL_MAX_SECONDS && age > -SignedDuration::from_mins(5)
    })
}
