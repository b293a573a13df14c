//! The daemon's parts stepped by hand against the practice cloud, on clocks that move when told.
//!
//! Some random lists are played by each run of the tests; `RENEWD_SIM_LISTS=20000` plays so many from seed
//! `RENEWD_SIM_FIRST` on, `RENEWD_SIM_SECONDS=600` as many as fit into that time, `RENEWD_SIM_SEED` one of them again.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod campaign;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod found;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod lane;
#[cfg(test)]
mod life;
#[cfg(test)]
mod operation;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod play;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod totals;
#[cfg(test)]
mod year;
