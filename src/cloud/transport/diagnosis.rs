//! From an HTTP client's error to the class that decides what happens next.

use std::error::Error;

use crate::domain::failure::{Class, Failure};

/// Only a failed connect proves that nothing was sent; it includes name lookup, TLS and the connect timeout.
/// Everything else is unknown: the client cannot tell how far a request came.
pub fn failure(error: reqwest::Error, host: &str) -> Failure {
    // Messages name the host only.
    let error = error.without_url();
    let cause = root_cause(&error);
    if error.is_connect() {
        let what = if error.is_dns() { "could not look up" } else { "could not connect to" };
        return Failure::ours(Class::Unsent, "NotConnected", format!("{what} {host}: {cause}"));
    }
    let (code, message) = if error.is_timeout() {
        ("Timeout", format!("{host} gave no whole answer in time"))
    } else if is_unreadable(&error) {
        ("Unreadable", format!("{host} answered something that is not HTTP: {cause}"))
    } else {
        ("ConnectionCut", format!("the connection to {host} broke before the answer was whole: {cause}"))
    };
    Failure::ours(Class::Unknown, code, message)
}

fn is_unreadable(error: &reqwest::Error) -> bool {
    chain(error).filter_map(|source| source.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
}

fn root_cause(error: &reqwest::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let outermost: &(dyn Error + 'static) = error;
    std::iter::successors(Some(outermost), |&error| error.source())
}
