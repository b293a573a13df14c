//! The pace of purchases as the practice cloud sees it: no refused request, no crowded second, and hardly a slot lost.
//!
//! `RENEWD_PACE_RENEWALS` sets how many renewals.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod ledger;
#[cfg(test)]
#[path = "../crash/service.rs"]
mod service;
