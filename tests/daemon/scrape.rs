//! Asking the service over HTTP, and reading what it answers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Daemon, text};

/// Nothing takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: renewd\r\nConnection: close\r\n\r\n"))
}

/// Sends the request as it is, and reads until the service closes.
pub fn request(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

impl Daemon {
    /// Where it serves, once it does.
    pub fn http(&self) -> SocketAddr {
        text(&self.until_event("http.listening"), "address").parse().unwrap()
    }
}

/// A page of metrics in the text format.
pub struct Scrape {
    pub text: String,
    pub types: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Scrape {
    pub fn of(address: SocketAddr) -> Scrape {
        let answer = get(address, "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Scrape::read(answer.body)
    }

    pub fn read(text: String) -> Scrape {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let types = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
        Scrape { text, types, samples }
    }

    pub fn all(&self, name: &str) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.name == name).collect()
    }

    /// The sum of the samples of that name that have these labels; None when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&&Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).map(String::as_str) == Some(*value))
        };
        let all = self.all(name);
        let fitting: Vec<f64> = all.iter().filter(fits).map(|sample| sample.value).collect();
        (!fitting.is_empty()).then(|| fitting.iter().sum())
    }

    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let sum = self.sum(name, labels)?;
        assert!(sum >= 0.0 && sum.fract() < f64::EPSILON, "{name}{labels:?} is no count: {sum}");
        format!("{sum:.0}").parse().ok()
    }
}

/// `name{label="value",…} 1.5`; no label here has a quote or a comma in it.
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
}
