//! Secrets and the references that stand for them in files.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// A secret value: wiped on drop, never printed.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Surrounding blanks and a final newline are not part of a secret.
    pub fn new(value: &str) -> Secret {
        Secret(SecretString::from(value.trim().to_owned()))
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

/// Of two that this process holds itself: nobody outside can time it.
impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is to be read from; files carry these, never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    Credential(String),
    Env(String),
    File(PathBuf),
}

/// Carries nothing of the text: what was refused may be the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not a reference: write `credential:NAME`, `env:NAME` or `file:PATH`, never the secret itself")]
pub struct LiteralSecret;

impl SecretRef {
    pub fn parse(text: &str) -> Result<SecretRef, LiteralSecret> {
        let (kind, name) = text.split_once(':').ok_or(LiteralSecret)?;
        if name.is_empty() || name.trim() != name {
            return Err(LiteralSecret);
        }
        match kind {
            "credential" if is_credential_name(name) => Ok(SecretRef::Credential(name.to_owned())),
            "env" if is_variable_name(name) => Ok(SecretRef::Env(name.to_owned())),
            "file" if !name.contains('\0') => Ok(SecretRef::File(PathBuf::from(name))),
            _ => Err(LiteralSecret),
        }
    }
}

/// As systemd takes them: the name of a file, printable, short.
fn is_credential_name(name: &str) -> bool {
    const LONGEST: usize = 255;
    let is_allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    name.len() <= LONGEST && name.chars().all(is_allowed) && name != ".." && name != "."
}

/// As shells and systemd take them.
fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Credential(name) => write!(f, "credential:{name}"),
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_refused_without_being_repeated() {
        let refused = SecretRef::parse("AKIDverysecret").unwrap_err();
        assert!(!refused.to_string().contains("AKIDverysecret"));
    }

    #[test]
    fn what_no_variable_or_credential_can_be_called_is_no_reference() {
        for text in [
            "env: LITERALX",
            "env:LITERAL X",
            "env:1LITERAL",
            "env:LIT-ERAL",
            "env:",
            "credential: LITERALX",
            "credential:a/b",
            "credential:..",
            "credential:é",
            "file: /run/key",
        ] {
            assert!(SecretRef::parse(text).is_err(), "{text}");
        }
        for text in ["env:SHOP_ID2", "env:_x", "credential:shop-secret.id_1", "file:keys/my key"] {
            assert_eq!(SecretRef::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new(" hunter2\n");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
