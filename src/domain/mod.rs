//! The words of renewd: newtypes and enums without I/O, async or a clock.

pub mod failure;
pub mod money;
pub mod observation;
pub mod order;
pub mod policy;
pub mod product;
pub mod run;
pub mod secret;
pub mod upgrade;
pub mod written_time;
