//! Spoils JSON: byte by byte as a bad line would, and token by token as a strange vendor would.

use std::ops::Range;

use fastrand::Rng;

/// How many changes a mutant has: mostly one, so that much of it still makes sense.
const CHANGES: [usize; 6] = [1, 1, 1, 2, 2, 4];
const NESTED_MAX: usize = 600;

/// What stands in the place of a value.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "6",
    "0.5",
    "2.50",
    "1e3",
    "1e15",
    "1e999",
    "-1e-999",
    "9007199254740991",
    "9007199254740993",
    "-9223372036854775808",
    "18446744073709551615",
    "123456789012345678901234567890",
    "0.000000000000000000000000000001",
    "\"\"",
    "\"0\"",
    "\" 1 \"",
    "\"+1\"",
    "\"1e3\"",
    "\"-1\"",
    "\"NaN\"",
    "\"\u{ff11}\"",
    "\"99999999999999999999\"",
    "\"6.5\"",
    "\"\\u0031\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"CNY\"",
    "\"USD\"",
    "\"pent\"",
    "\"microPent\"",
    "\"Success\"",
    "\"Renew\"",
    "\"PREPAID\"",
    "\"RUNNING\"",
    "\"0000-00-00 00:00:00\"",
    "\"0000-00-00 00:00\"",
    "\"0001-01-01T00:00:00Z\"",
    "\"1970-01-01 08:00:00\"",
    "\"-009999-01-02T00:00:00Z\"",
    "\"9999-12-31 23:59:59\"",
    "\"2024-02-30 00:00:00\"",
    "\"2024-12-31T23:59:60Z\"",
    "\"2026-03-01T00:00:00+25:00\"",
    "\"2026-03-01\"",
    "[]",
    "{}",
    "[null]",
    "[{}]",
    "[[]]",
    "[1,2]",
    "{\"Code\":\"InternalError\"}",
    "{\"Error\":{\"Code\":\"InternalError\"}}",
    "[\"InternalError\",\"of a list\"]",
];

const BYTES: &[&[u8]] = &[
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
    b"\xef\xbb\xbf",
    b"\0",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"//",
    b"<html>",
];

/// What turns an answer into a refusal, in one place or another.
const MEMBERS: &[&str] = &[
    r#""Error":{"Code":"InternalError","Message":"m"},"#,
    r#""Error":{"Code":"FailedOperation.PayFailed"},"#,
    r#""Error":{},"#,
    r#""Error":"InternalError","#,
    r#""Response":{"RequestId":"r"},"#,
    r#""code":5100,"#,
    r#""codeDesc":"OperationFail.SystemBusy","#,
];

/// A few changes to `body`, some of which take parts of `donor`.
pub fn mutate(rng: &mut Rng, body: &[u8], donor: &[u8]) -> Vec<u8> {
    let mut mutant = body.to_vec();
    for _ in 0..CHANGES[rng.usize(0..CHANGES.len())] {
        change(rng, &mut mutant, donor);
    }
    mutant
}

fn change(rng: &mut Rng, mutant: &mut Vec<u8>, donor: &[u8]) {
    match rng.u8(0..16) {
        0 => flip_bit(rng, mutant),
        1 => {
            let at = rng.usize(0..=mutant.len());
            let bytes = BYTES[rng.usize(0..BYTES.len())];
            mutant.splice(at..at, bytes.iter().copied());
        }
        2 => {
            let part = range(rng, mutant.len());
            mutant.drain(part);
        }
        3 => {
            let part = mutant[range(rng, mutant.len())].to_vec();
            let at = rng.usize(0..=mutant.len());
            mutant.splice(at..at, part);
        }
        4 => mutant.truncate(rng.usize(0..=mutant.len())),
        5 => {
            let (end, start) = (rng.usize(0..=mutant.len()), rng.usize(0..=donor.len()));
            mutant.truncate(end);
            mutant.extend_from_slice(&donor[start..]);
        }
        6 | 7 => swap_tokens(rng, mutant),
        8 => take_token(rng, mutant, donor),
        9 | 10 => duplicate_member(rng, mutant),
        11 => nest(rng, mutant),
        12 => insert_member(rng, mutant),
        _ => replace_value(rng, mutant),
    }
}

fn flip_bit(rng: &mut Rng, mutant: &mut [u8]) {
    if !mutant.is_empty() {
        let at = rng.usize(0..mutant.len());
        mutant[at] ^= 1 << rng.u8(0..8);
    }
}

fn range(rng: &mut Rng, length: usize) -> Range<usize> {
    let (one, other) = (rng.usize(0..=length), rng.usize(0..=length));
    one.min(other)..one.max(other)
}

fn swap_tokens(rng: &mut Rng, mutant: &mut Vec<u8>) {
    let (Some(one), Some(other)) = (any_token(rng, mutant), any_token(rng, mutant)) else { return };
    let (first, second) = if one.start <= other.start { (one, other) } else { (other, one) };
    if first.end <= second.start {
        let (left, right) = (mutant[first.clone()].to_vec(), mutant[second.clone()].to_vec());
        mutant.splice(second, left);
        mutant.splice(first, right);
    }
}

fn take_token(rng: &mut Rng, mutant: &mut Vec<u8>, donor: &[u8]) {
    if let (Some(old), Some(new)) = (any_token(rng, mutant), any_token(rng, donor)) {
        mutant.splice(old, donor[new].iter().copied());
    }
}

fn duplicate_member(rng: &mut Rng, mutant: &mut Vec<u8>) {
    let keys: Vec<_> = tokens(mutant).into_iter().filter(|token| is_key(mutant, token)).collect();
    if let Some(key) = any(rng, &keys) {
        let value = VALUES[rng.usize(0..VALUES.len())].as_bytes();
        let member = [&mutant[key.clone()], b":", value, b","].concat();
        mutant.splice(key.start..key.start, member);
    }
}

fn insert_member(rng: &mut Rng, mutant: &mut Vec<u8>) {
    let keys: Vec<_> = tokens(mutant).into_iter().filter(|token| is_key(mutant, token)).collect();
    if let Some(key) = any(rng, &keys) {
        mutant.splice(key.start..key.start, MEMBERS[rng.usize(0..MEMBERS.len())].bytes());
    }
}

fn nest(rng: &mut Rng, mutant: &mut Vec<u8>) {
    let Some(value) = any_value(rng, mutant) else { return };
    let depth = rng.usize(1..NESTED_MAX);
    let (open, close) = if rng.bool() { ("[", "]") } else { ("{\"a\":", "}") };
    let nested =
        [open.repeat(depth).as_bytes(), &mutant[value.clone()], close.repeat(depth).as_bytes()].concat();
    mutant.splice(value, nested);
}

fn replace_value(rng: &mut Rng, mutant: &mut Vec<u8>) {
    if let Some(value) = any_value(rng, mutant) {
        mutant.splice(value, VALUES[rng.usize(0..VALUES.len())].bytes());
    }
}

fn any<'a>(rng: &mut Rng, ranges: &'a [Range<usize>]) -> Option<&'a Range<usize>> {
    if ranges.is_empty() { None } else { ranges.get(rng.usize(0..ranges.len())) }
}

fn any_token(rng: &mut Rng, text: &[u8]) -> Option<Range<usize>> {
    any(rng, &tokens(text)).cloned()
}

fn any_value(rng: &mut Rng, text: &[u8]) -> Option<Range<usize>> {
    let values: Vec<_> = tokens(text).into_iter().filter(|token| !is_key(text, token)).collect();
    any(rng, &values).cloned()
}

fn is_key(text: &[u8], token: &Range<usize>) -> bool {
    text[token.end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// Where the strings, numbers and words are; of spoilt text something near it.
fn tokens(text: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let length = match text[at] {
            b'"' => string_length(&text[at..]),
            byte if is_of_word(byte) => text[at..].iter().take_while(|byte| is_of_word(**byte)).count(),
            _ => 0,
        };
        if length > 0 {
            tokens.push(at..at + length);
        }
        at += length.max(1);
    }
    tokens
}

fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let closing = text.iter().skip(1).position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    closing.map_or(text.len(), |at| at + 2)
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}
