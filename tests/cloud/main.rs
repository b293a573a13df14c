//! What the cloud room says and understands, pinned to published and recorded values.

mod codes;
mod replies;
mod vectors;
