//! What each error code of the legacy v2 API says about the purchase that met it.
//!
//! The word in `codeDesc` goes before the number in `code`, and what neither table knows is unknown. Sources:
//! the error table of CVM v2 RenewInstance, the "common error codes" of API v2, and the module codes of the v2
//! renewals.

use crate::cloud::tencentcloud::codes::{
    BALANCE, BUSY, CREDENTIAL, Judged, KEY_WITHOUT_RIGHTS, REJECTED, RIGHTS, THROTTLED, UNAVAILABLE, UNKNOWN,
};

/// The first of these words that a table knows, and its judgment.
pub fn judge<'a>(code_desc: Option<&'a str>, code: Option<&'a str>) -> (Option<&'a str>, Judged) {
    let known = [code_desc, code].into_iter().flatten().find_map(|word| Some((word, find(word)?)));
    match known {
        Some((word, judged)) => (Some(word), judged),
        None => (code_desc.or(code), UNKNOWN),
    }
}

pub fn find(word: &str) -> Option<Judged> {
    TABLE.iter().find(|(known, _)| *known == word).map(|(_, judged)| *judged)
}

const TABLE: &[(&str, Judged)] = &[
    // RenewInstance. The misspelt name is the one on the wire.
    ("OperationConstraints.InvaildInstanceStatus", BUSY),
    ("OperationConstraints.InvalidInstanceStatus", BUSY),
    ("OperationConstraints.AccountBalanceNotEnough", BALANCE),
    ("PermissionDenied.UserQualificationAuditFailed", RIGHTS),
    ("NotSupport.SharedInstance", REJECTED),
    // An order may exist.
    ("OperationFail.SystemBusy", UNKNOWN),
    // Common
    ("4000", REJECTED),
    ("4100", CREDENTIAL),
    ("4101", RIGHTS),
    ("4102", RIGHTS),
    ("4103", RIGHTS),
    ("4104", CREDENTIAL),
    ("4105", CREDENTIAL),
    ("4106", CREDENTIAL),
    ("4110", RIGHTS),
    ("4200", UNAVAILABLE),
    ("4300", KEY_WITHOUT_RIGHTS),
    ("4400", THROTTLED),
    // Nonce and timestamp seen before: the request was accepted once already. Or the clock is off.
    ("4500", UNKNOWN),
    ("4600", REJECTED),
    ("5000", REJECTED),
    ("5100", UNKNOWN),
    ("5200", UNKNOWN),
    ("5300", BALANCE),
    ("5400", UNKNOWN),
    ("5500", RIGHTS),
    ("6000", UNKNOWN),
    ("6100", REJECTED),
    ("6200", UNAVAILABLE),
    // Modules
    ("10701", REJECTED),
    ("11055", REJECTED),
    ("11056", BUSY),
    ("11065", REJECTED),
    ("11066", REJECTED),
    ("100207", BALANCE),
];
