//! What each error code says about the purchase that met it.
//!
//! Exact code, then its dotted prefixes from the longest on, then unknown: a code that nobody knows says
//! nothing about the money. One table serves all products of API 3.0: no code means one thing to one of them
//! and another to the next. Sources: the error tables of Redis RenewInstance and UpgradeInstance and of CVM
//! RenewInstances, the Redis, CVM and billing models, and "common error codes" of API 3.0 and of its legacy host.

use crate::cloud::judged::{Judged, Table, find, find_family};

pub fn judge(code: &str) -> Judged {
    find(EXACT, code)
        .or_else(|| passing_state(code))
        .or_else(|| find_family(FAMILIES, code))
        .unwrap_or(Judged::UNKNOWN)
}

/// Within two families that are otherwise permanent, these say that the instance is in a state that passes.
fn passing_state(code: &str) -> Option<Judged> {
    let (family, detail) = code.split_once('.')?;
    let passes = detail.ends_with("InProgress") || detail.starts_with("InstanceState");
    (matches!(family, "OperationDenied" | "UnsupportedOperation") && passes).then_some(Judged::BUSY)
}

/// Codes that stand in a table by name.
const EXACT: &Table = &[
    // Redis
    ("InvalidParameter.PermissionDenied", Judged::RIGHTS),
    // The pages' text for it speaks of an order number that does not exist; the name is right.
    ("ResourceUnavailable.AccountBalanceNotEnough", Judged::BALANCE),
    ("ResourceUnavailable.InstanceDeleted", Judged::REJECTED),
    ("ResourceUnavailable.InstanceIsolated", Judged::BUSY),
    ("ResourceUnavailable.InstanceLockedError", Judged::BUSY),
    ("ResourceUnavailable.InstanceNotSupportOperation", Judged::BUSY),
    ("ResourceUnavailable.InstanceStateError", Judged::BUSY),
    ("ResourceUnavailable.InstanceStatusAbnormal", Judged::BUSY),
    ("ResourceUnavailable.InstanceStatusError", Judged::BUSY),
    ("ResourceUnavailable.InstanceUnLockedError", Judged::BUSY),
    ("ResourceUnavailable.CallOssError", Judged::UNKNOWN),
    ("FailedOperation.UnSupportError", Judged::REJECTED),
    ("InternalError.InstanceNotFoundError", Judged::REJECTED),
    ("InternalError.InstanceOperatePermissionError", Judged::RIGHTS),
    // CVM
    ("AccountQualificationRestrictions", Judged::RIGHTS),
    ("FailedOperation.InvalidInstanceApplicationRoleEmr", Judged::REJECTED),
    ("InvalidAccount.InsufficientBalance", Judged::BALANCE),
    ("InvalidAccount.UnpaidOrder", Judged::UNPAID_ORDER),
    ("InvalidInstance.NotSupported", Judged::REJECTED),
    ("InvalidInstanceId.Malformed", Judged::REJECTED),
    ("InvalidInstanceId.NotFound", Judged::REJECTED),
    ("InvalidPeriod", Judged::REJECTED),
    ("MutexOperation.TaskRunning", Judged::BUSY),
    // States that do not pass, unlike the others of their name.
    ("UnsupportedOperation.InstanceStateBanning", Judged::REJECTED),
    ("UnsupportedOperation.InstanceStateIsolating", Judged::REJECTED),
    ("UnsupportedOperation.InstanceStateTerminated", Judged::REJECTED),
    ("UnsupportedOperation.InstanceStateTerminating", Judged::REJECTED),
    ("UnsupportedOperation.NotSupportUnpaidOrder", Judged::UNPAID_ORDER),
    // Billing
    ("FailedOperation.BalanceInsufficient", Judged::BALANCE),
    ("FailedOperation.InvalidDeal", Judged::REJECTED),
    ("FailedOperation.NeedPayTogether", Judged::REJECTED),
    ("FailedOperation.PayPriceError", Judged::REJECTED),
    ("InvalidParameter.ResourceLocked", Judged::BUSY),
    // The legacy host, of which some errors come in this envelope
    ("InternalError.CAMInnerError", Judged::UNAVAILABLE),
    ("InvalidAction.ActionUnavailable", Judged::UNAVAILABLE),
    ("InvalidAction.NotFound", Judged::REJECTED),
    ("InvalidParameter.SecretIdNotFound", Judged::CREDENTIAL),
    ("InvalidParameter.SignatureFailure", Judged::CREDENTIAL),
    ("InvalidRequest.Forbidden", Judged::REJECTED),
    ("InvalidRequest.LimitExceeded", Judged::THROTTLED),
    ("InvalidRequest.MFACheckFailed", Judged::CREDENTIAL),
    // Nonce and timestamp seen before: the request was accepted once already.
    ("InvalidRequest.ReplayAttack", Judged::UNKNOWN),
    ("InvalidRequest.RequestConcurrencyExceeded", Judged::THROTTLED),
    ("InvalidRequest.TokenCheckFailed", Judged::CREDENTIAL),
    ("InvalidRequest.UnsupportedProtocol", Judged::REJECTED),
    // Common
    ("ActionOffline", Judged::REJECTED),
    ("AuthFailure.SignatureExpire", Judged::UNAVAILABLE),
    ("AuthFailure.UnauthorizedOperation", Judged::KEY_WITHOUT_RIGHTS),
    ("DryRunOperation", Judged::REJECTED),
    ("InvalidAction", Judged::REJECTED),
    ("InvalidRequest", Judged::REJECTED),
    ("IpInBlacklist", Judged::REJECTED),
    ("IpNotInWhitelist", Judged::REJECTED),
    ("MissingParameter", Judged::REJECTED),
    ("NoSuchProduct", Judged::REJECTED),
    ("NoSuchVersion", Judged::REJECTED),
    ("RequestSizeLimitExceeded", Judged::REJECTED),
    ("UnknownParameter", Judged::REJECTED),
    ("UnsupportedProtocol", Judged::REJECTED),
    ("UnsupportedRegion", Judged::REJECTED),
];

/// Codes that speak for everything below them too. Not in here are those whose children no table describes:
/// they stay unknown.
const FAMILIES: &Table = &[
    ("AuthFailure", Judged::CREDENTIAL),
    // Also what a gateway says when the product behind it did not answer in time: no proof of anything.
    ("FailedOperation", Judged::UNKNOWN),
    ("InternalError", Judged::UNKNOWN),
    ("InvalidParameter", Judged::REJECTED),
    ("InvalidParameterValue", Judged::REJECTED),
    ("LimitExceeded", Judged::REJECTED),
    ("OperationDenied", Judged::REJECTED),
    ("RequestLimitExceeded", Judged::THROTTLED),
    ("ResourceInUse", Judged::BUSY),
    ("ResourceInsufficient", Judged::UNAVAILABLE),
    ("ResourceNotFound", Judged::REJECTED),
    ("ResourceUnavailable", Judged::UNAVAILABLE),
    ("ResourcesSoldOut", Judged::UNAVAILABLE),
    ("UnauthorizedOperation", Judged::RIGHTS),
    ("UnsupportedOperation", Judged::REJECTED),
];
