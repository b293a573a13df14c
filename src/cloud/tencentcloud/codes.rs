//! What each error code says about the purchase that met it.
//!
//! Exact code, then its dotted prefixes from the longest on, then unknown: a code that nobody knows says
//! nothing about the money. One table serves all products of API 3.0: no code means one thing to one of them
//! and another to the next. Sources: the error tables of Redis RenewInstance and UpgradeInstance and of CVM
//! RenewInstances, the Redis, CVM and billing models, and "common error codes" of API 3.0.

use crate::cloud::call::Cause;
use crate::domain::failure::Class;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    pub class: Class,
    /// Only where it decides what would unblock the call.
    pub cause: Option<Cause>,
}

pub fn judge(code: &str) -> Judged {
    let ancestors = std::iter::successors(Some(code), |code| code.rsplit_once('.').map(|(parent, _)| parent));
    find(EXACT, code)
        .or_else(|| passing_state(code))
        .or_else(|| ancestors.into_iter().find_map(|family| find(FAMILIES, family)))
        .unwrap_or(UNKNOWN)
}

fn find(table: &[(&str, Judged)], code: &str) -> Option<Judged> {
    table.iter().find(|(known, _)| *known == code).map(|(_, judged)| *judged)
}

/// Within two families that are otherwise permanent, these say that the instance is in a state that passes.
fn passing_state(code: &str) -> Option<Judged> {
    let (family, detail) = code.split_once('.')?;
    let passes = detail.ends_with("InProgress") || detail.starts_with("InstanceState");
    (matches!(family, "OperationDenied" | "UnsupportedOperation") && passes).then_some(BUSY)
}

pub(super) const THROTTLED: Judged = plain(Class::Throttled);
pub(super) const BUSY: Judged = plain(Class::Busy);
pub(super) const UNAVAILABLE: Judged = plain(Class::Unavailable);
pub(super) const REJECTED: Judged = plain(Class::Rejected);
pub(super) const CREDENTIAL: Judged = plain(Class::Credential);
pub(super) const UNKNOWN: Judged = plain(Class::Unknown);
pub(super) const BALANCE: Judged = Judged { class: Class::Blocked, cause: Some(Cause::Balance) };
const UNPAID_ORDER: Judged = Judged { class: Class::Blocked, cause: Some(Cause::UnpaidOrder) };
pub(super) const RIGHTS: Judged = Judged { class: Class::Blocked, cause: Some(Cause::Rights) };
/// Stops the whole key, as the documentation of the common codes asks; the reason is still its rights.
pub(super) const KEY_WITHOUT_RIGHTS: Judged = Judged { class: Class::Credential, cause: Some(Cause::Rights) };

const fn plain(class: Class) -> Judged {
    Judged { class, cause: None }
}

/// Codes that stand in a table by name.
const EXACT: &[(&str, Judged)] = &[
    // Redis
    ("InvalidParameter.PermissionDenied", RIGHTS),
    // The pages' text for it speaks of an order number that does not exist; the name is right.
    ("ResourceUnavailable.AccountBalanceNotEnough", BALANCE),
    ("ResourceUnavailable.InstanceDeleted", REJECTED),
    ("ResourceUnavailable.InstanceIsolated", BUSY),
    ("ResourceUnavailable.InstanceLockedError", BUSY),
    ("ResourceUnavailable.InstanceNotSupportOperation", BUSY),
    ("ResourceUnavailable.InstanceStateError", BUSY),
    ("ResourceUnavailable.InstanceStatusAbnormal", BUSY),
    ("ResourceUnavailable.InstanceStatusError", BUSY),
    ("ResourceUnavailable.InstanceUnLockedError", BUSY),
    ("ResourceUnavailable.CallOssError", UNKNOWN),
    ("FailedOperation.UnSupportError", REJECTED),
    ("InternalError.InstanceNotFoundError", REJECTED),
    ("InternalError.InstanceOperatePermissionError", RIGHTS),
    // CVM
    ("AccountQualificationRestrictions", RIGHTS),
    ("FailedOperation.InvalidInstanceApplicationRoleEmr", REJECTED),
    ("InvalidAccount.InsufficientBalance", BALANCE),
    ("InvalidAccount.UnpaidOrder", UNPAID_ORDER),
    ("InvalidInstance.NotSupported", REJECTED),
    ("InvalidInstanceId.Malformed", REJECTED),
    ("InvalidInstanceId.NotFound", REJECTED),
    ("InvalidPeriod", REJECTED),
    ("MutexOperation.TaskRunning", BUSY),
    // States that do not pass, unlike the others of their name.
    ("UnsupportedOperation.InstanceStateBanning", REJECTED),
    ("UnsupportedOperation.InstanceStateIsolating", REJECTED),
    ("UnsupportedOperation.InstanceStateTerminated", REJECTED),
    ("UnsupportedOperation.InstanceStateTerminating", REJECTED),
    ("UnsupportedOperation.NotSupportUnpaidOrder", UNPAID_ORDER),
    // Billing
    ("FailedOperation.BalanceInsufficient", BALANCE),
    ("FailedOperation.InvalidDeal", REJECTED),
    ("FailedOperation.NeedPayTogether", REJECTED),
    ("FailedOperation.PayPriceError", REJECTED),
    ("InvalidParameter.ResourceLocked", BUSY),
    // Common
    ("ActionOffline", REJECTED),
    ("AuthFailure.SignatureExpire", UNAVAILABLE),
    ("AuthFailure.UnauthorizedOperation", KEY_WITHOUT_RIGHTS),
    ("DryRunOperation", REJECTED),
    ("InvalidAction", REJECTED),
    ("InvalidRequest", REJECTED),
    ("IpInBlacklist", REJECTED),
    ("IpNotInWhitelist", REJECTED),
    ("MissingParameter", REJECTED),
    ("NoSuchProduct", REJECTED),
    ("NoSuchVersion", REJECTED),
    ("RequestSizeLimitExceeded", REJECTED),
    ("UnknownParameter", REJECTED),
    ("UnsupportedProtocol", REJECTED),
    ("UnsupportedRegion", REJECTED),
];

/// Codes that speak for everything below them too. Not in here are those whose children no table describes:
/// they stay unknown.
const FAMILIES: &[(&str, Judged)] = &[
    ("AuthFailure", CREDENTIAL),
    // Also what a gateway says when the product behind it did not answer in time: no proof of anything.
    ("FailedOperation", UNKNOWN),
    ("InternalError", UNKNOWN),
    ("InvalidParameter", REJECTED),
    ("InvalidParameterValue", REJECTED),
    ("LimitExceeded", REJECTED),
    ("OperationDenied", REJECTED),
    ("RequestLimitExceeded", THROTTLED),
    ("ResourceInUse", BUSY),
    ("ResourceInsufficient", UNAVAILABLE),
    ("ResourceNotFound", REJECTED),
    ("ResourceUnavailable", UNAVAILABLE),
    ("ResourcesSoldOut", UNAVAILABLE),
    ("UnauthorizedOperation", RIGHTS),
    ("UnsupportedOperation", REJECTED),
];
