//! renewd keeps prepaid cloud instances from lapsing, without ever paying twice.

pub mod domain;

pub mod clock;

pub mod schedule;

pub mod cloud;

pub mod config;
