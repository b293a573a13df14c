//! What becomes of a call once its provider has verified and read it: quota, fault, act, count. The same for every
//! provider, each with its own envelope and codes.

use std::borrow::Cow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::sandbox::Memory;
use crate::sandbox::delivery::{Answer, Delivery};
use crate::sandbox::faults::{Acted, Call};
use crate::sandbox::pace::QuotaKey;
use crate::sandbox::replays::Once;
use crate::sandbox::world::World;

/// Under which name calls are counted that name no API we know.
const UNKNOWN_API: &str = "unknown";

/// What can be said of a call without the memory of the cloud.
pub(crate) struct Read {
    pub api: Option<ApiName>,
    pub envelope: Box<dyn Envelope>,
    pub ready: Result<Ready, Refusal>,
}

/// A call with a good signature. Parameters are judged after the quota: a call with bad ones uses it up too.
pub(crate) struct Ready {
    pub api: ApiName,
    /// The quota of one key in one region.
    pub per_second: usize,
    pub key_id: String,
    /// The session token of temporary keys.
    pub token: Option<String>,
    pub region: String,
    /// Of a call that may be made once only.
    pub once: Option<Once>,
    pub act: Result<Act, Refusal>,
}

/// `service:Action`, as configuration and faults write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ApiName(pub &'static str);

/// A call whose parameters are read.
pub(crate) struct Act {
    /// What faults may aim at.
    pub instances: Vec<String>,
    pub perform: Box<Perform>,
}

/// Gives what a successful answer holds.
pub(crate) type Perform = dyn FnOnce(&mut World, &Visit<'_>) -> Result<Value, Refusal> + Send;

/// Who calls, from where, when.
pub(crate) struct Visit<'a> {
    pub key_id: &'a str,
    pub region: &'a str,
    pub now: Timestamp,
    pub request_id: &'a str,
    /// Reads and what a purchase shows to readers lag by so much.
    pub lag: Duration,
}

/// A documented error code with words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: Cow<'static, str>,
    pub message: String,
}

/// The shape of a provider's answers.
pub(crate) trait Envelope {
    fn success(&self, response: Value, request_id: &str) -> Answer;
    fn refusal(&self, refusal: &Refusal, request_id: &str) -> Answer;
    /// The code of a call beyond its quota.
    fn too_fast(&self) -> &'static str;
    /// The code of temporary keys that are no longer good, or come without their token.
    fn bad_token(&self) -> &'static str;
}

impl Read {
    /// Holds the call against quota and faults and carries it out.
    pub(crate) fn answer(self, memory: &mut Memory, now: Timestamp, moment: Duration) -> Delivery {
        let Read { api, envelope, ready } = self;
        let counted_as = api.map_or(UNKNOWN_API, |api| api.0);
        memory.counters.arrived(counted_as, moment);
        let request_id = memory.request_ids.next();
        let admitted = ready.and_then(|ready| ready.admit(&*envelope, memory, now, moment));
        let (code, delivery) = match admitted {
            Ok(admitted) => admitted.play(&*envelope, memory, now, &request_id),
            Err(refusal) => {
                let answer = envelope.refusal(&refusal, &request_id);
                (refusal.code.into_owned(), Delivery::Whole(answer))
            }
        };
        memory.counters.ended(counted_as, &code);
        delivery
    }
}

/// A call with its quota and parameters in order.
struct Admitted {
    api: ApiName,
    key_id: String,
    region: String,
    act: Act,
}

impl Ready {
    fn admit(
        self,
        envelope: &dyn Envelope,
        memory: &mut Memory,
        now: Timestamp,
        moment: Duration,
    ) -> Result<Admitted, Refusal> {
        let Ready { api, per_second, key_id, token, region, once, act } = self;
        let account = memory.roles.account_of(&key_id, token.as_deref(), now);
        let key_id = account.map_err(|bad| Refusal::new(envelope.bad_token(), bad.to_string()))?;
        if let Some(once) = once {
            let code = once.code;
            if !memory.replays.admit(once, now) {
                return Err(Refusal::new(code, "this `Nonce` and `Timestamp` were seen before"));
            }
        }
        let key = QuotaKey { key_id: key_id.clone(), api: api.0, region: region.clone() };
        if !memory.pace.admit(key, per_second, moment) {
            let message = format!("more than {per_second} calls of {} in a second", api.0);
            return Err(Refusal::new(envelope.too_fast(), message));
        }
        Ok(Admitted { api, key_id, region, act: act? })
    }
}

impl Admitted {
    fn play(
        self,
        envelope: &dyn Envelope,
        memory: &mut Memory,
        now: Timestamp,
        request_id: &str,
    ) -> (String, Delivery) {
        let Admitted { api, key_id, region, act } = self;
        let refuse = |code: &str| {
            let refusal = Refusal::new(code.to_owned(), "a fault that was asked for");
            envelope.refusal(&refusal, request_id)
        };
        let call = Call { api, instances: &act.instances, refuse: &refuse };
        let Memory { world, faults, .. } = memory;
        let perform = act.perform;
        let played = faults.play(&call, |lag| {
            let visit = Visit { key_id: &key_id, region: &region, now, request_id, lag };
            match perform(world, &visit) {
                Ok(response) => Acted::Done(envelope.success(response, request_id)),
                Err(refusal) => Acted::Refused {
                    answer: envelope.refusal(&refusal, request_id),
                    code: refusal.code.into_owned(),
                },
            }
        });
        (played.code, played.delivery)
    }
}

impl ApiName {
    pub(crate) fn service(self) -> &'static str {
        self.0.split_once(':').map_or("", |(service, _)| service)
    }

    pub(crate) fn action(self) -> &'static str {
        self.0.split_once(':').map_or(self.0, |(_, action)| action)
    }

    /// Whether it is the API, or the action whatever the service.
    pub(crate) fn is_called(self, name: &str) -> bool {
        self.0 == name || self.action() == name
    }
}

impl Visit<'_> {
    /// The moment whose state a read shows.
    pub(crate) fn read_at(&self) -> Timestamp {
        self.now.checked_sub(self.signed_lag()).unwrap_or(Timestamp::MIN)
    }

    /// The moment from which on readers see a purchase, and its token is no longer in process.
    pub(crate) fn seen_from(&self) -> Timestamp {
        self.now.checked_add(self.signed_lag()).unwrap_or(Timestamp::MAX)
    }

    fn signed_lag(&self) -> SignedDuration {
        SignedDuration::try_from(self.lag).unwrap_or(SignedDuration::MAX)
    }
}

impl Refusal {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Refusal {
        Refusal { code: code.into(), message: message.into() }
    }
}
