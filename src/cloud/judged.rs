//! What a vendor's error code says about the call that met it; the vendors' own tables are beside their rooms.

use std::iter::successors;

use crate::cloud::call::Cause;
use crate::domain::failure::Class;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    pub class: Class,
    /// Only where it decides what is to be done.
    pub cause: Option<Cause>,
}

/// Codes and what they say.
pub type Table = [(&'static str, Judged)];

impl Judged {
    pub const THROTTLED: Judged = Judged::plain(Class::Throttled);
    pub const BUSY: Judged = Judged::plain(Class::Busy);
    pub const UNAVAILABLE: Judged = Judged::plain(Class::Unavailable);
    pub const REJECTED: Judged = Judged::plain(Class::Rejected);
    pub const CREDENTIAL: Judged = Judged::plain(Class::Credential);
    pub const UNKNOWN: Judged = Judged::plain(Class::Unknown);
    pub const BALANCE: Judged = Judged::of(Class::Blocked, Cause::Balance);
    pub const UNPAID_ORDER: Judged = Judged::of(Class::Blocked, Cause::UnpaidOrder);
    pub const RIGHTS: Judged = Judged::of(Class::Blocked, Cause::Rights);
    /// Stops the whole key, as the documentation of some codes asks; the reason is still its rights.
    pub const KEY_WITHOUT_RIGHTS: Judged = Judged::of(Class::Credential, Cause::Rights);
    pub const PROCESSING: Judged = Judged::of(Class::Unknown, Cause::Processing);

    const fn plain(class: Class) -> Judged {
        Judged { class, cause: None }
    }

    const fn of(class: Class, cause: Cause) -> Judged {
        Judged { class, cause: Some(cause) }
    }
}

pub fn find(table: &Table, code: &str) -> Option<Judged> {
    table.iter().find(|(known, _)| *known == code).map(|(_, judged)| *judged)
}

/// The code, or the longest of its dotted prefixes that the table knows.
pub fn find_family(table: &Table, code: &str) -> Option<Judged> {
    let mut families = successors(Some(code), |code| code.rsplit_once('.').map(|(parent, _)| parent));
    families.find_map(|family| find(table, family))
}
