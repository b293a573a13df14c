//! `renewd completions`.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::{Outcome, output};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that is to complete.
    shell: Shell,
}

pub(super) fn completions(mut command: Command, args: &CompletionsArgs) -> Outcome {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    output::print(String::from_utf8(script)?.trim_end())
}
