//! The practice cloud from outside, over real HTTP: what INTERFACE section 6 and the vendor's pages promise.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "sandbox/admin.rs"]
mod admin;
#[path = "sandbox/calls.rs"]
mod calls;
#[path = "sandbox/client.rs"]
mod client;
#[path = "sandbox/cvm.rs"]
mod cvm;
#[path = "sandbox/faults.rs"]
mod faults;
#[path = "sandbox/metadata.rs"]
mod metadata;
#[path = "sandbox/signatures.rs"]
mod signatures;
