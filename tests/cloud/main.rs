//! What the cloud room says and understands, pinned to published and recorded values.
//! (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#[cfg(test)]
mod codes;
#[cfg(test)]
mod codes_v2;
#[cfg(test)]
mod cvm;
#[cfg(test)]
mod cvm_v2;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod vectors_v2;
