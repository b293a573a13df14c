//! The store through its public API, and what only the whole of engine, store and schema can promise.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod backup;
#[cfg(test)]
mod by_hand;
#[cfg(test)]
mod epochs;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod firings;
#[cfg(test)]
mod intents;
#[cfg(test)]
mod leaps;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod looks;
#[cfg(test)]
mod observations;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod resolve;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod tokens;
