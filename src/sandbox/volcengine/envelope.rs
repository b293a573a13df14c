//! The shape of an answer, and the HTTP status of each code.

use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::sandbox::delivery::Answer;
use crate::sandbox::desk::{Envelope, Refusal};
use crate::sandbox::volcengine::{query_value, verify};

/// What every answer repeats of its call.
pub(super) struct Metadata {
    pub action: String,
    pub version: String,
    pub service: String,
    pub region: String,
}

impl Metadata {
    pub(super) fn of(request: &Request<Bytes>) -> Metadata {
        let (region, service) = verify::claimed_scope(request).unwrap_or_default();
        let text = |name| query_value(request, name).unwrap_or_default();
        Metadata { action: text("Action"), version: text("Version"), service, region }
    }

    fn to_json(&self, request_id: &str) -> Value {
        let Metadata { action, version, service, region } = self;
        json!({
            "RequestId": request_id,
            "Action": action,
            "Version": version,
            "Service": service,
            "Region": region,
        })
    }
}

impl Envelope for Metadata {
    fn success(&self, response: Value, request_id: &str) -> Answer {
        Answer::json(200, &json!({ "ResponseMetadata": self.to_json(request_id), "Result": response }))
    }

    fn refusal(&self, refusal: &Refusal, request_id: &str) -> Answer {
        let mut metadata = self.to_json(request_id);
        metadata["Error"] = json!({ "Code": refusal.code, "Message": refusal.message, "CodeN": 0 });
        Answer::json(http_status(&refusal.code), &json!({ "ResponseMetadata": metadata }))
    }

    fn too_fast(&self) -> &'static str {
        "AccountFlowLimitExceeded"
    }

    fn bad_token(&self) -> &'static str {
        "InvalidSecretToken"
    }
}

/// As the pages of the codes say; 400 where they say nothing.
fn http_status(code: &str) -> u16 {
    match code {
        "MissingAuthenticationToken"
        | "MissingSignature"
        | "InvalidAccessKey"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "InvalidSecretToken" => 401,
        "LackPolicy" | "LackProjectPolicy" | "AccessDenied" | "InvalidInstance.RequestForbidden" => 403,
        "ServiceNotFound" | "InvalidActionOrVersion" | "InvalidInstance.NotFound" => 404,
        "MethodNotAllowed" => 405,
        "IdempotentProcessing" | "OperationDenied.ResourceLocked" => 412,
        "FlowLimitExceeded" | "AccountFlowLimitExceeded" | "RequestLimitExceeded" => 429,
        "InternalError" | "UndefinedError" => 500,
        "InternalServiceError" | "FailToConnect" => 502,
        "ServiceUnavailableTemp" => 503,
        "InternalServiceTimeout" => 504,
        _ => 400,
    }
}
