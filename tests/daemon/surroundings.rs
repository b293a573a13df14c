//! Faults around the service: its disk, its database file, the network and the clocks. Never an order without its
//! row, never a charge lost, and the operator is told.

mod clock;
mod database;
mod network;
mod relay;
