//! The daemon killed at random moments, many of them between a purchase's intent and its answer: whatever the
//! moment, nobody is charged twice, every charge is known to an order row, and every due instant is accounted for.
//!
//! `RENEWD_KILLS` sets how many kills, `RENEWD_SEED` repeats the moments of an earlier run. A second campaign kills at
//! the commits themselves, each product being bought: `RENEWD_COMMITS=7` kills at every seventh write and every seventh
//! sync of the database.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod account;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod service;
