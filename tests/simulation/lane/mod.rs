//! A lane stepped by hand: what it orders and in what order, what it leaves in the database, and what it tells the log.

mod answers;
mod held_up;
mod looks;
mod order_of_work;
mod pauses;
mod prices;
mod refusals;
mod scene;
mod stops;
mod told;
mod withheld;
