//! The `dsv4` command: the shell of the library.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
