//! `renewd man`: the manual, from the definitions of the command line and the examples of the configuration.

mod settings;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueHint};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{DEFAULT_CONFIG, Failure, Outcome, output};

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder for the pages, made if it is missing: renewd.1, renewd-COMMAND.1 and renewd.toml.5.
    #[arg(value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

const MANUAL: &str = "renewd manual";

pub(super) fn man(command: Command, args: &ManArgs) -> Outcome {
    fs::create_dir_all(&args.dir).map_err(|error| cannot_write(&args.dir, &error))?;
    let pages = pages(command)?;
    for (name, page) in &pages {
        let path = args.dir.join(name);
        fs::write(&path, page).map_err(|error| cannot_write(&path, &error))?;
    }
    output::print(&format!("{} pages in {}", pages.len(), args.dir.display()))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    format!("{} cannot be written: {error}", path.display()).into()
}

/// File names with their text.
fn pages(command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    // `help` is the same as `--help`; a page of its own would be one a command.
    let mut command = command
        .disable_help_subcommand(true)
        .subcommand_help_heading("COMMANDS")
        .subcommand_value_name("COMMAND");
    command.build();
    let mut pages = vec![("renewd.1".to_owned(), main_page(&command)?)];
    for of_command in command.get_subcommands() {
        pages.push((format!("renewd-{}.1", of_command.get_name()), command_page(of_command)?));
    }
    pages.push(("renewd.toml.5".to_owned(), settings::page()?));
    Ok(pages)
}

fn main_page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual(MANUAL);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    exit_status(&mut page)?;
    environment(&mut page)?;
    files(&mut page)?;
    see_also(&mut page, &["renewd.toml(5)", "systemctl(1)", "journalctl(1)", "systemd.exec(5)"])?;
    Ok(page)
}

fn command_page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual(MANUAL).source(concat!("renewd ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if let Some(text) = command.get_after_long_help() {
        format_section(&mut page, &text.to_string())?;
    }
    exit_status(&mut page)?;
    see_also(&mut page, &["renewd(1)", "renewd.toml(5)"])?;
    Ok(page)
}

/// Of a file that a command reads: the first line is its heading, the rest stands as it is written.
fn format_section(page: &mut dyn Write, text: &str) -> io::Result<()> {
    let (heading, format) = text.split_once('\n').unwrap_or((text, ""));
    let mut roff = Roff::default();
    roff.control("SH", [heading.trim_end_matches(':').to_uppercase().as_str()]);
    roff.control("EX", []);
    for line in format.trim().lines() {
        roff.text([roman(line)]);
    }
    roff.control("EE", []);
    roff.to_writer(page)
}

fn exit_status(page: &mut dyn Write) -> io::Result<()> {
    let codes = [
        ("0", "Fine."),
        ("1", "It failed; the reason is on standard error."),
        ("2", "Wrong usage."),
        ("78", "The configuration or the policies are refused. The unit does not restart on it."),
    ];
    definitions(page, "EXIT STATUS", &codes)
}

fn environment(page: &mut dyn Write) -> io::Result<()> {
    let variables = [
        ("RENEWD_CONFIG", "The main configuration file; --config goes before it."),
        ("RENEWD_LOG", "Overrides [log] level of the configuration."),
        (
            "STATE_DIRECTORY",
            "Where the database is if the configuration does not say; systemd sets it for the service.",
        ),
        (
            "CREDENTIALS_DIRECTORY",
            "Where secrets named credential:NAME are; systemd sets it for the service.",
        ),
        ("NO_COLOR", "Set to anything: no colours."),
    ];
    definitions(page, "ENVIRONMENT", &variables)
}

fn files(page: &mut dyn Write) -> io::Result<()> {
    let files = [
        (DEFAULT_CONFIG, "The main configuration, renewd.toml(5)."),
        ("/etc/renewd/policies.d/*.toml", "The policies, read in the order of their names."),
        ("/var/lib/renewd/renewd.db", "The database: what was ordered, for ever."),
    ];
    definitions(page, "FILES", &files)
}

fn definitions(page: &mut dyn Write, heading: &str, entries: &[(&str, &str)]) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", [heading]);
    for (term, text) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
    roff.to_writer(page)
}

fn see_also(page: &mut dyn Write, pages: &[&str]) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
    roff.to_writer(page)
}
