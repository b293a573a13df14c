//! Which part of a line may be shown: nothing that may be a secret ever is.

use std::borrow::Cow;

use crate::domain::secret::SecretRef;

/// Stands for each character that is not shown, so that columns stay what they are.
const MASK: char = '*';

/// Words that, in a key or a value, make a line one that may hold a secret.
const SECRET_WORDS: [&str; 6] = ["secret", "token", "access_key", "password", "credential", "akid"];

/// The keys of an account that hold references to secrets, where a literal may stand by mistake.
const SECRET_KEYS: [&str; 6] =
    ["secret_id", "secret_key", "access_key_id", "secret_access_key", "token", "credentials"];

/// Keys of `renewd.toml` that hold no secret, at its top and in an account. Beside them any key may be a
/// misspelt one of [`SECRET_KEYS`].
pub(super) const SHOWN_KEYS: [&str; 12] = [
    "database",
    "policies",
    "timezone",
    "log",
    "http",
    "retry",
    "history",
    "provider",
    "endpoint",
    "bare_time_zone",
    "rate",
    "budget",
];

/// Tables in which no key is near one of a secret, and those of an account that are alike.
pub(super) const SHOWN_TABLES: [&str; 4] = ["log", "http", "retry", "history"];
const SHOWN_TABLES_OF_ACCOUNT: [&str; 2] = ["rate", "budget"];
pub(super) const ACCOUNT: &str = "account";

/// How alike (of 1) a key must be to a known one to be shown as its misspelling.
const MISSPELT: f64 = 0.7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disclosure {
    /// Secrets have their place in this file: only what is known to be none is shown.
    Guarded,
    /// No secret belongs into this file: all is shown but what looks like one.
    Open,
}

impl Disclosure {
    /// The line, in the table of `header`, with all masked that may be a secret.
    pub(super) fn masked<'l>(self, line: &'l str, header: &str, is_inside_long_text: bool) -> Cow<'l, str> {
        let hidden_from = if is_inside_long_text { Some(0) } else { self.hidden_from(line, header) };
        let Some(hidden_from) = hidden_from else { return line.into() };
        let (shown, hidden) = line.split_at(hidden_from);
        shown.chars().chain(hidden.chars().map(|c| if c == ' ' { ' ' } else { MASK })).collect()
    }

    /// Whether a message may repeat this key.
    pub(super) fn may_tell(self, key: &str) -> bool {
        self == Disclosure::Open || !may_be_part_of_secret(key)
    }

    /// The message without what looks like a secret that was pasted into a wrong place.
    pub(super) fn tellable(message: String) -> String {
        if !message.split(is_no_letter_of_secret).any(looks_like_secret) {
            return message;
        }
        let piece = |piece: &str| {
            let (word, behind) = piece.split_at(piece.trim_end_matches(is_no_letter_of_secret).len());
            let word = if looks_like_secret(word) { "(not shown)" } else { word };
            [word, behind].concat()
        };
        message.split_inclusive(is_no_letter_of_secret).map(piece).collect()
    }

    /// Whether a secret, or a reference to one, belongs on the line.
    pub(super) fn is_place_of_secret(self, line: &str) -> bool {
        let is_of_key = |c: char| c.is_alphanumeric() || c == '_';
        let key = line.split(|c| !is_of_key(c)).find(|word| !word.is_empty()).unwrap_or_default();
        self == Disclosure::Guarded && likeness(key, &SECRET_KEYS) >= MISSPELT
    }

    /// The table in which this file names what it is about.
    pub(super) fn named_table(self) -> &'static str {
        match self {
            Disclosure::Guarded => ACCOUNT,
            Disclosure::Open => "policy",
        }
    }

    /// From where on the line, in the table of `header`, is not to be shown.
    fn hidden_from(self, line: &str, header: &str) -> Option<usize> {
        let is_pasted = |text: &str| text.split(is_no_letter_of_secret).any(looks_like_secret);
        let Some((key, value)) = line.split_once('=') else {
            let is_shown = match self {
                Disclosure::Guarded => line.trim().is_empty() || (is_known_header(line) && !is_pasted(line)),
                Disclosure::Open => !may_hold_secret(line) && !is_pasted(line),
            };
            return if is_shown { None } else { Some(0) };
        };
        if is_reference(value) && !is_pasted(value) {
            return None;
        }
        if let Some((reference, comment)) = value.split_once('#')
            && is_reference(reference)
            && !is_pasted(reference)
        {
            // What stood there before may have been left in the comment.
            return Some(line.len() - comment.len());
        }
        let is_known = match self {
            Disclosure::Guarded => {
                let path = [path_of(header), path_of(key)].concat();
                is_harmless(&path) && !key.contains('[') && !value.contains('@')
            }
            Disclosure::Open => true,
        };
        let is_odd = self == Disclosure::Guarded && !is_known && may_be_part_of_secret(key);
        if is_odd || is_pasted(key) {
            return Some(0);
        }
        if (is_known || is_plain_number(value)) && !may_hold_secret(line) && !is_pasted(value) {
            return None;
        }
        let blanks = value.len() - value.trim_start().len();
        Some(key.len() + 1 + blanks)
    }
}

/// The words of a key or of a table's header.
pub(super) fn path_of(text: &str) -> Vec<&str> {
    let words = text.trim_start().trim_start_matches('[').split(']').next().unwrap_or_default();
    words
        .split('.')
        .map(|word| word.trim().trim_matches(['"', '\'']))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether the key at this path is known to hold no secret, or is a slip of one that holds none.
fn is_harmless(path: &[&str]) -> bool {
    let Some(key) = path.last() else { return false };
    let is_in_shown_table = match path {
        [table, _, ..] if SHOWN_TABLES.contains(table) => true,
        [ACCOUNT, _, table, _, ..] => SHOWN_TABLES_OF_ACCOUNT.contains(table),
        _ => false,
    };
    let likeness_to_secret = likeness(key, &SECRET_KEYS);
    if is_in_shown_table {
        return likeness_to_secret < MISSPELT;
    }
    let likeness_to_shown = likeness(key, &SHOWN_KEYS);
    likeness_to_shown >= MISSPELT && likeness_to_shown > likeness_to_secret
}

/// No key of ours looks like that; the second line of a wrapped secret does.
fn may_be_part_of_secret(key: &str) -> bool {
    let is_odd = |c: char| !c.is_ascii_lowercase() && !matches!(c, '_' | '-');
    // A colon is in the names of APIs.
    path_of(key).iter().all(|word| word.contains(is_odd) && !word.contains(':'))
}

/// Shorter than any key of a cloud, longer than what people call an account.
const SHORTEST_SECRET: usize = 24;

/// Long, of small and capital letters and digits, as keys of the clouds are and names seldom.
fn looks_like_secret(word: &str) -> bool {
    let has = |is_so: fn(&char) -> bool| word.chars().any(|c| is_so(&c));
    word.len() >= SHORTEST_SECRET
        && has(char::is_ascii_lowercase)
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_digit)
}

fn is_no_letter_of_secret(c: char) -> bool {
    !c.is_ascii_alphanumeric() && !matches!(c, '+' | '=')
}

/// To the most alike of them, of 1.
fn likeness(word: &str, known: &[&str]) -> f64 {
    let to = |name: &&str| strsim::normalized_damerau_levenshtein(word, name);
    known.iter().map(to).fold(0.0, f64::max)
}

/// A header, perhaps misspelt, with nothing behind it but a comment.
fn is_known_header(line: &str) -> bool {
    let tables = [&SHOWN_TABLES[..], &[ACCOUNT]].concat();
    let behind = line.rsplit_once(']').map_or("", |(_, behind)| behind.trim_start());
    line.trim_start().starts_with('[')
        && path_of(line).first().is_some_and(|first| likeness(first, &tables) >= MISSPELT)
        && (behind.is_empty() || behind.starts_with('#'))
}

fn may_hold_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| text.contains(word))
}

/// A quoted reference to a secret and nothing behind it.
fn is_reference(value: &str) -> bool {
    let value = value.trim();
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.is_some_and(|inner| !inner.contains(['"', '\'']) && SecretRef::parse(inner).is_ok())
}

fn is_plain_number(value: &str) -> bool {
    let value = value.trim();
    value.parse::<f64>().is_ok() || matches!(value, "true" | "false")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::source::SourceFile;

    fn shown(disclosure: Disclosure, line: &str) -> String {
        let file = SourceFile::new(Path::new("x.toml"), line.to_owned(), disclosure);
        file.as_shown(1)
    }

    fn last_shown(text: &str) -> String {
        let file = SourceFile::new(Path::new("x.toml"), text.to_owned(), Disclosure::Guarded);
        file.as_shown(text.lines().count())
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_masked() {
        for line in [
            "secret_key = \"hunter2\"",
            "secret_kye = hunter2",
            "secretkey = \"env:X\" # hunter2",
            "frobnicate = \"hunter2\"",
            "account.shop = { x = \"hunter2\" }",
            "endpoint = \"http://me:hunter2@host\"",
            "log = { token = \"hunter2\" }",
            "[log] x = \"hunter2\"",
            "\"hunter2\"",
            "[account.shop] hunter2",
        ] {
            let shown = shown(Disclosure::Guarded, line);
            assert!(shown.ends_with(MASK) && !shown.contains("hunter2"), "{shown}");
            assert_eq!(shown.chars().count(), line.chars().count());
        }
        assert_eq!(shown(Disclosure::Open, "secret_key = \"hunter2\""), "secret_key = *********");
    }

    #[test]
    fn under_an_account_each_key_that_is_not_known_to_be_harmless_may_be_a_misspelt_secret() {
        for header in ["[account.shop]", "[acount.shop]", "[account.\"my shop\"] # pays"] {
            for key in ["secret_kee", "tokne", "acces_key_id", "kye", "secert"] {
                let text = format!("{header}\n{key} = \"hunter2\"\n");
                assert_eq!(last_shown(&text), format!("{key} = *********"), "{text}");
            }
        }
        assert_eq!(last_shown("[retry]\ntokne = \"hunter2\"\n"), "tokne = *********", "out of its place");
    }

    #[test]
    fn a_key_of_a_cloud_in_a_wrong_place_is_neither_shown_nor_told() {
        let key = "z8krbsJ5yKBZQpn74WFkmLPx3abc";
        for line in [format!("provider = \"{key}\""), format!("endpoint = \"https://{key}.host\"")] {
            let shown = shown(Disclosure::Guarded, &line);
            assert!(shown.ends_with(MASK) && !shown.contains(key), "{shown}");
        }
        let tellable = |message: &str| Disclosure::tellable(message.to_owned());
        assert_eq!(tellable(&format!("no `{key}`, no {key}")), "no `(not shown)`, no (not shown)");
        let names = "`ProdShanghai2024Main` is no API; `cvm:InquiryPriceRenewInstances` is";
        assert_eq!(tellable(names), names);
    }

    #[test]
    fn what_is_known_to_be_no_secret_is_shown() {
        for line in [
            "secret_key = \"credential:shop-key\"",
            "secret_id = 'env:SHOP'",
            "databse = \"x.db\"",
            "[account.shop]",
            "[histroy]",
            "log = { format = \"jsn\" }",
            "\"redis:RenewInstance\" = 5000",
        ] {
            assert_eq!(shown(Disclosure::Guarded, line), line);
        }
        for (header, line) in [
            ("[history]", "runs_days = \"many\""),
            ("[history] # kept", "run_days = x"),
            ("[retry]", "max_attempts = -1.5e"),
            ("[log]", "level = \"inof\""),
            ("[account.shop]", "endpoint = \"ftp://host\""),
            ("[account.shop]", "providr = \"tencent\""),
            ("[account.shop]", "budget = { order_per_day = x }"),
            ("[account.shop.budget]", "cny_per_dya = \"much\""),
            ("[account.shop.rate]", "\"redis:Renew\" = \"fast\""),
        ] {
            assert_eq!(last_shown(&format!("{header}\n{line}\n")), line, "{header}");
        }
        let shown_reference = "secret_key = \"env:KEY\" #";
        assert_eq!(
            shown(Disclosure::Guarded, &format!("{shown_reference} hunter2")),
            format!("{shown_reference} *******")
        );
        let policy_line = "instances = [\"crs-1\", \"crs-2\"]";
        assert_eq!(shown(Disclosure::Open, policy_line), policy_line);
    }

    #[test]
    fn lines_of_a_long_text_are_not_shown_at_all() {
        let text = "secret_key = \"\"\"\nhunter2\n".to_owned();
        let file = SourceFile::new(Path::new("x.toml"), text, Disclosure::Guarded);
        assert_eq!(file.as_shown(2), "*******");
    }
}
