//! `renewd backup`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::person::person;
use super::{Outcome, open_store, output, progress};

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The copy, which must not exist yet.
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

pub(super) async fn backup(config: &Path, args: &BackupArgs) -> Outcome {
    let store = match open_store(config).await? {
        Ok((_, store)) => store,
        Err(code) => return Ok(code),
    };
    let (by, now) = (person(), super::now());
    let bytes = progress::waited("copying the database", store.backup(&args.file, &by, now)).await?;
    output::print(&format!(
        "{} is a whole copy of {}, {bytes} bytes; a service started on it holds all orders until `renewd resume`",
        args.file.display(),
        store.path().display()
    ))
}
