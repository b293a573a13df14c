//! The two shapes of an answer: that of API 3.0 and that of the legacy v2 API.

use serde_json::{Value, json};

use crate::sandbox::delivery::Answer;
use crate::sandbox::desk::{self, Refusal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// `{"Response": {…, "RequestId"}}`
    V3,
    /// `{code, codeDesc, message, …}`
    V2,
}

/// Numbers of v2 for words of ours and of the API. The page gives none for the words of CVM; that of the balance is
/// known from other products.
const NUMBERS: [(&str, i64); 7] = [
    ("InvalidParameter", 4_000),
    ("MissingParameter", 4_000),
    ("UnknownParameter", 4_000),
    ("UnsupportedOperation", 4_000),
    ("InternalError", 6_000),
    ("OperationConstraints.AccountBalanceNotEnough", 100_207),
    ("PermissionDenied.UserQualificationAuditFailed", 5_500),
];
/// "The operation on the resource failed".
const OTHER_NUMBER: i64 = 5_100;

impl desk::Envelope for Envelope {
    /// Refusals come with status 200, as every answer of the service itself.
    fn refusal(&self, refusal: &Refusal, request_id: &str) -> Answer {
        let Refusal { code, message } = refusal;
        let value = match self {
            Envelope::V3 => {
                let error = json!({ "Code": code, "Message": message });
                json!({ "Response": { "Error": error, "RequestId": request_id } })
            }
            Envelope::V2 => match code.parse::<i64>() {
                Ok(number) => json!({ "code": number, "codeDesc": "", "message": message }),
                Err(_) => json!({ "code": number_of(code), "codeDesc": code, "message": message }),
            },
        };
        Answer::json(200, &value)
    }

    fn success(&self, mut response: Value, request_id: &str) -> Answer {
        let value = match self {
            Envelope::V3 => {
                response["RequestId"] = json!(request_id);
                json!({ "Response": response })
            }
            Envelope::V2 => {
                response["code"] = json!(0);
                response["codeDesc"] = json!("Success");
                response["message"] = json!("");
                response
            }
        };
        Answer::json(200, &value)
    }

    fn too_fast(&self) -> &'static str {
        match self {
            Envelope::V3 => "RequestLimitExceeded",
            Envelope::V2 => "4400",
        }
    }

    fn bad_token(&self) -> &'static str {
        match self {
            Envelope::V3 => "AuthFailure.TokenFailure",
            Envelope::V2 => "4105",
        }
    }
}

fn number_of(word: &str) -> i64 {
    NUMBERS.iter().find(|(known, _)| *known == word).map_or(OTHER_NUMBER, |(_, number)| *number)
}
