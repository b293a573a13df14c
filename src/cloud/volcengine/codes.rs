//! What each error code says about the purchase that met it.
//!
//! Exact code, then its dotted prefixes from the longest on, then the gateway's throttle suffix, then unknown: a
//! code that nobody knows says nothing about the money, whatever its status. Sources: the error table of ECS
//! RenewInstance, the common error codes (docs/4/65595) and the billing pages.

use crate::cloud::judged::{Judged, Table, find_family};

/// The statuses that go with throttle codes differ from page to page and from gateway to gateway.
const THROTTLE_SUFFIX: &str = "FlowLimitExceeded";

pub fn judge(code: &str) -> Judged {
    find_family(CODES, code)
        .or_else(|| code.ends_with(THROTTLE_SUFFIX).then_some(Judged::THROTTLED))
        .unwrap_or(Judged::UNKNOWN)
}

const CODES: &Table = &[
    // ECS RenewInstance
    // Another call with this token reached the cloud, or reaches it now: that one may have bought.
    ("IdempotentParameterMismatch", Judged::UNKNOWN),
    ("IdempotentProcessing", Judged::PROCESSING),
    ("Insufficient.Balance", Judged::BALANCE),
    ("InternalError", Judged::UNKNOWN),
    ("InvalidArgument", Judged::REJECTED),
    ("InvalidChargeType", Judged::REJECTED),
    ("InvalidClientToken.Malformed", Judged::REJECTED),
    ("InvalidInstance.NotFound", Judged::REJECTED),
    ("InvalidInstance.RequestForbidden", Judged::REJECTED),
    ("InvalidPeriod", Judged::REJECTED),
    ("InvalidPeriodUnit", Judged::REJECTED),
    ("MissingParameter", Judged::REJECTED),
    ("OperationDenied.ResourceLocked", Judged::BUSY),
    // Gateway
    ("AccessDenied", Judged::RIGHTS),
    ("AccountFlowLimitExceeded", Judged::THROTTLED),
    ("FailToConnect", Judged::UNKNOWN),
    ("FlowLimitExceeded", Judged::THROTTLED),
    ("InternalServiceError", Judged::UNKNOWN),
    ("InternalServiceTimeout", Judged::UNKNOWN),
    ("InvalidAccessKey", Judged::CREDENTIAL),
    ("InvalidActionOrVersion", Judged::REJECTED),
    ("InvalidAuthorization", Judged::REJECTED),
    // The older name of InvalidAccessKey; nothing to do with the token of a purchase.
    ("InvalidClientTokenId", Judged::CREDENTIAL),
    ("InvalidCredential", Judged::REJECTED),
    ("InvalidSecretToken", Judged::CREDENTIAL),
    ("InvalidTimestamp", Judged::UNAVAILABLE),
    ("LackPolicy", Judged::RIGHTS),
    ("LackProjectPolicy", Judged::RIGHTS),
    ("MethodNotAllowed", Judged::REJECTED),
    ("MissingAuthenticationToken", Judged::REJECTED),
    ("MissingRequestInfo", Judged::REJECTED),
    ("MissingSignature", Judged::REJECTED),
    ("RequestLimitExceeded", Judged::THROTTLED),
    ("ServiceNotFound", Judged::REJECTED),
    ("ServiceUnavailableTemp", Judged::UNKNOWN),
    ("SignatureDoesNotMatch", Judged::CREDENTIAL),
    ("UndefinedError", Judged::UNKNOWN),
    ("UnsupportedOperation", Judged::REJECTED),
    ("UnsupportedRegion", Judged::REJECTED),
    // Sibling services: the token outlived the memory of the cloud, and says nothing about its first use.
    ("InvalidIdempotency", Judged::UNKNOWN),
    // Billing
    ("InvalidParam", Judged::REJECTED),
    ("RecordNoFound", Judged::REJECTED),
    ("RequestConflict", Judged::BUSY),
];
