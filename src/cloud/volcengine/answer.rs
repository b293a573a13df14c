//! The envelope of every answer: `{"ResponseMetadata": {"RequestId", …}, "Result": {…}}`, with
//! `ResponseMetadata.Error` when it failed.
//!
//! The error decides first, whatever the HTTP status: gateways send some with status 200. Without one, only a
//! whole answer of a 2xx status is a success; a body without `ResponseMetadata` is somebody else's, and leaves
//! open what the cloud did. Source: "return structure" of the OpenAPI documents, and what the SDKs test for.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cloud::call::Reply;
use crate::cloud::reading::{MESSAGE_MAX_CHARS, Scalar, WORD_MAX_CHARS, clip, object, parse, unreadable};
use crate::cloud::volcengine::codes;
use crate::domain::failure::{Class, Failure};

/// Reads the envelope, and its `Result` as `T` when it holds no error.
pub fn read<T: DeserializeOwned>(http_status: u16, body: &[u8]) -> Reply<T> {
    let head = parse::<Head>(body).map(|head| head.response_metadata);
    let request_id = head.as_ref().ok().and_then(|metadata| metadata.request_id.text());
    let request_id = request_id.map(|text| clip(text, WORD_MAX_CHARS));
    let result = match head {
        Ok(Metadata { error: Some(error), .. }) => Err(error.into_failure()),
        _ if !(200..300).contains(&http_status) => Err(unusual_status(http_status)),
        Ok(_) => parse::<Whole<T>>(body).map(|whole| whole.result),
        Err(failure) => Err(failure),
    };
    Reply { request_id, result }
}

fn unusual_status(http_status: u16) -> Failure {
    let message =
        format!("HTTP status {http_status} without an error of the API; something in between answered");
    Failure::ours(Class::Unknown, "HttpStatus", message)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Head {
    #[serde(deserialize_with = "object")]
    response_metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Whole<T> {
    #[serde(rename = "Result", deserialize_with = "object")]
    result: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default)]
    request_id: Scalar,
    error: Option<VendorError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VendorError {
    #[serde(default)]
    code: Scalar,
    #[serde(default)]
    message: Scalar,
}

impl VendorError {
    fn into_failure(self) -> Failure {
        let Some(code) = self.code.text() else {
            return unreadable("the answer holds an error without a code");
        };
        let message = self.message.text().unwrap_or_default();
        Failure::ours(codes::judge(code).class, &clip(code, WORD_MAX_CHARS), clip(message, MESSAGE_MAX_CHARS))
    }
}
