//! The service as an operator meets it: the real binary, the practice cloud, and after each story the cloud's
//! ledger beside `orders --json`.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod before_start;
#[cfg(test)]
mod by_hand;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod edits;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod guards;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod http;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod main_job;
#[cfg(test)]
mod metrics;
#[cfg(test)]
#[path = "../support/nobody.rs"]
mod nobody;
#[cfg(test)]
mod people;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod products;
#[cfg(test)]
mod progress;
#[cfg(test)]
mod risks;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod scrape;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod start;
#[cfg(test)]
mod supervisor;
#[cfg(test)]
mod surroundings;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod why;
