fn main() -> std::process::ExitCode {
    patchlab::cli::main().into()
}
