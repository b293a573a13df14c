//! Which policy files need no parsing: those that were accepted, and that nothing which their verdict follows from has
//! changed since.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::config::settings::Surroundings;

/// Digests of accepted files, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownFiles(pub HashMap<String, String>);

impl KnownFiles {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn hold(&self, path: &str, digest: &str) -> bool {
        self.0.get(path).is_some_and(|known| known == digest)
    }
}

/// What the verdict on any file follows from, beside its contents and the zones that the system knows.
pub(crate) struct Basis(Option<Sha256>);

impl Basis {
    pub(crate) fn of(surroundings: &Surroundings) -> Basis {
        Basis(Basis::hash(surroundings))
    }

    /// None where some of it cannot be told.
    fn hash(surroundings: &Surroundings) -> Option<Sha256> {
        let mut hash = Sha256::new();
        add(&mut hash, program()?.as_bytes());
        add(&mut hash, surroundings.timezone.as_bytes());
        for (name, provider) in surroundings.accounts.as_ref()? {
            add(&mut hash, name.as_str().as_bytes());
            add(&mut hash, (*provider)?.as_str().as_bytes());
        }
        Some(hash)
    }

    /// The path as it is kept, and the digest; None for a file that is to be parsed each time.
    pub(crate) fn digest(&self, path: &Path, bytes: &[u8]) -> Option<(String, String)> {
        let (mut hash, path) = (self.0.clone()?, path.to_str()?);
        add(&mut hash, path.as_bytes());
        add(&mut hash, bytes);
        Some((path.to_owned(), HEXLOWER.encode(&hash.finalize())))
    }
}

/// Lengths go before contents, so that no two files write the same bytes.
pub(super) fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Of one build: another may judge otherwise, whatever version it calls itself. Installing a file changes its ctime.
fn program() -> Option<String> {
    let file = fs::metadata("/proc/self/exe").ok()?;
    let (size, inode) = (file.size(), file.ino());
    let (modified, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    Some(format!("{} {size} {inode} {modified:?} {changed:?}", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    fn digest_under(settings: &str, file: &str, text: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("renewd.toml");
        fs::write(&path, settings).unwrap();
        let config = config::load(&path, &Environment::of_pairs([])).unwrap().value;
        Basis::of(&Surroundings::of(&config)).digest(Path::new(file), text.as_bytes()).unwrap()
    }

    #[test]
    fn a_digest_holds_for_one_path_contents_zone_and_set_of_accounts() {
        let shop =
            "[account.shop]\nprovider = \"tencentcloud\"\nsecret_id = \"env:A\"\nsecret_key = \"env:B\"\n";
        let zone = format!("timezone = \"Asia/Shanghai\"\n{shop}");
        let volcengine = shop
            .replace("tencentcloud", "volcengine")
            .replace("secret_id", "access_key_id")
            .replace("secret_key", "secret_access_key");
        let second = format!("{shop}{}", shop.replace("account.shop", "account.mall"));
        let first = digest_under(shop, "/p/a.toml", "x");
        let others = [
            digest_under(shop, "/p/b.toml", "x"),
            digest_under(shop, "/p/a.toml", "y"),
            digest_under(&zone, "/p/a.toml", "x"),
            digest_under(&volcengine, "/p/a.toml", "x"),
            digest_under(&second, "/p/a.toml", "x"),
        ];
        assert!(others.iter().all(|other| *other != first), "{first:?} {others:?}");
        let pace =
            format!("{shop}[account.shop.rate]\n\"redis:RenewInstance\" = 3\n[log]\nlevel = \"debug\"");
        assert_eq!(digest_under(&pace, "/p/a.toml", "x"), first, "no policy is judged by these");
    }
}
