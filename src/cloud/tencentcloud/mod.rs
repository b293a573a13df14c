//! Tencent Cloud, API 3.0.

pub mod sign;
