//! Where an account's calls go when they do not go to the provider's own hosts.

use std::fmt;

use reqwest::Url;
use thiserror::Error;

/// `scheme://host[:port]` over http or https, with nothing behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Carries nothing of the text: a refused one may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    #[error("does not begin with `http://` or `https://`")]
    Scheme,
    #[error("is not `scheme://host[:port]`")]
    NotAnEndpoint,
    #[error("holds a user name or password; credentials belong into the account's secrets")]
    UserInfo,
    #[error(
        "has a path, query or fragment; the provider's API fixes these, write only `scheme://host[:port]`"
    )]
    PastTheHost,
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(EndpointError::Scheme);
        }
        // The parser would silently drop blanks and turn backslashes into slashes.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(EndpointError::NotAnEndpoint);
        }
        let url = Url::parse(text).map_err(|_| EndpointError::NotAnEndpoint)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::UserInfo);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::PastTheHost);
        }
        Ok(Endpoint(url))
    }

    /// Plain http to another machine: whoever is between can read and replay.
    pub fn is_plain_to_elsewhere(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let is_local = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        self.0.scheme() == "http" && !is_local
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// The `Host` header of a call to this place: the port stands in it unless it is the scheme's own.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_written_as_the_host_header_has_it() {
        let host = |text| Endpoint::parse(text).map(|endpoint| endpoint.host());
        assert_eq!(host("http://127.0.0.1:9500").as_deref(), Ok("127.0.0.1:9500"));
        assert_eq!(host("https://Redis.Example.com:443/").as_deref(), Ok("redis.example.com"));
        assert_eq!(host("http://[::1]:9500").as_deref(), Ok("[::1]:9500"));
    }

    #[test]
    fn anything_but_scheme_host_and_port_is_refused() {
        let refused = |text| Endpoint::parse(text).unwrap_err();
        assert_eq!(refused("redis.tencentcloudapi.com"), EndpointError::Scheme);
        assert_eq!(refused("ftp://host"), EndpointError::Scheme);
        assert_eq!(refused("http://"), EndpointError::NotAnEndpoint);
        assert_eq!(refused("http://host:99999"), EndpointError::NotAnEndpoint);
        assert_eq!(refused("http://ho st"), EndpointError::NotAnEndpoint);
        assert_eq!(refused("https://me:secret@host"), EndpointError::UserInfo);
        for past in ["http://host/path", "http://host?query", "http://host/#fragment"] {
            assert_eq!(refused(past), EndpointError::PastTheHost, "{past}");
        }
    }
}
