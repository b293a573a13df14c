//! Reading the secrets that references name. Nothing read here is ever in a message.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use thiserror::Error;

use crate::config::diagnostic::Severity;
use crate::config::environment::Environment;
use crate::config::regular;
use crate::domain::secret::{Secret, SecretRef};

/// What belongs where a secret, or something else, was written.
pub(crate) const SECRET_HELP: &str = "write \"credential:NAME\", \"env:NAME\" or \"file:PATH\" and keep the secret out of \
    this file; one that stood here should be replaced at the cloud";

/// Where systemd keeps the service's credentials: commands run from a shell look there.
const SERVICE_CREDENTIALS: &str = "/run/credentials/renewd.service";

/// Far above any key or session token; a wrong path should not fill the memory.
const LARGEST_SECRET_BYTES: u64 = 64 * 1024;

/// Permission bits of group and others.
const SHARED_BITS: u32 = 0o077;

#[derive(Debug, Error)]
pub enum SecretError {
    #[error("`{reference}`: the environment variable is not set, empty or not UTF-8; set it for the service")]
    NoVariable { reference: SecretRef },
    #[error("`{reference}`: there is no file {path}; give the unit LoadCredential={name}:…", path = .path.display())]
    NoCredential { reference: SecretRef, name: String, path: PathBuf },
    #[error("`{reference}` cannot be read: {source}")]
    Unreadable { reference: SecretRef, source: io::Error },
    #[error("`{reference}` is open to other users (mode {mode:04o}); run: chmod 600 {path}", path = .path.display())]
    Shared { reference: SecretRef, mode: u32, path: PathBuf },
    #[error("`{reference}` is empty")]
    Empty { reference: SecretRef },
    #[error("`{reference}` is not a secret: {reason}")]
    NotASecret { reference: SecretRef, reason: &'static str },
}

/// Reads the secret that a reference names.
///
/// # Errors
/// It is not there, cannot be read, is open to other users, or is no single line of text.
pub fn resolve(reference: &SecretRef, environment: &Environment) -> Result<Secret, SecretError> {
    let value = match reference {
        SecretRef::Env(name) => {
            let value = environment.variable(name).map(Zeroizing::new);
            value.ok_or_else(|| SecretError::NoVariable { reference: reference.clone() })?
        }
        SecretRef::Credential(name) => read_credential(reference, name, environment)?,
        SecretRef::File(path) => {
            let file = open(reference, path)?;
            refuse_shared(reference, path, &file)?;
            read(reference, file)?
        }
    };
    let secret = Secret::new(&value);
    let refuse = |reason| Err(SecretError::NotASecret { reference: reference.clone(), reason });
    if secret.is_empty() {
        return Err(SecretError::Empty { reference: reference.clone() });
    }
    if secret.expose().contains(char::is_control) {
        return refuse("it has several lines or control characters");
    }
    Ok(secret)
}

/// What `check` has to say about a reference; the secret itself is dropped unseen.
pub(crate) struct Doubt {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Judges from a shell what the service will meet. A file is the same for both; variables and the rights of a
/// user are not, and credentials exist only while the service runs.
pub(crate) fn doubt(reference: &SecretRef, environment: &Environment) -> Option<Doubt> {
    if matches!(reference, SecretRef::Credential(_)) {
        return None;
    }
    let error = resolve(reference, environment).err()?;
    let is_closed = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
    let (severity, help) = match &error {
        SecretError::NoVariable { .. } => {
            (Severity::Warning, "only the service needs it: this shell may well be without")
        }
        SecretError::Unreadable { source, .. } if is_closed(source) => {
            (Severity::Warning, "it is enough that the user that the service runs as can read it")
        }
        SecretError::Unreadable { source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
            (Severity::Error, "name the file in the folder")
        }
        SecretError::Unreadable { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
            (Severity::Error, "name a plain file with mode 600, the secret alone in it")
        }
        SecretError::Unreadable { .. } => {
            (Severity::Error, "create it with mode 600, the secret alone in it, or name another path")
        }
        SecretError::Shared { .. } => {
            (Severity::Error, "a secret that others could read should be replaced at the cloud")
        }
        _ => (Severity::Error, "put the secret alone into it, on one line"),
    };
    let severity = if matches!(reference, SecretRef::Env(_)) { Severity::Warning } else { severity };
    Some(Doubt { severity, message: error.to_string(), help: help.to_owned() })
}

/// In the folder that systemd names to the service; a shell, or the unit that it was started from, has none or another
/// one, so the service's own is looked in as well.
fn read_credential(
    reference: &SecretRef,
    name: &str,
    environment: &Environment,
) -> Result<Zeroizing<String>, SecretError> {
    let path = find_credential(reference, name, credential_folders(environment))?;
    // systemd guards these files by the folder, so their own mode says nothing.
    read(reference, open(reference, &path)?)
}

/// The service's own first.
fn credential_folders(environment: &Environment) -> impl Iterator<Item = PathBuf> {
    environment.credentials_directory().into_iter().chain([PathBuf::from(SERVICE_CREDENTIALS)])
}

fn find_credential(
    reference: &SecretRef,
    name: &str,
    folders: impl Iterator<Item = PathBuf>,
) -> Result<PathBuf, SecretError> {
    let mut expected = None;
    for path in folders.map(|folder| folder.join(name)) {
        // A folder that is closed to this user says nothing of what is in it.
        if path.try_exists().map_err(|error| unreadable(reference, error))? {
            return Ok(path);
        }
        expected = expected.or(Some(path));
    }
    let (name, path) = (name.to_owned(), expected.unwrap_or_default());
    Err(SecretError::NoCredential { reference: reference.clone(), name, path })
}

/// The file that a reference is read from; none for a variable.
pub(crate) fn file_of(reference: &SecretRef, environment: &Environment) -> Option<PathBuf> {
    match reference {
        SecretRef::Env(_) => None,
        SecretRef::Credential(name) => credential_folders(environment).map(|folder| folder.join(name)).next(),
        SecretRef::File(path) => Some(path.clone()),
    }
}

fn open(reference: &SecretRef, path: &Path) -> Result<File, SecretError> {
    regular::open(path).map_err(|error| unreadable(reference, error))
}

/// Asks the open file, not the path: what was judged is what is read.
fn refuse_shared(reference: &SecretRef, path: &Path, file: &File) -> Result<(), SecretError> {
    let metadata = file.metadata().map_err(|error| unreadable(reference, error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & SHARED_BITS == 0 {
        return Ok(());
    }
    Err(SecretError::Shared { reference: reference.clone(), mode, path: path.to_owned() })
}

fn read(reference: &SecretRef, file: File) -> Result<Zeroizing<String>, SecretError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = LARGEST_SECRET_BYTES + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(reference, error))?;
    let refuse = |reason| Err(SecretError::NotASecret { reference: reference.clone(), reason });
    if bytes.len() as u64 == limit {
        return refuse("it is larger than 64 KiB");
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => refuse("it is not UTF-8 text"),
    }
}

fn unreadable(reference: &SecretRef, source: io::Error) -> SecretError {
    SecretError::Unreadable { reference: reference.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_looked_for_in_each_folder_and_missed_where_it_belongs() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let reference = SecretRef::parse("credential:key").unwrap();
        let find = || {
            let paths = folders.iter().map(|folder| folder.path().to_owned());
            find_credential(&reference, "key", paths)
        };
        let missed = find().unwrap_err().to_string();
        assert!(missed.contains(&folders[0].path().join("key").display().to_string()), "{missed}");
        for folder in folders.iter().rev() {
            std::fs::write(folder.path().join("key"), "secret").unwrap();
            assert_eq!(find().unwrap(), folder.path().join("key"));
        }
    }
}
