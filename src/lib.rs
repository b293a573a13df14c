//! renewd keeps prepaid cloud instances from lapsing, without ever paying twice.

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
