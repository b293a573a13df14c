//! What the cloud room says to Volcengine and understands of it, pinned to published values.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod codes;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod vectors;
