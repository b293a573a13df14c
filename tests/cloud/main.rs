//! What the cloud room says and understands, pinned to published and recorded values.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod codes;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod vectors;
