//! What each error code says about the purchase that met it.
//!
//! Exact code, then its dotted prefixes from the longest on, then the gateway's throttle suffix, then unknown: a
//! code that nobody knows says nothing about the money, whatever its status. Sources: the error table of ECS
//! RenewInstance, the common error codes (docs/4/65595) and the billing pages.

use crate::cloud::call::Cause;
use crate::domain::failure::Class;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    pub class: Class,
    /// Only where it decides what would unblock the call.
    pub cause: Option<Cause>,
}

/// The statuses that go with throttle codes differ from page to page and from gateway to gateway.
const THROTTLE_SUFFIX: &str = "FlowLimitExceeded";

pub fn judge(code: &str) -> Judged {
    let mut families =
        std::iter::successors(Some(code), |code| code.rsplit_once('.').map(|(parent, _)| parent));
    families
        .find_map(find)
        .or_else(|| code.ends_with(THROTTLE_SUFFIX).then_some(THROTTLED))
        .unwrap_or(UNKNOWN)
}

fn find(code: &str) -> Option<Judged> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, judged)| *judged)
}

const THROTTLED: Judged = plain(Class::Throttled);
const BUSY: Judged = plain(Class::Busy);
const UNAVAILABLE: Judged = plain(Class::Unavailable);
const REJECTED: Judged = plain(Class::Rejected);
const CREDENTIAL: Judged = plain(Class::Credential);
const UNKNOWN: Judged = plain(Class::Unknown);
const BALANCE: Judged = Judged { class: Class::Blocked, cause: Some(Cause::Balance) };
const RIGHTS: Judged = Judged { class: Class::Blocked, cause: Some(Cause::Rights) };

const fn plain(class: Class) -> Judged {
    Judged { class, cause: None }
}

const CODES: &[(&str, Judged)] = &[
    // ECS RenewInstance
    // Another call with this token reached the cloud, or reaches it now: that one may have bought.
    ("IdempotentParameterMismatch", UNKNOWN),
    ("IdempotentProcessing", UNKNOWN),
    ("Insufficient.Balance", BALANCE),
    ("InternalError", UNKNOWN),
    ("InvalidArgument", REJECTED),
    ("InvalidChargeType", REJECTED),
    ("InvalidClientToken.Malformed", REJECTED),
    ("InvalidInstance.NotFound", REJECTED),
    ("InvalidInstance.RequestForbidden", REJECTED),
    ("InvalidPeriod", REJECTED),
    ("InvalidPeriodUnit", REJECTED),
    ("MissingParameter", REJECTED),
    ("OperationDenied.ResourceLocked", BUSY),
    // Gateway
    ("AccessDenied", RIGHTS),
    ("AccountFlowLimitExceeded", THROTTLED),
    ("FailToConnect", UNKNOWN),
    ("FlowLimitExceeded", THROTTLED),
    ("InternalServiceError", UNKNOWN),
    ("InternalServiceTimeout", UNKNOWN),
    ("InvalidAccessKey", CREDENTIAL),
    ("InvalidActionOrVersion", REJECTED),
    ("InvalidAuthorization", REJECTED),
    // The older name of InvalidAccessKey; nothing to do with the token of a purchase.
    ("InvalidClientTokenId", CREDENTIAL),
    ("InvalidCredential", REJECTED),
    ("InvalidSecretToken", CREDENTIAL),
    ("InvalidTimestamp", UNAVAILABLE),
    ("LackPolicy", RIGHTS),
    ("LackProjectPolicy", RIGHTS),
    ("MethodNotAllowed", REJECTED),
    ("MissingAuthenticationToken", REJECTED),
    ("MissingRequestInfo", REJECTED),
    ("MissingSignature", REJECTED),
    ("RequestLimitExceeded", THROTTLED),
    ("ServiceNotFound", REJECTED),
    ("ServiceUnavailableTemp", UNKNOWN),
    ("SignatureDoesNotMatch", CREDENTIAL),
    ("UndefinedError", UNKNOWN),
    ("UnsupportedOperation", REJECTED),
    ("UnsupportedRegion", REJECTED),
    // Sibling services: the token outlived the memory of the cloud, and says nothing about its first use.
    ("InvalidIdempotency", UNKNOWN),
    // Billing
    ("InvalidParam", REJECTED),
    ("RecordNoFound", REJECTED),
    ("RequestConflict", BUSY),
];
