//! The flat envelope of the legacy v2 API: `{code, codeDesc, message, …}`, `code` a number or a string.
//!
//! A code other than 0 decides first, whatever the HTTP status. Only a whole answer of status 200 with code 0 is
//! a success; everything else leaves open what the cloud did. Source: "return results" of API v2.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::cloud::call::Reply;
use crate::cloud::reading::{
    HTTP_OK, MESSAGE_MAX_CHARS, Object, Scalar, WORD_MAX_CHARS, clip, parse, unreadable, unusual_status,
};
use crate::cloud::tencentcloud::{answer, codes_v2};
use crate::domain::failure::Failure;
use crate::domain::order::OrderId;

const SUCCESS: i64 = 0;
const SUCCESS_WORD: &str = "Success";

/// Reads the envelope, and the rest of it as `T` when it holds no error.
pub fn read<T: DeserializeOwned>(http_status: u16, body: &[u8]) -> Reply<T> {
    let head = match parse::<Object<Head>>(body) {
        Ok(Object(head)) => head,
        Err(_) if http_status != HTTP_OK => return Reply::failed(unusual_status(http_status)),
        Err(failure) => return Reply::failed(failure),
    };
    if head.response.is_some() {
        return of_version_3(http_status, body);
    }
    let result = match (head.code.integer(), head.code.text()) {
        (Some(SUCCESS), _) if head.word().is_some() => Err(head.contradiction()),
        (Some(SUCCESS), _) if http_status == HTTP_OK => parse::<Object<T>>(body).map(|Object(answer)| answer),
        (Some(SUCCESS), _) => Err(unusual_status(http_status)),
        (None, None) => Err(unreadable("the answer has no `code`")),
        _ => Err(head.into_failure()),
    };
    Reply { request_id: None, result }
}

/// The answer to a purchase: code 0 is the sign of acceptance. The page lists no order number, its example does,
/// and related actions give one under other names.
pub fn purchase(http_status: u16, body: &[u8]) -> Reply<Option<OrderId>> {
    read::<Value>(http_status, body).and_then(|answer| Ok(order_id(&answer)))
}

/// The two versions live on one host, and a gateway there may answer in the other's envelope. Its errors mean
/// what they say; a success in it is none of ours.
fn of_version_3<T>(http_status: u16, body: &[u8]) -> Reply<T> {
    answer::read::<IgnoredAny>(http_status, body)
        .and_then(|_| Err(unreadable("the answer is one of API 3.0, though the call was not")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    code: Scalar,
    #[serde(default)]
    code_desc: Scalar,
    #[serde(default)]
    message: Scalar,
    #[serde(rename = "Response")]
    response: Option<IgnoredAny>,
}

impl Head {
    /// What `codeDesc` says beyond success.
    fn word(&self) -> Option<&str> {
        self.code_desc.text().filter(|word| !word.eq_ignore_ascii_case(SUCCESS_WORD))
    }

    fn contradiction(&self) -> Failure {
        unreadable(format!("`code` says success and `codeDesc` says {}", self.word().unwrap_or_default()))
    }

    fn into_failure(self) -> Failure {
        let code_desc = self.word();
        let (word, judged) = codes_v2::judge(code_desc, self.code.text());
        let word = word.unwrap_or_default();
        let message = self.message.text().unwrap_or_default();
        // Whichever of the two did not become the code is kept beside the message.
        let other = [code_desc, self.code.text()].into_iter().flatten().find(|other| *other != word);
        let message = other.map_or_else(|| message.to_owned(), |other| format!("{message} ({other})"));
        Failure::ours(judged.class, &clip(word, WORD_MAX_CHARS), clip(message.trim(), MESSAGE_MAX_CHARS))
    }
}

fn order_id(answer: &Value) -> Option<OrderId> {
    let places = [Some(answer), answer.get("data")].into_iter().flatten();
    places.flat_map(|place| [place.get("dealId"), place.get("dealIds")]).flatten().find_map(one_order_id)
}

/// A list of several is none: which of them this order is, it does not say.
fn one_order_id(value: &Value) -> Option<OrderId> {
    let value = match value {
        Value::Array(ids) if ids.len() == 1 => &ids[0],
        other => other,
    };
    Scalar::deserialize(value).ok()?.order_id()
}
