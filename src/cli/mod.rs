//! The command line: one file a verb. Here alone the parts are put together.

pub mod args;
mod attest;
mod audit;
mod bars;
mod bundle;
mod check;
mod client;
mod context;
mod doctor;
mod error;
mod evidence;
mod gate;
mod gc;
mod hardware;
mod host;
mod image;
mod interrupt;
mod key;
mod lenient;
mod output;
mod patch;
mod person;
mod progress;
mod remote;
mod run;
mod serve;
mod shell;
mod show;
mod sim;
mod suite;
mod token;
mod verify;
mod whereabouts;
mod word;

use std::io::Write;

use clap::{CommandFactory, Parser};

use args::{Cli, Verb};
use context::Target;
use error::{Exit, Failure};

/// Runs one command line and returns its exit code.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.code() } else { Exit::Pass.code() };
        }
    };
    log();
    let opens = matches!(cli.verb, Verb::Run(_) | Verb::Serve(_) | Verb::Shell(_) | Verb::Release(_) | Verb::Gc(_) | Verb::Doctor(_));
    if opens && !Target::of(cli.hypervisor.as_deref()).is_sim() && cli.lab.is_dir() {
        crate::hypervisor::libvirt::quiet(&cli.state_folder());
    }
    // Images are made by real tools, which take real time; so do the server's clients, and who waits at the gate waits for others. The
    // server sees to the simulator's time itself.
    let virtual_time =
        Target::of(cli.hypervisor.as_deref()).is_virtual() && !matches!(cli.verb, Verb::Image(_) | Verb::Serve(_) | Verb::Gate(_));
    let runtime = match runtime(virtual_time) {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("could not start: {error}"));
            return Exit::Inconclusive.code();
        }
    };
    let ended = runtime.block_on(dispatch(&cli));
    // A hypervisor call that hangs must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match ended {
        Ok(exit) => exit.code(),
        Err(Failure { exit, message }) => {
            say(message);
            exit.code()
        }
    }
}

/// The simulator's time is virtual: it jumps to the next timer when nothing else is to do.
fn runtime(virtual_time: bool) -> std::io::Result<tokio::runtime::Runtime> {
    if virtual_time {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    }
}

/// Logs to standard error what `PATCHLAB_LOG` asks for (a `tracing` filter such as `patchlab=info`); nothing by default.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PATCHLAB_LOG").unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

async fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    let context = || context::open(cli);
    match &cli.verb {
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "patchlab", &mut text);
            print(&String::from_utf8_lossy(&text))?;
            Ok(Exit::Pass)
        }
        Verb::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            print(&String::from_utf8_lossy(&text))?;
            Ok(Exit::Pass)
        }
        Verb::Check(verb) => check::check(&cli.lab, verb),
        Verb::Hardware(verb) => hardware::hardware(&cli.lab, verb),
        Verb::Verify(verb) => verify::verify(verb),
        Verb::Serve(verb) => serve::serve(context()?, verb).await,
        Verb::Cancel(verb) => remote::cancel(&context()?, verb),
        Verb::Pause(verb) => host::pause(&context()?, verb),
        Verb::Drain(verb) => host::drain(&context()?, verb),
        Verb::Resume(verb) => host::resume(&context()?, verb),
        Verb::Token(verb) => token::token(&context()?, verb),
        Verb::Doctor(answer) => doctor::doctor(&context()?, answer).await,
        Verb::Image(verb) => image::image(&context()?, verb).await,
        Verb::Patch(verb) => patch::patch(&context()?, verb).await,
        Verb::Suite(verb) => suite::suite(&context()?, verb),
        Verb::Plan(verb) => run::show_plan(&context()?, verb).await,
        Verb::Run(verb) => run::run(&context()?, verb).await,
        Verb::Runs(answer) => show::runs(&context()?, answer).await,
        Verb::Show(verb) => show::show(&context()?, verb).await,
        Verb::Report(verb) => show::report(&context()?, verb).await,
        Verb::Gate(verb) => gate::gate(&context()?, verb).await,
        Verb::Waive(verb) => gate::waive(&context()?, verb).await,
        Verb::Waivers(verb) => gate::waivers(&context()?, verb).await,
        Verb::Approve(verb) => gate::approve(&context()?, verb).await,
        Verb::Reject(verb) => gate::reject(&context()?, verb).await,
        Verb::Revoke(verb) => gate::revoke(&context()?, verb).await,
        Verb::Attest(verb) => attest::attest(&context()?, verb).await,
        Verb::Evidence(verb) => evidence::evidence(&context()?, verb).await,
        Verb::Key(verb) => key::key(&context()?, verb),
        Verb::Shell(verb) => shell::shell(&context()?, verb).await,
        Verb::Release(verb) => shell::release(&context()?, verb).await,
        Verb::Gc(verb) => gc::gc(&context()?, verb).await,
        Verb::Audit(verb) => audit::audit(&context()?, verb).await,
    }
}

/// Tells the person something on standard error. One who does not listen is no error.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a result. A reader that went away is no error.
fn print(text: &str) -> Result<(), Failure> {
    print_to(std::io::stdout(), text)
}

/// Prints a result with the terminal's codes for its styling, where the terminal and `NO_COLOR` allow them.
fn print_ansi(text: &str) -> Result<(), Failure> {
    print_to(anstream::stdout(), text)
}

fn print_to(mut output: impl Write, text: &str) -> Result<(), Failure> {
    match output.write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::lab(format!("could not print the result: {error}"))),
        _ => Ok(()),
    }
}
