//! What vendors are known to vary, done to each documented answer: it is read the same, or not at all.

use renewd::cloud::Reply;
use renewd::domain::failure::Class;
use renewd::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState, Presence};
use renewd::domain::order::{ListedKind, Standing};
use serde_json::{Value, json};

use crate::invariants;
use crate::reader::{EVERY_READER, Golden, Reader, Reading, goldens};

/// What stands for "no date" here and there.
const NO_DATES: [&str; 10] = [
    "null",
    r#""""#,
    r#""0000-00-00 00:00:00""#,
    r#""0000-00-00 00:00""#,
    r#""0000-00-00T00:00:00Z""#,
    r#""0001-01-01T00:00:00Z""#,
    r#""1970-01-01 08:00:00""#,
    r#""1970-01-01T00:00:00Z""#,
    r#""9999-12-31T23:59:59Z""#,
    "0",
];

/// Of a kind, a size or a sense that nobody expects.
const STRANGE: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "4242",
    "0.5",
    "1e300",
    "123456789012345678901234567890",
    r#""""#,
    r#""NOVEL""#,
    r#""0""#,
    "[]",
    "{}",
    "[[]]",
    r#"[{"Code":"NOVEL"}]"#,
    r#"{"Code":"NOVEL"}"#,
];

/// Long answers are cut at some places only, and at each of the last.
const EVERY_CUT_BELOW: usize = 600;
const CUT_STEP: usize = 13;

#[test]
fn members_that_nobody_knows_change_nothing() {
    for golden in parsed() {
        let mut value = golden.value();
        add_members(&mut value);
        golden.assert_read_alike(&value);
    }
}

#[test]
fn a_number_may_be_a_string_and_a_string_a_number() {
    let to_string = |value: &Value| match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    };
    let to_number = |value: &Value| match value {
        Value::String(text) if text.len() < 16 => match text.parse::<f64>() {
            Ok(number) if text.starts_with(|first: char| first.is_ascii_digit()) => json!(number),
            _ => value.clone(),
        },
        other => other.clone(),
    };
    for golden in parsed() {
        golden.assert_read_alike(&with_scalars(&golden.value(), &to_string));
        golden.assert_read_alike(&with_scalars(&golden.value(), &to_number));
    }
}

#[test]
fn white_space_around_an_answer_is_none_of_it() {
    for golden in parsed() {
        let padded = [b"\r\n\t ", golden.body.trim_ascii(), b" \r\n\n"].concat();
        assert_eq!(golden.reading_of(&padded), golden.reading_of(&golden.body), "{}", golden.name);
    }
}

#[test]
fn what_precedes_or_follows_an_answer_makes_it_unreadable() {
    for golden in parsed() {
        let body = golden.body.trim_ascii();
        for garbage in [&b"x"[..], b"{}", b",", b"]", b"\0", b"\xff", b"<!-- -->", b"1", body] {
            golden.assert_unreadable(&[body, garbage].concat());
            golden.assert_unreadable(&[garbage, body].concat());
        }
        golden.assert_unreadable(&[b"\xef\xbb\xbf", body].concat());
        golden.assert_unreadable(&[b"[", body, b"]"].concat());
    }
}

#[test]
fn an_answer_that_is_cut_is_unreadable_wherever_it_is_cut() {
    for golden in parsed() {
        let body = golden.body.trim_ascii();
        let from_the_end = |end: &usize| body.len() - end < EVERY_CUT_BELOW;
        for end in (0..body.len()).filter(|end| end.is_multiple_of(CUT_STEP) || from_the_end(end)) {
            golden.assert_unreadable(&body[..end]);
        }
    }
}

#[test]
fn a_strange_or_missing_member_is_never_misread() {
    for golden in parsed() {
        for path in paths(&golden.value(), "") {
            let mut variants: Vec<Value> = Vec::new();
            let is_date = path.ends_with("Time") || path.ends_with("At");
            let dates = NO_DATES.into_iter().filter(|_| is_date);
            for strange in STRANGE.into_iter().chain(dates) {
                let mut variant = golden.value();
                *variant.pointer_mut(&path).unwrap() = serde_json::from_str(strange).unwrap();
                variants.push(variant);
            }
            variants.push(without(golden.value(), &path));
            for variant in variants {
                golden.assert_sound(&variant, &path);
            }
        }
    }
}

#[test]
fn no_depth_of_nesting_ends_the_process() {
    for depth in [100, 127, 128, 129, 100_000] {
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for body in [
            deep.clone(),
            "{\"a\":".repeat(depth),
            format!(r#"{{"Response":{{"RequestId":"r","Error":{deep}}}}}"#),
            format!(r#"{{"Response":{{"RequestId":"r","DealName":{deep},"Later":{deep}}}}}"#),
            format!(r#"{{"code":0,"dealId":{deep}}}"#),
            format!(r#"{{"ResponseMetadata":{{}},"Result":{{"OrderId":{deep}}}}}"#),
            format!(
                r#"{{"ResponseMetadata":{{}},"Result":{{"OrderInfos":[{{"OrderFailRefundInfo":{deep}}}]}}}}"#
            ),
        ] {
            for reader in EVERY_READER {
                let reply = reader.read(200, body.as_bytes());
                let sound = invariants::check(reader, 200, body.as_bytes(), &reply);
                assert_eq!(sound, Ok(()), "{reader:?}, {depth} deep: {}", &body[..80]);
            }
        }
    }
}

#[test]
fn a_zero_date_is_no_expiry_and_changes_nothing_else() {
    for (name, path) in [
        ("redis-DescribeInstances.json", "/Response/InstanceSet/1/DeadlineTime"),
        ("cvm-DescribeInstances.json", "/Response/InstanceSet/0/ExpiredTime"),
        ("cvm-v2-DescribeInstances.json", "/instanceSet/0/deadlineTime"),
        ("ecs-DescribeInstances.json", "/Result/Instances/0/ExpiredAt"),
    ] {
        for no_date in NO_DATES {
            let before = facts(name, None);
            let after = facts(name, Some((path, no_date)));
            let expiries = before.iter().filter(|facts| facts.expires_at.is_some()).count();
            let left = after.iter().filter(|facts| facts.expires_at.is_some()).count();
            assert_eq!(left + 1, expiries, "{name} {no_date}");
            let undated = |all: Vec<Facts>| -> Vec<Facts> {
                all.into_iter().map(|facts| Facts { expires_at: None, ..facts }).collect()
            };
            assert_eq!(undated(after), undated(before), "{name} {no_date}");
        }
    }
}

#[test]
fn a_state_that_nobody_knows_is_kept_by_its_name() {
    for (name, path, field) in [
        ("redis-DescribeInstances.json", "/Response/InstanceSet/1/Status", "Status"),
        ("cvm-DescribeInstances.by_tag.json", "/Response/InstanceSet/0/InstanceState", "InstanceState"),
        ("cvm-v2-DescribeInstances.json", "/instanceSet/0/status", "status"),
        ("ecs-DescribeInstances.json", "/Result/Instances/0/Status", "Status"),
    ] {
        for novel in ["4242", "\"NOVEL\"", "\"\"", "2.5", "true"] {
            let states = facts(name, Some((path, novel))).into_iter().map(|facts| facts.state);
            let word = match novel.trim_matches('"') {
                "" => "absent",
                word => word,
            };
            let expected = InstanceState::Other(format!("{field} {word}"));
            assert_eq!(states.filter(|state| *state == expected).count(), 1, "{name} {novel}");
        }
    }
}

#[test]
fn a_way_to_pay_that_nobody_knows_is_not_prepaid() {
    for (name, path) in [
        ("redis-DescribeInstances.json", "/Response/InstanceSet/1/BillingMode"),
        ("cvm-DescribeInstances.by_tag.json", "/Response/InstanceSet/0/InstanceChargeType"),
        ("cvm-v2-DescribeInstances.json", "/instanceSet/0/cvmPayMode"),
        ("ecs-DescribeInstances.json", "/Result/Instances/0/InstanceChargeType"),
    ] {
        let prepaid = |change| facts(name, change).iter().filter(|facts| facts.is_prepaid()).count();
        for novel in ["4242", "\"NOVEL\"", "null", "1.5", "\"prepaid\"", "true"] {
            assert_eq!(prepaid(Some((path, novel))) + 1, prepaid(None), "{name} {novel}");
        }
        let others = facts(name, Some((path, "\"NOVEL\""))).into_iter().map(|facts| facts.charge);
        assert_eq!(others.filter(|charge| matches!(charge, ChargeType::Other(_))).count(), 1, "{name}");
    }
}

#[test]
fn an_auto_renew_flag_that_nobody_knows_is_unreadable_and_never_off() {
    for (name, path) in [
        ("redis-DescribeInstances.json", "/Response/InstanceSet/1/AutoRenewFlag"),
        ("cvm-DescribeInstances.by_tag.json", "/Response/InstanceSet/0/RenewFlag"),
        ("cvm-v2-DescribeInstances.json", "/instanceSet/0/autoRenew"),
    ] {
        let unreadable = |change| {
            facts(name, change).iter().filter(|facts| facts.auto_renew == AutoRenew::Unreadable).count()
        };
        for novel in ["4242", "\"NOVEL\"", "null", "0.5", "true", "\"\""] {
            assert_eq!(unreadable(Some((path, novel))), unreadable(None) + 1, "{name} {novel}");
        }
    }
    let golden = named("billing-ListAvailableInstances.json");
    for novel in ["4242", "\"NOVEL\"", "null", "\"ManualRenewal\""] {
        let body = with(&golden, "/Result/InstanceList/0/RenewType", novel);
        let Ok(Reading::Settings(settings)) = golden.reader.read(200, &body).result else {
            panic!("{novel}")
        };
        assert_eq!(settings[0].1, AutoRenew::Unreadable, "{novel}");
    }
}

#[test]
fn an_order_whose_status_nobody_knows_is_unclear_and_whose_kind_is_new_may_be_a_renewal() {
    for (name, entry, kind) in [
        ("billing-DescribeDealsByCond.json", "/Response/Deals/0", "Action"),
        ("billing-ListOrders.json", "/Result/OrderInfos/0", "OrderType"),
    ] {
        let golden = named(name);
        let order = |member: &str, novel: &str| {
            let body = with(&golden, &format!("{entry}/{member}"), novel);
            match golden.reader.read(200, &body).result {
                Ok(Reading::Listed(orders)) => orders[0].clone(),
                Ok(Reading::Page(page)) => page.orders[0].clone(),
                other => panic!("{name} {novel}: {other:?}"),
            }
        };
        for novel in ["4242", "\"NOVEL\"", "null", "6.5", "\"\"", "true"] {
            assert_eq!(order("Status", novel).standing, Standing::Unclear, "{name} {novel}");
            assert_eq!(order(kind, novel).kind, ListedKind::Unclear, "{name} {novel}");
        }
    }
}

#[test]
fn an_instance_that_is_listed_twice_is_read_only_when_both_agree() {
    for (name, list, expiry) in [
        ("redis-DescribeInstances.json", "/Response/InstanceSet", "DeadlineTime"),
        ("cvm-DescribeInstances.json", "/Response/InstanceSet", "ExpiredTime"),
        ("cvm-v2-DescribeInstances.json", "/instanceSet", "deadlineTime"),
        ("ecs-DescribeInstances.json", "/Result/Instances", "ExpiredAt"),
    ] {
        let golden = named(name);
        let mut value = golden.value();
        let entries = value.pointer_mut(list).unwrap().as_array_mut().unwrap();
        entries.push(entries[0].clone());
        golden.assert_read_alike(&value);
        value.pointer_mut(list).unwrap()[0][expiry] = json!("2026-01-01T00:00:00Z");
        golden.assert_unreadable(value.to_string().as_bytes());
    }
}

#[test]
fn an_order_number_is_found_under_each_name_and_in_each_spelling() {
    let read = |reader: Reader, body: String| reader.read(200, body.as_bytes()).result;
    let accepted =
        |id: Option<&str>| Ok(Reading::Accepted(id.map(|id| renewd::domain::order::OrderId(id.into()))));
    let redis = |fields: &str| {
        read(
            named("redis-RenewInstance.page.json").reader,
            format!(r#"{{"Response":{{{fields},"RequestId":"r"}}}}"#),
        )
    };
    for (fields, id) in [
        (r#""DealName":"20231114123456789012345""#, Some("20231114123456789012345")),
        (r#""DealName":null,"DealId":"6954225""#, Some("6954225")),
        (r#""DealName":"","DealId":6954225"#, Some("6954225")),
        (r#""DealName":"0","DealId":0"#, None),
        (r#""DealName":" ""#, None),
        (r#""DealId":6954225.0"#, Some("6954225")),
    ] {
        assert_eq!(redis(fields), accepted(id), "{fields}");
    }
    for twice in [r#""DealId":"1","DealId":"2""#, r#""DealName":"1","DealName":"1""#] {
        assert!(redis(twice).is_err_and(|failure| failure.class == Class::Unknown), "{twice}");
    }
}

impl Golden {
    fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The reading, or the class and the code of the failure.
    fn reading_of(&self, body: &[u8]) -> Result<Reading, (Class, String)> {
        self.reader.read(200, body).result.map_err(|failure| (failure.class, failure.code))
    }

    fn assert_read_alike(&self, variant: &Value) {
        let body = variant.to_string().into_bytes();
        assert_eq!(self.reading_of(&body), self.reading_of(&self.body), "{} as {variant}", self.name);
    }

    fn assert_unreadable(&self, body: &[u8]) {
        let reading = self.reading_of(body);
        let text = String::from_utf8_lossy(body);
        assert_eq!(reading, Err((Class::Unknown, "Unreadable".to_owned())), "{} as {text}", self.name);
    }

    fn assert_sound(&self, variant: &Value, path: &str) {
        let body = variant.to_string().into_bytes();
        let reply: Reply<Reading> = self.reader.read(200, &body);
        let sound = invariants::check(self.reader, 200, &body, &reply);
        assert_eq!(sound, Ok(()), "{} at {path} as {variant}\nread as {reply:?}", self.name);
    }
}

/// Those that are JSON.
fn parsed() -> Vec<Golden> {
    let parsed = |golden: &Golden| serde_json::from_slice::<Value>(&golden.body).is_ok();
    goldens().into_iter().filter(parsed).collect()
}

fn named(name: &str) -> Golden {
    goldens().into_iter().find(|golden| golden.name == name).unwrap()
}

fn with(golden: &Golden, path: &str, value: &str) -> Vec<u8> {
    let mut changed = golden.value();
    *changed.pointer_mut(path).unwrap() = serde_json::from_str(value).unwrap();
    changed.to_string().into_bytes()
}

/// Of the instances that a documented answer shows, with one value changed.
fn facts(name: &str, change: Option<(&str, &str)>) -> Vec<Facts> {
    let golden = named(name);
    let body = change.map_or(golden.body.clone(), |(path, value)| with(&golden, path, value));
    match golden.reader.read(200, &body).result {
        Ok(Reading::Seen(seen)) => seen
            .into_iter()
            .filter_map(|observation| match observation.presence {
                Presence::Visible(facts) => Some(facts),
                Presence::NotVisible => None,
            })
            .collect(),
        other => panic!("{name} with {change:?}: {other:?}"),
    }
}

fn add_members(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(add_members);
            members.insert(
                "AddedLater".to_owned(),
                json!({ "Error": { "Code": "InternalError" }, "code": 4000 }),
            );
            members.insert("AddedEmpty".to_owned(), Value::Null);
        }
        Value::Array(items) => items.iter_mut().for_each(add_members),
        _ => {}
    }
}

fn with_scalars(value: &Value, change: &impl Fn(&Value) -> Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| (key.clone(), with_scalars(value, change)));
            Value::Object(members.collect())
        }
        Value::Array(items) => items.iter().map(|item| with_scalars(item, change)).collect(),
        scalar => change(scalar),
    }
}

/// Of everything in it, as JSON pointers.
fn paths(value: &Value, at: &str) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(key, value)| (format!("{at}/{key}"), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (format!("{at}/{index}"), item)).collect()
        }
        _ => Vec::new(),
    };
    let deeper = below.iter().flat_map(|(path, value)| paths(value, path));
    std::iter::once(at.to_owned()).chain(deeper).collect()
}

fn without(mut value: Value, path: &str) -> Value {
    if let Some((parent, key)) = path.rsplit_once('/') {
        match value.pointer_mut(parent) {
            Some(Value::Object(members)) => drop(members.remove(key)),
            Some(Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
            _ => {}
        }
    }
    value
}
