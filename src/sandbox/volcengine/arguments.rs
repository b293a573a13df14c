//! The parameters of a call, taken by name and type; what nobody takes is an unknown parameter.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::{Map, Value};

use crate::sandbox::desk::Refusal;
use crate::sandbox::volcengine::{invalid, missing};

/// In the query of every call, beside the parameters of a GET.
const ROUTING: [&str; 3] = ["Action", "Version", "X-Expires"];

#[derive(Debug)]
pub(super) struct Arguments {
    values: Map<String, Value>,
    /// In a query everything is text; in JSON an integer in quotes is a mistake.
    from_query: bool,
}

impl Arguments {
    pub(super) fn of_request(request: &Request<Bytes>) -> Result<Arguments, Refusal> {
        match *request.method() {
            Method::GET => Ok(Arguments::of_query(request.uri().query().unwrap_or_default())),
            _ => Arguments::of_body(request.body()),
        }
    }

    fn of_body(body: &[u8]) -> Result<Arguments, Refusal> {
        if body.is_empty() {
            return Ok(Arguments { values: Map::new(), from_query: false });
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(values)) => Ok(Arguments { values, from_query: false }),
            Ok(_) => Err(Refusal::new("InvalidArgument", "the body is not a JSON object")),
            Err(error) => Err(Refusal::new("InvalidArgument", format!("the body is not JSON: {error}"))),
        }
    }

    /// Lists come flattened: `InstanceIds.1=…&InstanceIds.2=…`, counted from 1.
    fn of_query(query: &str) -> Arguments {
        let mut values = Map::new();
        let mut lists: BTreeMap<String, BTreeMap<u32, Value>> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = Value::String(value.into_owned());
            match name.split_once('.').map(|(list, at)| (list, at.parse::<u32>())) {
                Some((list, Ok(at))) => {
                    lists.entry(list.to_owned()).or_default().insert(at, value);
                }
                _ if ROUTING.contains(&&*name) => {}
                _ => {
                    values.insert(name.into_owned(), value);
                }
            }
        }
        values.extend(lists.into_iter().map(|(name, list)| (name, list.into_values().collect())));
        Arguments { values, from_query: true }
    }

    /// Empty is absent.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let text = self.take(name).map(|value| as_text(name, value)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    pub(super) fn required(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        let from_query = self.from_query;
        let read = |value: Value| {
            let digits = value.as_str().filter(|_| from_query).and_then(|text| text.parse().ok());
            value.as_i64().or(digits).ok_or_else(|| invalid(name, "is not an integer"))
        };
        self.take(name).map(read).transpose()
    }

    /// The texts of a list of so many at most.
    pub(super) fn texts(&mut self, name: &str, max: usize) -> Result<Option<Vec<String>>, Refusal> {
        let items = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(invalid(name, "is not a list")),
        };
        if items.len() > max {
            return Err(invalid(name, &format!("has more than {max} entries")));
        }
        items.into_iter().map(|item| as_text(name, item)).collect::<Result<_, _>>().map(Some)
    }

    /// One of the words, or none.
    pub(super) fn word(
        &mut self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = words.iter().find(|word| **word == text);
        let problem = || invalid(name, &format!("is none of {}", words.join(", ")));
        found.copied().map(Some).ok_or_else(problem)
    }

    /// Everything was taken. What a page documents and is not played here is better refused than without effect.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        let left = self.values.keys().next();
        left.map_or(Ok(()), |name| {
            Err(Refusal::new(
                "InvalidArgument",
                format!("the parameter `{name}` is unknown or not played here"),
            ))
        })
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

/// A part of a list, as both services page it: a token that is the number of entries before the page.
pub(super) struct Page {
    from: usize,
    pub(super) max_results: usize,
}

impl Page {
    pub(super) fn read(arguments: &mut Arguments, default: usize, max: usize) -> Result<Page, Refusal> {
        let wanted = arguments.integer("MaxResults")?;
        let max_results = match wanted.map(usize::try_from) {
            None | Some(Ok(0)) => default,
            Some(Ok(wanted)) if wanted <= max => wanted,
            Some(_) => return Err(invalid("MaxResults", &format!("must be from 1 to {max}"))),
        };
        let from = match arguments.text("NextToken")? {
            None => 0,
            Some(token) => token.parse().map_err(|_| invalid("NextToken", "is not one we gave"))?,
        };
        Ok(Page { from, max_results })
    }

    /// The entries of the page, and the token of the next one; empty on the last.
    pub(super) fn cut(&self, entries: Vec<Value>) -> (Vec<Value>, String) {
        let total = entries.len();
        let end = self.from.saturating_add(self.max_results);
        let next = if end < total { end.to_string() } else { String::new() };
        (entries.into_iter().skip(self.from).take(self.max_results).collect(), next)
    }
}
