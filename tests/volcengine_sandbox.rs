//! The practice cloud as Volcengine, over real HTTP: renewals, tokens, lists, prices, orders, faults, signatures.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "volcengine_sandbox/client.rs"]
mod client;
#[path = "volcengine_sandbox/orders.rs"]
mod orders;
#[path = "volcengine_sandbox/renewals.rs"]
mod renewals;
#[path = "volcengine_sandbox/signatures.rs"]
mod signatures;
