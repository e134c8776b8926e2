//! The binary `upcycle`: the command line with the backends and drafters of this workspace.

fn main() -> std::process::ExitCode {
    upcycle_cli::main_with(&upcycle::Registry::builtin())
}
