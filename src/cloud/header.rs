//! Header names and values, made without a word of a secret in the error.

use reqwest::header::{HeaderName, HeaderValue};

use crate::domain::failure::{Class, Failure};

pub fn name(lower_case: &'static str) -> HeaderName {
    HeaderName::from_static(lower_case)
}

pub fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| {
        let message = "the key id or the token holds characters that no HTTP header can carry; set it anew";
        Failure::ours(Class::Credential, "UnusableCredentials", message)
    })
}

pub fn secret_value(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}
