//! The clouds: requests are signed, sent and read here, and nowhere else.

pub mod canonical;
pub mod tencentcloud;
