//! Faults on demand: which call is to fail, before or after it takes effect, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sandbox::delivery::{Answer, Delivery};
use crate::sandbox::desk::ApiName;
use crate::sandbox::{metadata, tencentcloud, volcengine};

const DEFAULT_CODE: &str = "InternalError";
const DEFAULT_HTTP_STATUS: u16 = 502;
/// Longer than any client waits.
const DEFAULT_STALL: Duration = Duration::from_secs(120);
const DEFAULT_LAG: Duration = Duration::from_secs(60);
/// The actions that charge; what else there is only reads.
const PURCHASES: [&str; 3] = ["RenewInstance", "RenewInstances", "UpgradeInstance"];
const MAX_DELAY_MS: u64 = 24 * 3_600 * 1_000;
const GARBAGE: &[u8] = b"\xff\xfe{\"Response\": <!-- not json";

/// A fault that waits for its call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "FaultFields", into = "FaultFields")]
pub struct Fault {
    /// `redis:RenewInstance`, or the bare action of any service.
    api: String,
    /// Only calls that name this instance.
    instance: Option<String>,
    kind: Kind,
    /// Calls left to hit.
    times: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads see the state of before for so long. On a purchase, all reads of what it bought; on a read, that read.
    /// The purchase itself happens: there is nothing to delay in one that does not.
    Lag(Duration),
    /// The answer is spoilt.
    Spoil(Effect, Spoilt),
}

/// Whether the charge happens. `After` spoils only calls that succeed: it never hits one that is refused anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Before,
    After,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoilt {
    /// A well-formed refusal with this code.
    Code(String),
    /// A gateway's HTML page with this status.
    Http(u16),
    /// The connection is cut without a byte.
    Drop,
    /// Nothing for so long; then the true answer if the call took effect, else a cut.
    Stall(Duration),
    /// Status 200 with bytes that are not JSON.
    Garbage,
    /// Half of the announced body, then a cut.
    Truncate,
}

/// A fault as `POST /_sandbox/faults` and seeds write it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FaultFields {
    api: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<Effect>,
    kind: KindWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(default = "once")]
    times: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum KindWord {
    Code,
    Http,
    Drop,
    Stall,
    Garbage,
    Truncate,
    Lag,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadFault {
    #[error("no API is called `{0}`; there are {known}", known = api_names().join(", "))]
    UnknownApi(String),
    #[error("`effect` is missing: \"before\" the charge or \"after\" it")]
    NoEffect,
    #[error(
        "a `lag` on {0} delays what readers see of a charge, and `effect` \"before\" lets none happen: \
         write \"after\", or leave `effect` out"
    )]
    LagWithoutCharge(String),
    #[error("`times` must be at least 1")]
    NoTimes,
    #[error("`http_status` must be from 200 to 599, not {0}")]
    BadStatus(u16),
    #[error("`delay_ms` must be at most a day, not {0}")]
    LongDelay(u64),
}

impl Fault {
    /// Hits the next call of the API, once.
    pub fn spoil(api: &str, effect: Effect, spoilt: Spoilt) -> Fault {
        Fault { api: api.to_owned(), instance: None, kind: Kind::Spoil(effect, spoilt), times: 1 }
    }

    /// Hits the next call of the API, once.
    pub fn lag(api: &str, delay: Duration) -> Fault {
        Fault { api: api.to_owned(), instance: None, kind: Kind::Lag(delay), times: 1 }
    }

    pub fn on(mut self, instance: &str) -> Fault {
        self.instance = Some(instance.to_owned());
        self
    }

    pub fn times(mut self, times: u32) -> Fault {
        self.times = times;
        self
    }

    fn hits(&self, api: ApiName, instances: &[String]) -> bool {
        api.is_called(&self.api) && self.instance.as_ref().is_none_or(|wanted| instances.contains(wanted))
    }
}

impl Spoilt {
    fn word(&self) -> KindWord {
        match self {
            Spoilt::Code(_) => KindWord::Code,
            Spoilt::Http(_) => KindWord::Http,
            Spoilt::Drop => KindWord::Drop,
            Spoilt::Stall(_) => KindWord::Stall,
            Spoilt::Garbage => KindWord::Garbage,
            Spoilt::Truncate => KindWord::Truncate,
        }
    }

    /// The counters' name for an answer spoilt this way.
    fn label(&self) -> String {
        match self {
            Spoilt::Code(code) => code.clone(),
            Spoilt::Http(status) => format!("http {status}"),
            Spoilt::Drop => "drop".to_owned(),
            Spoilt::Stall(_) => "stall".to_owned(),
            Spoilt::Garbage => "garbage".to_owned(),
            Spoilt::Truncate => "truncate".to_owned(),
        }
    }

    /// Spoils the true answer, or what takes its place when the call was never carried out.
    pub(crate) fn deliver(&self, honest: Option<Answer>, refuse: impl FnOnce(&str) -> Answer) -> Delivery {
        match self {
            Spoilt::Code(code) => Delivery::Whole(refuse(code)),
            Spoilt::Http(status) => Delivery::Whole(Answer::gateway(*status)),
            Spoilt::Drop => Delivery::Nothing,
            Spoilt::Stall(wait) => Delivery::Late { wait: *wait, then: honest },
            Spoilt::Garbage => {
                let body = GARBAGE.to_vec();
                Delivery::Whole(Answer { status: 200, content_type: "application/json", body })
            }
            Spoilt::Truncate => Delivery::Half(honest.unwrap_or_else(|| refuse(DEFAULT_CODE))),
        }
    }
}

/// The faults that wait, in the order of their coming.
#[derive(Default)]
pub struct FaultQueue(Vec<Fault>);

impl FaultQueue {
    pub fn extend(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.0.extend(faults.into_iter().filter(|fault| fault.times > 0));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn waiting(&self) -> &[Fault] {
        &self.0
    }

    /// Runs a call under the faults that wait for it: at most one lag and one spoilt answer a call.
    pub(crate) fn play(&mut self, call: &Call<'_>, perform: impl FnOnce(Duration) -> Acted) -> Played {
        let spoil = self.find(call, |kind| matches!(kind, Kind::Spoil(..)));
        if let Some((at, Kind::Spoil(Effect::Before, spoilt))) = spoil {
            self.spend(at);
            return Played { code: spoilt.label(), delivery: spoilt.deliver(None, call.refuse) };
        }
        let lag = self.find(call, |kind| matches!(kind, Kind::Lag(_)));
        let delay = if let Some((_, Kind::Lag(delay))) = &lag { *delay } else { Duration::ZERO };
        match (perform(delay), spoil, lag) {
            (Acted::Refused { code, answer }, ..) => Played { code, delivery: Delivery::Whole(answer) },
            (Acted::Done(answer), spoil, lag) => {
                // From the back, so that the first removal does not move the second.
                let mut hit: Vec<usize> = spoil.iter().chain(&lag).map(|(at, _)| *at).collect();
                hit.sort_unstable_by(|a, b| b.cmp(a));
                hit.into_iter().for_each(|at| self.spend(at));
                match spoil {
                    Some((_, Kind::Spoil(_, spoilt))) => {
                        Played { code: spoilt.label(), delivery: spoilt.deliver(Some(answer), call.refuse) }
                    }
                    _ => Played { code: OK.to_owned(), delivery: Delivery::Whole(answer) },
                }
            }
        }
    }

    fn find(&self, call: &Call<'_>, wanted: impl Fn(&Kind) -> bool) -> Option<(usize, Kind)> {
        let fits = |fault: &Fault| wanted(&fault.kind) && fault.hits(call.api, call.instances);
        let at = self.0.iter().position(fits)?;
        Some((at, self.0[at].kind.clone()))
    }

    fn spend(&mut self, at: usize) {
        self.0[at].times -= 1;
        if self.0[at].times == 0 {
            self.0.remove(at);
        }
    }
}

/// The counters' word for a call that was carried out and answered in full.
pub(crate) const OK: &str = "ok";

/// A call as faults see it.
pub(crate) struct Call<'a> {
    pub api: ApiName,
    pub instances: &'a [String],
    /// The provider's envelope of a refusal with this code.
    pub refuse: &'a dyn Fn(&str) -> Answer,
}

/// What came of carrying a call out.
pub(crate) enum Acted {
    Done(Answer),
    Refused { code: String, answer: Answer },
}

/// What the client gets, and the counters' word for it.
pub(crate) struct Played {
    pub code: String,
    pub delivery: Delivery,
}

impl TryFrom<FaultFields> for Fault {
    type Error = BadFault;

    fn try_from(fields: FaultFields) -> Result<Fault, BadFault> {
        let Some(api) = apis().find(|api| api.is_called(&fields.api)) else {
            return Err(BadFault::UnknownApi(fields.api));
        };
        if fields.times == 0 {
            return Err(BadFault::NoTimes);
        }
        let kind = fields.kind(PURCHASES.contains(&api.action()))?;
        let FaultFields { api, instance, times, .. } = fields;
        Ok(Fault { api, instance, kind, times })
    }
}

impl FaultFields {
    fn kind(&self, is_purchase: bool) -> Result<Kind, BadFault> {
        let spoilt = match self.kind {
            KindWord::Lag if is_purchase && self.effect == Some(Effect::Before) => {
                return Err(BadFault::LagWithoutCharge(self.api.clone()));
            }
            KindWord::Lag => return Ok(Kind::Lag(self.delay(DEFAULT_LAG)?)),
            KindWord::Code => Spoilt::Code(self.code.clone().unwrap_or_else(|| DEFAULT_CODE.to_owned())),
            KindWord::Http => Spoilt::Http(self.http_status()?),
            KindWord::Drop => Spoilt::Drop,
            KindWord::Stall => Spoilt::Stall(self.delay(DEFAULT_STALL)?),
            KindWord::Garbage => Spoilt::Garbage,
            KindWord::Truncate => Spoilt::Truncate,
        };
        Ok(Kind::Spoil(self.effect.ok_or(BadFault::NoEffect)?, spoilt))
    }

    fn http_status(&self) -> Result<u16, BadFault> {
        let status = self.http_status.unwrap_or(DEFAULT_HTTP_STATUS);
        if (200..600).contains(&status) { Ok(status) } else { Err(BadFault::BadStatus(status)) }
    }

    fn delay(&self, default: Duration) -> Result<Duration, BadFault> {
        match self.delay_ms {
            None => Ok(default),
            Some(delay_ms) if delay_ms <= MAX_DELAY_MS => Ok(Duration::from_millis(delay_ms)),
            Some(delay_ms) => Err(BadFault::LongDelay(delay_ms)),
        }
    }
}

impl From<Fault> for FaultFields {
    fn from(fault: Fault) -> FaultFields {
        let mut fields = FaultFields {
            api: fault.api,
            instance: fault.instance,
            effect: None,
            kind: KindWord::Lag,
            code: None,
            http_status: None,
            delay_ms: None,
            times: fault.times,
        };
        let delay_ms = |delay: Duration| u64::try_from(delay.as_millis()).ok();
        match fault.kind {
            Kind::Lag(delay) => fields.delay_ms = delay_ms(delay),
            Kind::Spoil(effect, spoilt) => {
                fields.effect = Some(effect);
                fields.kind = spoilt.word();
                match spoilt {
                    Spoilt::Code(code) => fields.code = Some(code),
                    Spoilt::Http(status) => fields.http_status = Some(status),
                    Spoilt::Stall(delay) => fields.delay_ms = delay_ms(delay),
                    Spoilt::Drop | Spoilt::Garbage | Spoilt::Truncate => {}
                }
            }
        }
        fields
    }
}

fn apis() -> impl Iterator<Item = ApiName> {
    tencentcloud::api_names().chain(volcengine::api_names()).chain(metadata::api_names())
}

fn api_names() -> Vec<&'static str> {
    apis().map(|api| api.0).collect()
}

fn once() -> u32 {
    1
}
