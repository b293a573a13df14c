//! What must hold of the reading of any body whatever, found out from the body by other means than the readers'.

use std::collections::HashMap;
use std::ops::Range;

use jiff::Timestamp;
use renewd::cloud::Reply;
use renewd::domain::failure::{Class, Failure};
use renewd::domain::observation::{AutoRenew, ChargeType, Observation, Presence};
use renewd::domain::order::{ListedOrder, OrderId, Standing};
use renewd::domain::policy::ActionKind;
use renewd::domain::product::{InstanceId, Provider};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::reader::{CVM, CVM_V2, ECS, Envelope, REDIS, Reader, Reading, instance_of_deals, zone};

const ORDER_ID_KEYS: [&str; 8] =
    ["DealName", "DealId", "dealId", "dealIds", "OrderId", "OrderID", "orderId", "Id"];
const INSTANCE_ID_KEYS: [&str; 4] = ["InstanceId", "InstanceID", "instanceId", "unInstanceId"];
const AMOUNT_KEYS: [&str; 9] = [
    "Price",
    "HighPrecisionPrice",
    "price",
    "DiscountPrice",
    "OriginalPrice",
    "TotalDiscountAmount",
    "AvailableBalance",
    "RealBalance",
    "Balance",
];
const AMOUNT_MAX_FEN: i64 = 1 << 53;
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
const DEPTH: usize = 8;
const CODE_MAX_CHARS: usize = 200;
const MESSAGE_MAX_CHARS: usize = 2_000;

pub fn check(reader: Reader, http_status: u16, body: &[u8], reply: &Reply<Reading>) -> Result<(), String> {
    let answer = || std::str::from_utf8(body).ok().and_then(|text| Answer::of(reader.envelope(), text));
    match &reply.result {
        Err(failure) => {
            check_words(failure)?;
            if failure.class == Class::Unknown { Ok(()) } else { check_refusal(failure, answer()) }
        }
        Ok(reading) => {
            let answer = answer().ok_or("a success out of what is no whole object of JSON")?;
            answer.check_success(http_status)?;
            check_reading(reader, reading, reply.request_id.as_deref(), &answer)
        }
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn check_words(Failure { class, code, message, .. }: &Failure) -> Result<(), String> {
    ensure(code.chars().count() <= CODE_MAX_CHARS, || format!("a code of {} bytes", code.len()))?;
    ensure(message.chars().count() <= MESSAGE_MAX_CHARS, || format!("a message of {} bytes", message.len()))?;
    ensure(*class != Class::Unsent, || "what was answered is called unsent".to_owned())
}

/// A definite class says that the cloud did not act, and only the cloud can say that.
fn check_refusal(failure: &Failure, answer: Option<Answer<'_>>) -> Result<(), String> {
    let answer = answer.ok_or_else(|| format!("{failure} out of what is no whole object of JSON"))?;
    let error = answer.error.as_ref().ok_or_else(|| format!("{failure} where the cloud reports no error"))?;
    let named = scalars(error, "").into_iter().any(|(_, text)| text.trim() == failure.code);
    ensure(named, || format!("{failure} where the cloud does not name that code"))
}

fn check_reading(
    reader: Reader,
    reading: &Reading,
    request_id: Option<&str>,
    answer: &Answer<'_>,
) -> Result<(), String> {
    match reading {
        Reading::Accepted(order_id) => check_accepted(reader, order_id.as_ref(), request_id, answer),
        Reading::Seen(seen) => check_seen(reader, seen, answer),
        Reading::Amount(fen) => check_amount(reader, fen.get(), answer),
        Reading::Listed(orders) => {
            let of_the_instance = |deal: &Value| {
                let named = deal.get("ResourceId").and_then(Value::as_array).cloned().unwrap_or_default();
                let id = instance_of_deals();
                named.is_empty()
                    || named.iter().any(|named| scalar(named).is_some_and(|text| text.trim() == id.as_str()))
            };
            check_orders(orders, &answer.entries("Deals", of_the_instance), ["OrderId", "Action"])
        }
        Reading::Page(page) => {
            check_orders(&page.orders, &answer.entries("OrderInfos", |_| true), ["OrderID", "OrderType"])
        }
        Reading::Settings(settings) => check_settings(reader, settings, answer),
        Reading::Lines(lines) => {
            ensure(!lines.is_empty(), || "an order of nothing".to_owned())?;
            let listed = answer.entries("OrderProductInfos", |_| true);
            ensure(listed.len() == lines.len(), || "a line was lost".to_owned())?;
            lines.iter().try_for_each(|line| answer.names_instance(line))
        }
    }
}

fn check_accepted(
    reader: Reader,
    order_id: Option<&OrderId>,
    request_id: Option<&str>,
    answer: &Answer<'_>,
) -> Result<(), String> {
    if let Some(OrderId(id)) = order_id {
        return answer.holds(&ORDER_ID_KEYS, id);
    }
    ensure(reader.envelope() != Envelope::Volcengine, || "accepted without an order number".to_owned())?;
    let is_signed = reader.envelope() == Envelope::Version2 || request_id.is_some_and(|id| !id.is_empty());
    ensure(is_signed, || "accepted without any sign of it".to_owned())?;
    let names: &[&str] =
        if reader.envelope() == Envelope::Version2 { &["dealId"] } else { &["DealName", "DealId"] };
    let overlooked = names
        .iter()
        .filter_map(|key| answer.payload.get(*key)?.as_str())
        .find(|text| !text.trim().is_empty() && text.trim() != "0");
    ensure(overlooked.is_none(), || format!("the order number {overlooked:?} was overlooked"))
}

fn check_seen(reader: Reader, seen: &[Observation], answer: &Answer<'_>) -> Result<(), String> {
    let ids: Vec<_> = seen.iter().map(|observation| &observation.instance).collect();
    ensure(ids == reader.ids().iter().collect::<Vec<_>>(), || "not what was asked for".to_owned())?;
    for Observation { instance, presence, .. } in seen {
        let is_named = answer.names_instance(instance);
        let Presence::Visible(facts) = presence else {
            ensure(is_named.is_err(), || format!("{instance} is listed and called invisible"))?;
            continue;
        };
        is_named?;
        facts.expires_at.map_or(Ok(()), |at| check_date(at, answer))?;
        if facts.charge == ChargeType::Prepaid {
            let (key, word) = match reader {
                Reader::Observations(REDIS) => ("BillingMode", "1"),
                Reader::Observations(CVM) => ("InstanceChargeType", "PREPAID"),
                Reader::Observations(CVM_V2) => ("cvmPayMode", "1"),
                _ => ("InstanceChargeType", "PrePaid"),
            };
            answer.holds(&[key], word)?;
        }
    }
    Ok(())
}

/// A date within reason, whose year the answer spells (or the next or last one, as zones go).
fn check_date(at: Timestamp, answer: &Answer<'_>) -> Result<(), String> {
    let year = at.to_zoned(zone()).year();
    ensure((1999..=2201).contains(&year), || format!("{at} is no date of a contract"))?;
    let spelt = (year - 1..=year + 1).any(|year| {
        let year = year.to_string();
        answer.scalars.iter().any(|(_, text)| text.contains(&year))
    });
    ensure(spelt, || format!("{at} is a date that the answer does not have"))
}

fn check_amount(reader: Reader, fen: i64, answer: &Answer<'_>) -> Result<(), String> {
    let is_balance = matches!(reader, Reader::Balance(_));
    let bounds: Range<i64> =
        if is_balance { -AMOUNT_MAX_FEN..AMOUNT_MAX_FEN + 1 } else { 0..AMOUNT_MAX_FEN + 1 };
    ensure(bounds.contains(&fen), || format!("{fen} fen is no amount"))?;
    let in_yuan = matches!(reader, Reader::Price(CVM | ECS) | Reader::Balance(Provider::Volcengine));
    let scale = if in_yuan { 100.0 } else { 1.0 };
    let is_amount = |key: &str| AMOUNT_KEYS.contains(&key);
    let given: Vec<f64> = answer
        .scalars
        .iter()
        .filter(|(key, _)| is_amount(key))
        .filter_map(|(_, text)| text.trim().parse::<f64>().ok())
        .map(|amount| amount * scale)
        .collect();
    // A CVM's price is the sum of two.
    let sums =
        given.iter().enumerate().flat_map(|(at, one)| given[at + 1..].iter().map(move |other| one + other));
    #[expect(clippy::cast_precision_loss, reason = "compared with a tolerance")]
    let read = fen as f64;
    let is_near = |given: f64| (given - read).abs() <= 2.0 + read.abs() * 1e-12;
    let fits =
        given.iter().copied().any(is_near) || (reader == Reader::Price(CVM) && sums.into_iter().any(is_near));
    ensure(fits, || format!("{fen} fen is an amount that the answer does not have: {given:?}"))?;
    match reader {
        Reader::Price(REDIS) => answer.holds(&["AmountUnit"], "pent"),
        Reader::Price(ECS) => {
            let is_yuan =
                |(key, text): &(String, String)| key == "Currency" && text.trim().eq_ignore_ascii_case("CNY");
            ensure(answer.scalars.iter().any(is_yuan), || "a price in nobody's money".to_owned())
        }
        _ => Ok(()),
    }
}

/// A list that lost an order, or called one void or no renewal that is not, would have it paid for twice.
fn check_orders(
    orders: &[ListedOrder],
    listed: &[Value],
    [id_key, type_key]: [&str; 2],
) -> Result<(), String> {
    ensure(orders.len() == listed.len(), || format!("{} of {} orders read", orders.len(), listed.len()))?;
    for (order, entry) in orders.iter().zip(listed) {
        let member = |key: &str| entry.get(key).and_then(scalar).map(|text| text.trim().to_owned());
        let id = member(id_key).unwrap_or_default();
        ensure(is_same(&id, &order.order_id.0), || format!("{} is no order of the list", order.order_id))?;
        ensure(order.amount.is_none_or(|fen| (0..=AMOUNT_MAX_FEN).contains(&fen.get())), || {
            format!("{order:?} costs less than nothing")
        })?;
        let status = member("Status").unwrap_or_default();
        let is_void = ["6", "7", "8", "9", "10", "13", "Closed", "Refunded", "PartialRefunded"]
            .into_iter()
            .any(|void| is_same(&status, void));
        ensure(order.standing != Standing::Void || is_void, || format!("{order:?} with status {status}"))?;
        let is_renewal =
            member(type_key).is_none_or(|word| word.eq_ignore_ascii_case("renew") || word.is_empty());
        ensure(order.kind.may_be(ActionKind::Renew) || !is_renewal, || format!("{order:?} is a renewal"))?;
    }
    Ok(())
}

fn check_settings(
    reader: Reader,
    settings: &[(InstanceId, AutoRenew)],
    answer: &Answer<'_>,
) -> Result<(), String> {
    let ids: Vec<_> = settings.iter().map(|(id, _)| id).collect();
    ensure(ids == reader.ids().iter().collect::<Vec<_>>(), || "not what was asked for".to_owned())?;
    for (id, setting) in settings.iter().filter(|(_, setting)| *setting != AutoRenew::Unreadable) {
        answer.names_instance(id)?;
        let words: &[&str] =
            if *setting == AutoRenew::On { &["Automatically"] } else { &["Manually", "NoRenew"] };
        let is_said = words.iter().any(|word| answer.holds(&["RenewType"], word).is_ok());
        ensure(is_said, || format!("{id} is {setting:?} and the answer does not say so"))?;
    }
    Ok(())
}

/// A body as an independent reader of JSON sees it.
struct Answer<'a> {
    envelope: Envelope,
    members: HashMap<String, &'a RawValue>,
    error: Option<Value>,
    payload: Value,
    /// Every value that is none of a list or an object, and the key that it or its list stands under.
    scalars: Vec<(String, String)>,
}

impl<'a> Answer<'a> {
    /// None of what is no object of JSON, whole and to its end.
    fn of(envelope: Envelope, text: &'a str) -> Option<Answer<'a>> {
        let members: HashMap<String, &'a RawValue> = serde_json::from_str(text).ok()?;
        let error = match envelope {
            Envelope::Version2 => match member(members.get("Response").copied(), "Error") {
                Some(error) => Some(error),
                None => refusal_of_version_2(&members),
            },
            Envelope::Version3 => member(members.get("Response").copied(), "Error"),
            Envelope::Volcengine => member(members.get("ResponseMetadata").copied(), "Error"),
        };
        let payload = match envelope {
            Envelope::Version2 => shallow(text),
            Envelope::Version3 => members.get("Response").map_or(Value::Null, |raw| shallow(raw.get())),
            Envelope::Volcengine => members.get("Result").map_or(Value::Null, |raw| shallow(raw.get())),
        };
        let scalars = scalars(&payload, "");
        Some(Answer { envelope, members, error, payload, scalars })
    }

    fn check_success(&self, http_status: u16) -> Result<(), String> {
        let is_usual = match self.envelope {
            Envelope::Volcengine => (200..300).contains(&http_status),
            Envelope::Version2 | Envelope::Version3 => http_status == 200,
        };
        ensure(is_usual, || format!("a success with status {http_status}"))?;
        ensure(self.error.is_none(), || format!("a success with the error {:?}", self.error))?;
        let has = |key: &str| self.members.get(key).is_some_and(|raw| raw.get().starts_with('{'));
        let is_whole = match self.envelope {
            Envelope::Version3 => has("Response"),
            Envelope::Version2 => {
                self.members.contains_key("code") && !self.members.contains_key("Response")
                    || self.members.get("Response").is_some_and(|raw| raw.get() == "null")
            }
            Envelope::Volcengine => has("ResponseMetadata") && has("Result"),
        };
        ensure(is_whole, || "a success without its envelope".to_owned())
    }

    fn holds(&self, keys: &[&str], wanted: &str) -> Result<(), String> {
        let held = self
            .scalars
            .iter()
            .any(|(key, text)| keys.contains(&key.as_str()) && is_same(text.trim(), wanted));
        ensure(held, || format!("{wanted} is not in the answer under any of {keys:?}"))
    }

    fn names_instance(&self, id: &InstanceId) -> Result<(), String> {
        self.holds(&INSTANCE_ID_KEYS, id.as_str())
    }

    fn entries(&self, list: &str, counts: impl Fn(&Value) -> bool) -> Vec<Value> {
        let entries = self.payload.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        entries.into_iter().filter(counts).collect()
    }
}

/// The value of a member that is neither absent nor null.
fn member(object: Option<&RawValue>, key: &str) -> Option<Value> {
    let members: HashMap<String, &RawValue> = serde_json::from_str(object?.get()).ok()?;
    Some(shallow(members.get(key)?.get())).filter(|value| !value.is_null())
}

fn refusal_of_version_2(members: &HashMap<String, &RawValue>) -> Option<Value> {
    let member = |key: &str| members.get(key).map_or(Value::Null, |raw| shallow(raw.get()));
    let (code, word) = (member("code"), member("codeDesc"));
    let is_zero = scalar(&code).is_none_or(|code| code.trim().parse::<f64>() == Ok(0.0));
    // What is too long a number to be exact is nothing, here as elsewhere.
    let word = if word.as_f64().is_some_and(|number| number.abs() >= EXACT_MAX) { Value::Null } else { word };
    let is_success = scalar(&word)
        .is_none_or(|word| word.trim().is_empty() || word.trim().eq_ignore_ascii_case("success"));
    (!is_zero || !is_success).then(|| serde_json::json!({ "Code": code, "Word": word }))
}

/// Down to a depth that no answer needs; what is nested deeper counts as a word that no reader knows.
fn shallow(text: &str) -> Value {
    tree(text, DEPTH)
}

fn tree(text: &str, depth: usize) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    let part = |raw: &RawValue| tree(raw.get(), depth - 1);
    match text.trim_start().chars().next() {
        Some('{') if depth > 0 => {
            let members: HashMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
            Value::Object(members.into_iter().map(|(key, raw)| (key, part(raw))).collect())
        }
        Some('[') if depth > 0 => {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            Value::Array(items.into_iter().map(part).collect())
        }
        _ => Value::String("nested too deep or not to be read".to_owned()),
    }
}

fn scalars(value: &Value, key: &str) -> Vec<(String, String)> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| scalars(item, key)).collect(),
        Value::Object(members) => members.iter().flat_map(|(key, value)| scalars(value, key)).collect(),
        other => scalar(other).map(|text| (key.to_owned(), text)).into_iter().collect(),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Equal, or two spellings of one number that is short enough to be exact.
fn is_same(one: &str, other: &str) -> bool {
    let exact = |text: &str| text.parse::<f64>().ok().filter(|number| number.abs() < EXACT_MAX);
    one == other || exact(one).is_some_and(|number| exact(other) == Some(number))
}
