//! What each error code of the legacy v2 API says about the purchase that met it.
//!
//! The word in `codeDesc`, exact and then by its dotted prefixes, goes before the number in `code`, and what the table
//! does not know is unknown. Sources:
//! the error table of CVM v2 RenewInstance, the "common error codes" of API v2, and the module codes of the v2
//! renewals.

use crate::cloud::judged::{self, Judged, Table};

/// The first of these words that a table knows, and its judgment.
pub fn judge<'a>(code_desc: Option<&'a str>, code: Option<&'a str>) -> (Option<&'a str>, Judged) {
    let known = [code_desc, code].into_iter().flatten().find_map(|word| Some((word, find(word)?)));
    match known {
        Some((word, judged)) => (Some(word), judged),
        None => (code_desc.or(code), Judged::UNKNOWN),
    }
}

pub fn find(word: &str) -> Option<Judged> {
    judged::find_family(TABLE, word)
}

const TABLE: &Table = &[
    // RenewInstance. The misspelt name is the one on the wire.
    ("OperationConstraints.InvaildInstanceStatus", Judged::BUSY),
    ("OperationConstraints.InvalidInstanceStatus", Judged::BUSY),
    ("OperationConstraints.AccountBalanceNotEnough", Judged::BALANCE),
    ("PermissionDenied.UserQualificationAuditFailed", Judged::RIGHTS),
    ("NotSupport.SharedInstance", Judged::REJECTED),
    // An order may exist.
    ("OperationFail.SystemBusy", Judged::UNKNOWN),
    // Common
    ("4000", Judged::REJECTED),
    ("4100", Judged::CREDENTIAL),
    ("4101", Judged::RIGHTS),
    ("4102", Judged::RIGHTS),
    ("4103", Judged::RIGHTS),
    ("4104", Judged::CREDENTIAL),
    ("4105", Judged::CREDENTIAL),
    ("4106", Judged::CREDENTIAL),
    ("4110", Judged::RIGHTS),
    ("4200", Judged::UNAVAILABLE),
    ("4300", Judged::KEY_WITHOUT_RIGHTS),
    ("4400", Judged::THROTTLED),
    // Nonce and timestamp seen before: the request was accepted once already. Or the clock is off.
    ("4500", Judged::UNKNOWN),
    ("4600", Judged::REJECTED),
    ("5000", Judged::REJECTED),
    ("5100", Judged::UNKNOWN),
    ("5200", Judged::UNKNOWN),
    ("5300", Judged::BALANCE),
    ("5400", Judged::UNKNOWN),
    ("5500", Judged::RIGHTS),
    ("6000", Judged::UNKNOWN),
    ("6100", Judged::REJECTED),
    ("6200", Judged::UNAVAILABLE),
    // Modules
    ("10701", Judged::REJECTED),
    ("11055", Judged::REJECTED),
    ("11056", Judged::BUSY),
    ("11065", Judged::REJECTED),
    ("11066", Judged::REJECTED),
    ("100207", Judged::BALANCE),
];
