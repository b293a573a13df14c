//! Documented answers, read as the client reads them: as they stand, varied as vendors vary them, and mutated.
//!
//! They are in `tests/replies/<provider>/golden/`, named after the API and, past a point, what sets them apart. `page`
//! is the example of the page that the product was built from, to the letter and with its slips. The others are the
//! examples of the vendors' present documents and, where those have none, put together from their tables of fields.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod golden;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod mutate;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod variants;
