//! renewd keeps prepaid cloud instances from lapsing, without ever paying twice.
//!
//! It reads renewal policies from files, keeps them and everything it does in SQLite, fires them by cron
//! schedules, and orders renewals at the clouds through one lane an account. A renewal is a purchase, and most of
//! the clouds' APIs take no idempotency token: a request repeated is a second charge, an answer that never came
//! says nothing about the money, and an instance not renewed is destroyed. All of the design follows from that.
//!
//! # Flow
//!
//! ```text
//! files --config--> store.policies --ticker+schedule--> runs(queued) --claim--> lane --permit, guard, intent, send--> cloud
//!                                                         ^                      |                                  |
//!                                                         +--- finish(claim) ----+<---------- retry::after(answer) --+
//! unknown, placed --reconcile(evidence)--> confirmed | queued again | a person
//! ```
//!
//! `plan` and `check --online` ask the clouds by an engine of their own, on a database in memory: what they are told
//! goes through the same calls, pace and guard, and nothing of it is written down or sent.
//!
//! # Floors
//!
//! Imports point down only, and rooms on one floor do not know each other; `tests/tidy.rs` holds them to it. The
//! modules below stand in reading order.
//!
//! | floor | rooms | |
//! |---|---|---|
//! | 0 words | [`domain`], [`clock`] | newtypes and enums; the only reader of wall time |
//! | 1 decisions | [`schedule`], [`guard`], [`retry`], [`verdict`] | pure functions, `now` is an argument |
//! | 2 the outside | [`limiter`], [`store`], [`cloud`] | pace, SQLite, the vendors' APIs |
//! | 3 the work | [`engine`] | the only place where store and cloud meet |
//! | 4 the operator's side | [`config`], [`telemetry`], [`sandbox`] | files; logs, journal, metrics and health; the practice cloud |
//! | 5 | [`daemon`] | wiring, signals, readiness, graceful stop |
//! | 6 | [`cli`] | one file a command |
//!
//! # Invariants
//!
//! Invariant: no purchase leaves the process before its order row is committed with `synchronous=FULL`; sending
//! takes the [`domain::order::Committed`] that only [`store::Store::intend`] makes, and consumes it.
//!
//! Invariant: at most one order of an instance is open, and at most one order of a cycle stands. Two unique indexes
//! of `migrations/` say so; nothing else needs to be right for it to hold. Only an upgrade that has been open longer
//! than the settling time stands aside for a renewal: a size must not let an instance lapse.
//!
//! Invariant: pause, epoch, budget, open order, cycle, and that nobody else has ordered since the guard looked, are
//! conditions of the intent's own INSERT.
//!
//! Invariant: an order rests on a look made since its run was claimed, at most a minute old, and since which nothing of
//! the instance was settled and no pause was lifted: what a person did meanwhile is seen.
//!
//! Invariant: an unknown outcome is never repeated, but with the token of an API that takes one, within five minutes and
//! one life of the process. [`verdict`] calls an order "not ordered" only on evidence, and
//! what evidence cannot settle waits for a person.
//!
//! Invariant: a reload takes one whole valid set of files or nothing. What left under an old pace, an old key or an
//! account that has gone counts on; where an account's calls go never changes in its life; unsent work goes by the
//! revision, and is paid by the account, that its policy has by then.
//!
//! Invariant: keys are read, or fetched for the machine's role, before they are needed and never in the way of another
//! account; keys of a role sign nothing from five seconds before their end, and their pace is the role's.
//!
//! Invariant: a run ends once, with a reason; triggers in the schema refuse to let it leave its end.
//!
//! Invariant: what is counted of runs, orders and money is counted by triggers, in the transaction of the change itself;
//! no figure decides anything, and nobody who reads a log or a metric is waited for.
//!
//! Invariant: absent are a lease timer (one daemon, one epoch), a transaction open during a call, a lock held over
//! an await, work in a scheduler's callback, and any second reader of the wall clock.

pub mod domain;

pub mod clock;

pub mod guard;
pub mod retry;
pub mod schedule;
pub mod verdict;

pub mod cloud;
pub mod limiter;
pub mod store;

pub mod engine;

pub mod config;
pub mod sandbox;
pub mod telemetry;

pub mod daemon;

pub mod cli;
