//! Runs a helper program with a deadline and a cap on what it says, for programs that read bytes someone else made.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use thiserror::Error;

/// What a helper said: its standard output, capped and decoded.
pub(super) type Said = String;

#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("{program} can't be started: {error}")]
    Start { program: String, error: io::Error },
    #[error("{program} did not end within {}s", limit.as_secs())]
    Late { program: String, limit: Duration },
    #[error("{said}")]
    Failed { said: String },
    #[error("{program} said more than {cap} bytes")]
    TooMuch { program: String, cap: u64 },
    #[error("{program}: {error}")]
    Lost { program: String, error: io::Error },
}

/// Runs a command to its end. Standard output is returned up to `cap` bytes, beyond which is trouble; with a cap of zero it is thrown
/// away.
pub(super) fn run(mut command: Command, limit: Duration, cap: u64) -> Result<Said, Trouble> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = if cap == 0 { Stdio::null() } else { Stdio::piped() };
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()).env("LC_ALL", "C.UTF-8");
    let mut child = command.spawn().map_err(|error| Trouble::Start { program: program.clone(), error })?;
    let result = listen(&mut child, &program, limit, cap);
    if matches!(result, Err(Trouble::Late { .. } | Trouble::TooMuch { .. } | Trouble::Lost { .. })) {
        // It may have ended by itself meanwhile, which is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

fn listen(child: &mut Child, program: &str, limit: Duration, cap: u64) -> Result<Said, Trouble> {
    const COMPLAINT: u64 = 64 * 1024;
    let (sender, receiver) = mpsc::channel();
    let mut streams = 0;
    let output = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let complaint = child.stderr.take().map(|pipe| Box::new(pipe) as _);
    for (is_output, pipe, cap) in [(true, output, cap), (false, complaint, COMPLAINT)] {
        if let Some(pipe) = pipe {
            streams += 1;
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let read = pipe.take(cap + 1).read_to_end(&mut bytes).map(|_| bytes);
                // The listener is gone only once it gave up.
                let _ = sender.send((is_output, read));
            });
        }
    }
    let deadline = Instant::now() + limit;
    let late = || Trouble::Late { program: program.to_owned(), limit };
    let lost = |error| Trouble::Lost { program: program.to_owned(), error };
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    for _ in 0..streams {
        let left = deadline.saturating_duration_since(Instant::now());
        let (is_output, bytes) = receiver.recv_timeout(left).map_err(|_| late())?;
        let bytes = bytes.map_err(lost)?;
        if is_output {
            output = bytes;
        } else {
            complaint = bytes;
        }
    }
    if output.len() as u64 > cap {
        return Err(Trouble::TooMuch { program: program.to_owned(), cap });
    }
    let status = child.wait().map_err(lost)?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let said = complaint.lines().map(str::trim).rfind(|line| !line.is_empty());
        return Err(Trouble::Failed { said: said.map_or_else(|| format!("{program} failed: {status}"), str::to_owned) });
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn ends_in_time_and_within_its_cap() {
        let limit = Duration::from_secs(20);
        assert_eq!(run(sh("echo a; echo b >&2"), limit, 100).unwrap(), "a\n");
        assert!(matches!(run(sh("echo no >&2; echo why >&2; exit 3"), limit, 100), Err(Trouble::Failed { said }) if said == "why"));
        assert!(matches!(run(sh("yes"), limit, 100), Err(Trouble::TooMuch { .. })));
        assert!(matches!(run(sh("exec sleep 60"), Duration::from_millis(50), 100), Err(Trouble::Late { .. })));
        assert!(matches!(run(Command::new("/nonexistent"), limit, 100), Err(Trouble::Start { .. })));
        assert_eq!(run(sh("echo a"), limit, 0).unwrap(), "");
    }
}
