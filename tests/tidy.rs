//! The laws of the code that the compiler does not hold: floors, single places, sizes.
//!
//! The floors are read from the table in `src/lib.rs`, so that page and law cannot part. Only code counts:
//! comments and the insides of strings may mention anything.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 500;

/// What stands in one place only: the words, the places, the rule.
const SINGLE_PLACES: &[(&[&str], &[&str], &str)] = &[
    (
        &["from_committed_row"],
        &["src/store/", "src/domain/order.rs"],
        "only the store makes a Committed, from the row it committed",
    ),
    (&["sqlx"], &["src/store/"], "all SQL lives in the store"),
    (
        &["Timestamp::now", "Zoned::now", "SystemTime", "Instant::now", "UtcDateTime::now"],
        &["src/clock.rs"],
        "only the clock reads the time: take `now` as an argument, or ask a Clock",
    ),
    (
        &["println!", "print!", "eprintln!", "eprint!", "stdout"],
        &["src/cli/"],
        "only commands print; everything else logs or returns",
    ),
    (&["todo!", "unimplemented!"], &[], "nothing is left half done"),
];

/// Everything that may stand at the top of the repository beside dotfiles.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "config",
    "migrations",
    "src",
    "systemd",
    "tests",
];

#[test]
fn imports_point_down_only() {
    let floors = Floors::of_the_code_map();
    let broken: Vec<Breach> = sources().iter().flat_map(|source| floors.breaches(source)).collect();
    assert_none(&broken);
}

#[test]
fn every_module_of_the_crate_has_a_floor() {
    let floors = Floors::of_the_code_map();
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: Vec<&str> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut rooms: Vec<&str> = floors.0.keys().map(String::as_str).collect();
    let mut declared = modules.clone();
    rooms.sort_unstable();
    declared.sort_unstable();
    assert_eq!(rooms, declared, "the table of floors in src/lib.rs and its modules differ");
    let in_reading_order: Vec<u8> = modules.iter().map(|module| floors.0[*module]).collect();
    assert!(
        in_reading_order.is_sorted(),
        "the modules of src/lib.rs do not stand in the order of the floors"
    );
}

#[test]
fn what_has_one_place_stands_nowhere_else() {
    let broken: Vec<Breach> = sources().iter().flat_map(misplaced).collect();
    assert_none(&broken);
}

#[test]
fn every_lint_that_is_silenced_says_why() {
    let mut all = sources();
    all.extend(rust_files("tests"));
    all.extend(rust_files("benches"));
    let broken: Vec<Breach> = all.iter().flat_map(silenced).collect();
    assert_none(&broken);
}

#[test]
fn no_file_is_longer_than_one_can_hold_in_mind() {
    let broken: Vec<Breach> = sources()
        .iter()
        .filter(|source| !source.path.ends_with("tests.rs") && source.code.lines().count() > LINES_MAX)
        .map(|source| source.breach(LINES_MAX + 1, format!("more than {LINES_MAX} lines: split the file")))
        .collect();
    assert_none(&broken);
}

#[test]
fn the_top_of_the_repository_holds_what_belongs_there() {
    if !root().join(".git").exists() {
        eprintln!("SKIPPED: there is no .git here, so nobody can say what belongs to the repository");
        return;
    }
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the repository");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let strays: Vec<&str> = listed
        .split('\0')
        .filter(|file| !file.is_empty())
        .filter(|file| {
            let top = file.split('/').next().unwrap_or(file);
            !top.starts_with('.') && !TOP.contains(&top)
        })
        .collect();
    assert!(strays.is_empty(), "these do not belong at the top of the repository: {strays:?}");
}

#[test]
fn the_laws_see_what_breaks_them() {
    let floors = Floors(BTreeMap::from([("words".into(), 0), ("left".into(), 1), ("right".into(), 1)]));
    let found = |path: &str, text: &str| floors.breaches(&Source::of(path.into(), text)).len();
    assert_eq!(found("src/words.rs", "use crate::left::A;"), 1, "upwards");
    assert_eq!(found("src/left/a.rs", "fn f() { crate::right::g() }"), 1, "sideways, in a path");
    assert_eq!(found("src/left/a.rs", "use crate::{words::W, right};"), 1, "in a group");
    assert_eq!(found("src/left/mod.rs", "use super::right::R;"), 1, "by super");
    assert_eq!(found("src/left/a/b.rs", "use super::super::super::right;"), 1, "by several");
    assert_eq!(found("src/left.rs", "use crate::words::{left, W}; use crate::left::x;"), 0, "downwards");
    assert_eq!(found("src/left/a/b.rs", "use super::super::right;"), 0, "a submodule of the same name");
    assert_eq!(found("src/words.rs", "/// [`crate::left`]\nconst S: &str = \"crate::left\";"), 0, "words");

    let clock = Source::of("src/left.rs".into(), "let c = '\"';\n// Instant::now()\nInstant::now();\n");
    assert_eq!(misplaced(&clock).iter().map(|breach| breach.line).collect::<Vec<_>>(), [3]);
    let raw = Source::of("src/left.rs".into(), "let s = r#\"todo!() \" todo!()\"#; /* todo!() */ todo!()");
    assert_eq!(misplaced(&raw).len(), 1);
    let lifetime = Source::of("src/left.rs".into(), "fn f<'a>(s: &'a str) { print!(\"'\") }");
    assert_eq!(misplaced(&lifetime).len(), 1);

    let allowed = "#[allow(dead_code)]\n#[expect(unused,\n    reason = \"shown\")]\n#![allow(missing_docs)]";
    let lines: Vec<usize> =
        silenced(&Source::of("src/a.rs".into(), allowed)).iter().map(|breach| breach.line).collect();
    assert_eq!(lines, [1, 4]);
}

/// The floor of each room.
struct Floors(BTreeMap<String, u8>);

impl Floors {
    /// From the rows `| 2 the outside | [`limiter`], [`store`] | … |`.
    fn of_the_code_map() -> Floors {
        let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
        let mut floors = BTreeMap::new();
        for row in map.lines().filter_map(|line| line.strip_prefix("//! |")) {
            let mut cells = row.split('|').map(str::trim);
            let (Some(floor), Some(rooms)) = (cells.next(), cells.next()) else { continue };
            let Ok(floor) = floor.split(' ').next().unwrap_or_default().parse::<u8>() else { continue };
            for room in rooms.split(',').map(|room| room.trim().trim_matches(['[', ']', '`'])) {
                floors.insert(room.to_owned(), floor);
            }
        }
        assert!(floors.len() > 5, "src/lib.rs has lost its table of floors");
        Floors(floors)
    }

    fn breaches(&self, source: &Source) -> Vec<Breach> {
        let Some(&own_floor) = self.0.get(source.room()) else { return Vec::new() };
        let mentions = source.paths_from_the_root().into_iter();
        let breaches = mentions.filter_map(|(at, room)| {
            let floor = *self.0.get(room)?;
            let allowed = room == source.room() || floor < own_floor;
            (!allowed).then(|| {
                let own = source.room();
                source.breach(
                    source.line_of(at),
                    format!("{own} (floor {own_floor}) may not know {room} (floor {floor}): imports point down only"),
                )
            })
        });
        breaches.collect()
    }
}

fn misplaced(source: &Source) -> Vec<Breach> {
    let mut broken = Vec::new();
    for (words, places, rule) in SINGLE_PLACES {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for word in *words {
            for at in source.find(word) {
                broken.push(source.breach(source.line_of(at), format!("`{word}`: {rule}")));
            }
        }
    }
    broken
}

fn silenced(source: &Source) -> Vec<Breach> {
    let mut broken = Vec::new();
    for opening in ["[allow(", "[expect("] {
        for (at, _) in source.code.match_indices(opening) {
            let attribute = source.code[at..].split(']').next().unwrap_or_default();
            if !attribute.contains("reason") {
                broken.push(
                    source.breach(source.line_of(at), "a lint is silenced without a `reason`".to_owned()),
                );
            }
        }
    }
    broken
}

/// A file of Rust, with comments and the insides of strings blanked out; lines stay where they were.
struct Source {
    path: String,
    code: String,
}

#[derive(Debug)]
struct Breach {
    path: String,
    line: usize,
    rule: String,
}

impl Source {
    fn of(path: String, text: &str) -> Source {
        Source { path, code: code_of(text) }
    }

    /// `engine` of `src/engine/lane.rs`, `guard` of `src/guard.rs`.
    fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// How many `super` lead from the file to the crate's root.
    fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.trim_end_matches("/mod.rs").split('/').count()
    }

    /// First names after `crate::`, or after as many `super::` as lead to the root.
    fn paths_from_the_root(&self) -> Vec<(usize, &str)> {
        let climb = "super::".repeat(self.depth());
        let mut paths = Vec::new();
        for opening in ["crate::", climb.as_str()] {
            for at in self.find(opening) {
                let rest = &self.code[at + opening.len()..];
                match rest.strip_prefix('{') {
                    None => paths.push((at, first_name(rest))),
                    Some(group) => paths.extend(members(group).into_iter().map(|name| (at, name))),
                }
            }
        }
        paths
    }

    /// Where the words stand, not as the end of a longer name.
    fn find(&self, words: &str) -> Vec<usize> {
        let begins = |at: usize| {
            let before = self.code[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
        };
        self.code.match_indices(words).map(|(at, _)| at).filter(|at| begins(*at)).collect()
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    fn breach(&self, line: usize, rule: String) -> Breach {
        Breach { path: self.path.clone(), line, rule }
    }
}

fn first_name(path: &str) -> &str {
    path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
}

/// First names of the members of a group whose `{` was read already.
fn members(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut names = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                names.push(first_name(group[start..at].trim_start()));
                start = at + 1;
            }
            '}' if depth == 0 => {
                names.push(first_name(group[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

/// Blanks comments and the insides of string and character literals.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = skipped_at(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    code
}

/// How many bytes of comment or literal begin here.
fn skipped_at(rest: &str, before: Option<char>) -> usize {
    let to = |end: Option<usize>, length: usize| end.map_or(rest.len(), |at| at + length);
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return to(rest.find('\n'), 0);
    }
    if rest.starts_with("/*") {
        return to(rest.find("*/"), 2);
    }
    let raw = rest.trim_start_matches('b');
    if let Some(hashes) = raw.strip_prefix('r').filter(|_| !in_name) {
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        if hashes[count..].starts_with('"') {
            let begin = rest.len() - hashes.len() + count + 1;
            let end = format!("\"{}", "#".repeat(count));
            return to(rest[begin..].find(&end).map(|at| begin + at), end.len());
        }
    }
    if rest.starts_with('"') {
        return to(unescaped_quote(rest), 1);
    }
    character(rest)
}

fn unescaped_quote(rest: &str) -> Option<usize> {
    let mut escaped = false;
    rest.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// The length of a character literal; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let Some(inside) = rest.strip_prefix('\'') else { return 0 };
    if let Some(escape) = inside.strip_prefix('\\') {
        // What is escaped may itself be a quote.
        let after = escape.chars().next().map_or(0, char::len_utf8);
        return escape[after..].find('\'').map_or(0, |at| 2 + after + at + 1);
    }
    let one = inside.chars().next().map_or(0, char::len_utf8);
    if inside[one..].starts_with('\'') { 1 + one + 1 } else { 0 }
}

fn sources() -> Vec<Source> {
    rust_files("src")
}

fn rust_files(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                files.push(Source::of(name, &text));
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_none(broken: &[Breach]) {
    let mut text = String::new();
    for Breach { path, line, rule } in broken {
        let _ = writeln!(text, "{path}:{line}: {rule}");
    }
    assert!(broken.is_empty(), "\n{text}");
}
