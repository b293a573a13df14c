//! renewd.toml(5): the commented examples, set as a page of the manual.

use std::io;

use clap_mangen::roff::{Roff, roman};

use super::{MANUAL, see_also};
use crate::config::examples::{self, Line};

const ABOUT: &str = "renewd.toml names the accounts at the clouds, where the policies and the database are, and what bounds \
    the service: pace, budgets, retries. Policies say which instances are renewed or upgraded, when, and for how long. All \
    are TOML (https://toml.io); unknown keys are refused. renewd-check(1) reads them and reports every mistake at once.";
const ABOUT_POLICIES: &str = "Each policy is a table [policy.NAME] in any of these files; its name is its identity over all \
    of them. These are the examples that are installed.";

pub(super) fn page() -> io::Result<Vec<u8>> {
    let mut roff = Roff::default();
    let source = concat!("renewd ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["renewd.toml", "5", "", source, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("renewd.toml, policies.d - configuration of renewd")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(ABOUT)]);
    roff.control("SH", ["MAIN CONFIGURATION"]);
    set(&mut roff, examples::MAIN_FILE);
    roff.control("SH", ["POLICIES"]);
    roff.text([roman(ABOUT_POLICIES)]);
    for (name, example) in examples::POLICY_FILES {
        roff.control("SS", [format!("policies.d/{name}").as_str()]);
        set(&mut roff, example);
    }
    let mut page = Vec::new();
    roff.to_writer(&mut page)?;
    see_also(&mut page, &["renewd(1)", "renewd-check(1)", "systemd.exec(5)", "systemd-creds(1)"])?;
    Ok(page)
}

/// Sentences flow; settings and what is laid out stand as they are written, each kind in a block of its own.
fn set(roff: &mut Roff, example: &str) {
    let mut before = None;
    for line in examples::lines(example) {
        let (kind, text) = match line {
            Line::Blank => (None, String::new()),
            Line::Prose(text) => (Some(Kind::Prose), text.to_owned()),
            Line::Layout(text) => (Some(Kind::Layout), text.to_owned()),
            Line::Setting { text, is_in_force: true } => (Some(Kind::Setting), text.to_owned()),
            Line::Setting { text, is_in_force: false } => (Some(Kind::Setting), format!("# {text}")),
        };
        if kind != before {
            end(roff, before);
            begin(roff, kind);
        }
        if kind.is_some() {
            roff.text([roman(text)]);
        }
        before = kind;
    }
    end(roff, before);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prose,
    Layout,
    Setting,
}

fn begin(roff: &mut Roff, kind: Option<Kind>) {
    if kind.is_some() {
        roff.control("PP", []);
    }
    if kind.is_some_and(|kind| kind != Kind::Prose) {
        roff.control("EX", []);
    }
}

fn end(roff: &mut Roff, kind: Option<Kind>) {
    if kind.is_some_and(|kind| kind != Kind::Prose) {
        roff.control("EE", []);
    }
}
