use std::process::ExitCode;

fn main() -> ExitCode {
    renewd::cli::main()
}
