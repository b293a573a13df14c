//! The envelope of every answer: `{"ResponseMetadata": {"RequestId", …}, "Result": {…}}`, with
//! `ResponseMetadata.Error` when it failed.
//!
//! The error decides first, whatever the HTTP status: gateways send some with status 200. Without one, only a
//! whole answer of a 2xx status is a success; a body without `ResponseMetadata` is somebody else's, and leaves
//! open what the cloud did. Source: "return structure" of the OpenAPI documents, and what the SDKs test for.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cloud::call::Reply;
use crate::cloud::reading::{Object, Scalar, VendorError, WORD_MAX_CHARS, clip, parse, unusual_status};
use crate::cloud::volcengine::codes;

/// Reads the envelope, and its `Result` as `T` when it holds no error.
pub fn read<T: DeserializeOwned>(http_status: u16, body: &[u8]) -> Reply<T> {
    let head = parse::<Head>(body).map(|Head { response_metadata: Object(metadata) }| metadata);
    let request_id = head.as_ref().ok().and_then(|metadata| metadata.request_id.text());
    let request_id = request_id.map(|text| clip(text, WORD_MAX_CHARS));
    let result = match head {
        Ok(Metadata { error: Some(Object(error)), .. }) => Err(error.into_failure(codes::judge)),
        _ if !(200..300).contains(&http_status) => Err(unusual_status(http_status)),
        Ok(_) => parse::<Whole<T>>(body).map(|Whole { result: Object(answer) }| answer),
        Err(failure) => Err(failure),
    };
    Reply { request_id, result }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Head {
    response_metadata: Object<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", bound = "T: DeserializeOwned")]
struct Whole<T> {
    result: Object<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default)]
    request_id: Scalar,
    error: Option<Object<VendorError>>,
}
