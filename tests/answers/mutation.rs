//! Mutated answers, fed to every reader: none may panic, and none may understand what is not said.
//!
//! `RENEWD_MUTATION_SECONDS` says how long (2 unless set). Left to itself a short run begins at a fixed seed and a long
//! one at a new one; `RENEWD_MUTATION_SEED` sets it, and what is printed of a finding sets it to that very body.

use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::invariants;
use crate::mutate::mutate;
use crate::reader::{EVERY_READER, Golden, Reader, goldens};

const SHORT_SECONDS: u64 = 2;
const FIXED_SEED: u64 = 20_260_120;
const SHOWN_MAX_CHARS: usize = 4_000;
/// However slow the machine.
const MUTANTS_MIN: u64 = 2_000;
/// Mostly the one that lets a success through.
const STATUSES: [u16; 8] = [200, 200, 200, 200, 200, 202, 302, 500];

#[derive(Debug, Default)]
struct Tally {
    read: u64,
    refused: u64,
}

#[test]
fn no_mutated_answer_is_misread() {
    let seconds = number("RENEWD_MUTATION_SECONDS");
    let fresh = if seconds.is_some() { RandomState::new().build_hasher().finish() } else { FIXED_SEED };
    let seed = number("RENEWD_MUTATION_SEED").unwrap_or(fresh);
    eprintln!("mutating from RENEWD_MUTATION_SEED={seed}");
    let duration = Duration::from_secs(seconds.unwrap_or(SHORT_SECONDS));
    let corpus = goldens();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let started = Instant::now();
    let mut mutants = 0;
    while mutants < MUTANTS_MIN || started.elapsed() < duration {
        feed(seed.wrapping_add(mutants), &corpus, &mut tallies);
        mutants += 1;
    }
    eprintln!("{mutants} mutants, each fed to {} readers", EVERY_READER.len());
    for (reader, tally) in &tallies {
        eprintln!("{reader}: {tally:?}");
        assert!(tally.read > 0 && tally.refused > 0, "{reader} was not put to the test: {tally:?}");
    }
    assert_eq!(tallies.len(), EVERY_READER.len());
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text}, which is no number")))
}

fn feed(seed: u64, corpus: &[Golden], tallies: &mut BTreeMap<String, Tally>) {
    let mut rng = Rng::with_seed(seed);
    let mut any = || &corpus[rng.usize(0..corpus.len())];
    let (base, donor) = (any(), any());
    let mutant = mutate(&mut rng, &base.body, &donor.body);
    let http_status = STATUSES[rng.usize(0..STATUSES.len())];
    for reader in EVERY_READER {
        let is_read = read(reader, http_status, &mutant).unwrap_or_else(|finding| {
            panic!(
                "{reader:?}: {finding}\nRENEWD_MUTATION_SEED={seed}, from {}, HTTP status {http_status}\n{}",
                base.name,
                String::from_utf8_lossy(&mutant).chars().take(SHOWN_MAX_CHARS).collect::<String>()
            )
        });
        let tally = tallies.entry(format!("{reader:?}")).or_default();
        if is_read {
            tally.read += 1;
        } else {
            tally.refused += 1;
        }
    }
}

/// Whether it was read as a success, or what is wrong with the reading.
fn read(reader: Reader, http_status: u16, body: &[u8]) -> Result<bool, String> {
    let reply = catch_unwind(|| reader.read(http_status, body)).map_err(|_| "panicked".to_owned())?;
    invariants::check(reader, http_status, body, &reply)
        .map_err(|breach| format!("{breach}\nread as {reply:?}"))?;
    Ok(reply.result.is_ok())
}
