//! The envelope of every answer: `{"Response": {…, "RequestId"}}`, with `Error` inside when it failed.
//!
//! `Response.Error` decides first, whatever the HTTP status. Without it, only a whole answer of status 200 is
//! a success; everything else leaves open what the cloud did. Source: "common error codes" and "return
//! results" of the API 3.0 pages.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cloud::call::Reply;
use crate::cloud::reading::{
    HTTP_OK, Object, Scalar, VendorError, WORD_MAX_CHARS, clip, parse, unreadable, unusual_status,
};
use crate::cloud::tencentcloud::codes;
use crate::domain::order::OrderId;

/// Reads the envelope, and what is in it as `T` when it holds no error.
pub fn read<T: DeserializeOwned>(http_status: u16, body: &[u8]) -> Reply<T> {
    let head = parse::<Envelope<Head>>(body).map(|Envelope { response: Object(head) }| head);
    let request_id = head.as_ref().ok().and_then(|head| head.request_id.text());
    let request_id = request_id.map(|text| clip(text, WORD_MAX_CHARS));
    let result = match head {
        Ok(Head { error: Some(Object(error)), .. }) => Err(error.into_failure(codes::judge)),
        _ if http_status != HTTP_OK => Err(unusual_status(http_status)),
        Ok(_) => parse::<Envelope<T>>(body).map(|Envelope { response: Object(answer) }| answer),
        Err(failure) => Err(failure),
    };
    Reply { request_id, result }
}

/// The answer to a purchase. Accepted needs a sign of acceptance: an order number or at least a request id.
pub fn purchase(http_status: u16, body: &[u8]) -> Reply<Option<OrderId>> {
    let Reply { request_id, result } = read::<Deal>(http_status, body);
    let accepted = result.and_then(|deal| match deal.order_id() {
        None if request_id.is_none() => {
            Err(unreadable("the answer has neither an order number nor a request id"))
        }
        order_id => Ok(order_id),
    });
    Reply { request_id, result: accepted }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", bound = "T: DeserializeOwned")]
struct Envelope<T> {
    response: Object<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Head {
    error: Option<Object<VendorError>>,
    #[serde(default)]
    request_id: Scalar,
}

/// Older pages show `DealId`, newer answers bring `DealName`; both are optional.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deal {
    #[serde(default)]
    deal_name: Scalar,
    #[serde(default)]
    deal_id: Scalar,
}

impl Deal {
    fn order_id(&self) -> Option<OrderId> {
        self.deal_name.order_id().or_else(|| self.deal_id.order_id())
    }
}
