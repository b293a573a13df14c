//! What lies on disk, without reading sense into it: whether it is other than before, and where a change would show.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::config::account::CredentialSource;
use crate::config::environment::Environment;
use crate::config::policies::list_files;
use crate::config::regular;
use crate::config::secrets;
use crate::config::settings::Config;

/// Digests over the bytes of the files, or over why they cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// As [`Config::digest`] where the file can be read.
    pub settings: String,
    /// Of all policy files and their names.
    pub policies: String,
}

impl OnDisk {
    /// Of `renewd.toml` and of the folder or file of policies.
    pub fn look(settings: &Path, policies: &Path) -> OnDisk {
        OnDisk { settings: OnDisk::settings(settings), policies: OnDisk::policies(policies) }
    }

    pub fn settings(path: &Path) -> String {
        match regular::read(path) {
            Ok(bytes) => digest_of(&bytes),
            Err(error) => error.to_string(),
        }
    }

    pub fn policies(path: &Path) -> String {
        let files = match list_files(path) {
            Ok(files) => files,
            Err(error) => return error.to_string(),
        };
        let mut hash = Sha256::new();
        // Lengths go before contents, so that no two folders write the same bytes.
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for file in files {
            add(file.as_os_str().as_encoded_bytes());
            match regular::read(&file) {
                Ok(bytes) => add(&bytes),
                Err(error) => add(error.to_string().as_bytes()),
            }
        }
        HEXLOWER.encode(&hash.finalize())
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Folders, with the entries in them whose replacement changes what is read: whatever is on the way to
/// `renewd.toml`, to the policy files and to the files of secrets, through every symlink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(pub BTreeMap<PathBuf, Entries>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries {
    All,
    Named(BTreeSet<OsString>),
}

/// As the system has it: more links in one path lead nowhere.
const LINKS_MAX: usize = 40;

impl Places {
    pub fn of(config: &Config, environment: &Environment) -> Places {
        let mut places = Places::default();
        places.add_way_to(&config.source);
        if let Some(folder) = places.add_way_to(&config.policies).filter(|path| path.is_dir()) {
            places.0.insert(folder, Entries::All);
        }
        let is_link = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        for link in list_files(&config.policies).unwrap_or_default().iter().filter(|path| is_link(path)) {
            places.add_way_to(link);
        }
        for account in config.accounts.values() {
            let CredentialSource::Keys { key_id, secret, token } = &account.credentials else { continue };
            let files = [Some(key_id), Some(secret), token.as_ref()].into_iter().flatten();
            for path in files.filter_map(|reference| secrets::file_of(reference, environment)) {
                places.add_way_to(&path);
            }
        }
        places
    }

    /// Walks as the system does; answers where the path leads, should that exist.
    fn add_way_to(&mut self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        let mut links = 0;
        let mut here = PathBuf::new();
        let mut ahead: VecDeque<OsString> = names(&path);
        while let Some(name) = ahead.pop_front() {
            match Path::new(&name).components().next()? {
                Component::ParentDir => {
                    here.pop();
                    continue;
                }
                Component::Normal(_) => {}
                _ => {
                    here = PathBuf::from(&name);
                    continue;
                }
            }
            let next = here.join(&name);
            self.add(here.clone(), name);
            match fs::read_link(&next) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    names(&target).into_iter().rev().for_each(|name| ahead.push_front(name));
                }
                Ok(_) => return None,
                Err(_) => here = next,
            }
        }
        here.exists().then_some(here)
    }

    fn add(&mut self, folder: PathBuf, name: OsString) {
        match self.0.entry(folder) {
            Entry::Vacant(place) => {
                place.insert(Entries::Named(BTreeSet::from([name])));
            }
            Entry::Occupied(mut place) => {
                if let Entries::Named(names) = place.get_mut() {
                    names.insert(name);
                }
            }
        }
    }
}

/// The parts of a path; `.` leads nowhere else.
fn names(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn named(places: &Places, folder: &Path) -> Vec<String> {
        match &places.0[folder] {
            Entries::All => vec!["*".to_owned()],
            Entries::Named(names) => names.iter().map(|name| name.to_str().unwrap().to_owned()).collect(),
        }
    }

    #[test]
    fn every_link_on_the_way_to_a_file_is_a_place_where_it_can_be_swapped() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("releases/7/etc")).unwrap();
        fs::write(root.join("releases/7/etc/renewd.toml"), "").unwrap();
        symlink("releases/7", root.join("current")).unwrap();
        symlink(root.join("current/./etc"), root.join("config")).unwrap();
        let mut places = Places::default();

        let end = places.add_way_to(&root.join("config/../etc/renewd.toml"));

        assert_eq!(end, Some(root.join("releases/7/etc/renewd.toml")), "`..` is of where the link leads");
        assert_eq!(named(&places, &root), ["config", "current", "releases"]);
        assert_eq!(named(&places, &root.join("releases")), ["7"]);
        assert_eq!(named(&places, &root.join("releases/7")), ["etc"]);
        assert_eq!(named(&places, &root.join("releases/7/etc")), ["renewd.toml"]);
        assert!(places.0.contains_key(Path::new("/")), "a folder above may be renamed as well");
    }

    #[test]
    fn a_way_that_is_broken_or_runs_in_circles_is_followed_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        symlink("nowhere/renewd.toml", root.join("c")).unwrap();
        let mut places = Places::default();
        assert_eq!(places.add_way_to(&root.join("a")), None);
        assert_eq!(places.add_way_to(&root.join("c")), None);
        assert_eq!(named(&places, &root), ["a", "b", "c", "nowhere"]);
        assert_eq!(named(&places, &root.join("nowhere")), ["renewd.toml"]);
    }

    #[test]
    fn what_is_on_disk_differs_with_names_contents_and_reasons_why_it_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut seen = BTreeSet::new();
        let mut is_new = || seen.insert(OnDisk::policies(path));
        assert!(is_new());
        fs::write(path.join("a.toml"), "x").unwrap();
        assert!(is_new());
        fs::write(path.join(".hidden.toml"), "x").unwrap();
        fs::write(path.join("a.toml~"), "x").unwrap();
        assert!(!is_new(), "what editors leave is no policy");
        fs::rename(path.join("a.toml"), path.join("b.toml")).unwrap();
        assert!(is_new());
        fs::write(path.join("b.toml"), "xy").unwrap();
        assert!(is_new());
        fs::create_dir(path.join("c.toml")).unwrap();
        assert!(is_new());
        fs::remove_dir(path.join("c.toml")).unwrap();
        assert!(!is_new());
        assert_ne!(OnDisk::policies(&path.join("gone")), OnDisk::policies(path));
    }
}
