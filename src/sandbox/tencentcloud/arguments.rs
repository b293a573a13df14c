//! The parameters of a call, taken by name and type; what nobody takes is an unknown parameter.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::{Map, Value};

use crate::sandbox::desk::Refusal;
use crate::sandbox::tencentcloud::{invalid, verify};

#[derive(Debug)]
pub(super) struct Arguments {
    values: Map<String, Value>,
    /// In a query everything is text; in JSON an integer in quotes is a mistake.
    from_query: bool,
}

impl Arguments {
    pub(super) fn of_request(request: &Request<Bytes>) -> Result<Arguments, Refusal> {
        match *request.method() {
            Method::GET => {
                let query = request.uri().query().unwrap_or_default();
                Ok(Arguments::of_pairs(form_urlencoded::parse(query.as_bytes()).into_owned()))
            }
            Method::POST => Arguments::of_body(request),
            _ => Err(Refusal::new("UnsupportedProtocol", "only GET and POST are supported")),
        }
    }

    fn of_body(request: &Request<Bytes>) -> Result<Arguments, Refusal> {
        let content_type = verify::header(request, "content-type").unwrap_or_default();
        if !content_type.starts_with("application/json") {
            return Err(invalid("Content-Type", "of a POST must be application/json"));
        }
        match serde_json::from_slice(request.body()) {
            Ok(Value::Object(values)) => Ok(Arguments { values, from_query: false }),
            Ok(_) => Err(Refusal::new("InvalidParameter", "the body is not a JSON object")),
            Err(error) => Err(Refusal::new("InvalidParameter", format!("the body is not JSON: {error}"))),
        }
    }

    /// Lists and objects come flattened: `InstanceIds.0=…&InstanceIds.1=…`, counted from 0 or 1, and
    /// `InstanceChargePrepaid.Period=…`.
    pub(super) fn of_pairs(pairs: impl Iterator<Item = (String, String)>) -> Arguments {
        let mut values = Map::new();
        let mut lists: BTreeMap<String, BTreeMap<u32, Value>> = BTreeMap::new();
        let mut objects: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (name, value) in pairs {
            let value = Value::String(value);
            match name.split_once('.').map(|(outer, inner)| (outer, inner, inner.parse::<u32>())) {
                Some((list, _, Ok(at))) => {
                    lists.entry(list.to_owned()).or_default().insert(at, value);
                }
                Some((object, field, Err(_))) => {
                    objects.entry(object.to_owned()).or_default().insert(field.to_owned(), value);
                }
                None => {
                    values.insert(name, value);
                }
            }
        }
        values.extend(lists.into_iter().map(|(name, list)| (name, list.into_values().collect())));
        values.extend(objects.into_iter().map(|(name, object)| (name, Value::Object(object))));
        Arguments { values, from_query: true }
    }

    /// The fields of a structure, to be taken and finished like the call's own.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Arguments>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Arguments { values, from_query: self.from_query })),
            Some(_) => Err(invalid(name, "is not an object")),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        self.take(name).map(|value| as_text(name, value)).transpose()
    }

    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        let from_query = self.from_query;
        self.take(name).map(|value| as_integer(name, &value, from_query)).transpose()
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        items.into_iter().map(|item| as_text(name, item)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn integers(&mut self, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let from_query = self.from_query;
        let Some(items) = self.list(name)? else { return Ok(None) };
        items.iter().map(|item| as_integer(name, item, from_query)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        let read = |value| match value {
            Value::Bool(flag) => Ok(flag),
            // The official Python client writes `True`.
            Value::String(text) if self.from_query => {
                text.to_ascii_lowercase().parse().map_err(|_| invalid(name, "is not true or false"))
            }
            _ => Err(invalid(name, "is not true or false")),
        };
        self.values.remove(name).filter(|value| !value.is_null()).map(read).transpose()
    }

    /// Documented parameters that are not played here: better refused than silently without effect.
    pub(super) fn refuse_unplayed(&self, names: &[&str]) -> Result<(), Refusal> {
        let found = names.iter().find(|name| self.values.contains_key(**name));
        found.map_or(Ok(()), |name| {
            let message = format!("the practice cloud does not play the parameter `{name}`");
            Err(Refusal::new("UnsupportedOperation", message))
        })
    }

    /// Everything was taken.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        let left = self.values.keys().next();
        left.map_or(Ok(()), |name| {
            Err(Refusal::new("UnknownParameter", format!("the parameter `{name}` is not recognized")))
        })
    }

    fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(invalid(name, "is not a list")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| !value.is_null())
    }
}

fn as_text(name: &str, value: Value) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(invalid(name, "is not a string")),
    }
}

fn as_integer(name: &str, value: &Value, from_query: bool) -> Result<i64, Refusal> {
    let digits = value.as_str().filter(|_| from_query).and_then(|text| text.parse().ok());
    value.as_i64().or(digits).ok_or_else(|| invalid(name, "is not an integer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_query(query: &str) -> Arguments {
        Arguments::of_pairs(form_urlencoded::parse(query.as_bytes()).into_owned())
    }

    #[test]
    fn a_flattened_list_is_put_together_in_its_order() {
        let mut arguments = of_query("Ids.10=c&Ids.2=b&Ids.1=a%2Bx+y&Limit=20");
        assert_eq!(arguments.texts("Ids").unwrap().unwrap(), ["a+x y", "b", "c"]);
        assert_eq!(arguments.integer("Limit"), Ok(Some(20)));
        assert!(arguments.finish().is_ok());
    }

    #[test]
    fn an_integer_in_quotes_is_one_only_in_a_query() {
        assert_eq!(of_query("Period=1").integer("Period"), Ok(Some(1)));
        let values = Map::from_iter([("Period".to_owned(), Value::from("1"))]);
        let refused = Arguments { values, from_query: false }.integer("Period").unwrap_err();
        assert_eq!(refused.code, "InvalidParameter");
    }
}
