//! Runs the tools that make images: with a deadline, in a process group of their own, and with the last of what they said.
//!
//! Invariant: when [`run`] returns or is dropped, no process that it started goes on.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::error::ImageError;
use super::progress::Watcher;
use crate::id::Name;

/// How many of the last lines are kept for the error, and how much of each line.
const TAIL_LINES: usize = 25;
const LINE_BYTES: u64 = 4096;
/// How much standard output is kept. A tool that says more is not believed anyway.
const OUTPUT_BYTES: u64 = 1 << 20;
/// How long a tool may take to clean up after itself once it was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// What to run, for which image and why.
pub(super) struct Job<'a> {
    pub image: &'a Name,
    pub doing: &'static str,
    pub limit: Duration,
    pub watcher: &'a Watcher,
}

/// How it ended: standard output, and the last lines of standard error.
pub(super) struct Ended {
    pub status: ExitStatus,
    pub output: Vec<u8>,
    pub tail: String,
}

/// Kills what is left of a process group when it goes out of scope.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _ = killpg(group, signal);
        }
    }

    /// Its leader has ended: so does all that it left running, which else would hold the pipes open.
    fn end(&mut self) {
        self.signal(Signal::SIGKILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Runs a tool to its end. Each line of standard error goes to `line` as it comes.
///
/// # Errors
/// The tool can't be started, the deadline passed, or the work was called off. How it ended is in the answer.
pub(super) async fn run(mut command: Command, job: &Job<'_>, mut line: impl FnMut(&str)) -> Result<Ended, ImageError> {
    let tool = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).env("LC_ALL", "C.UTF-8");
    let mut child = command.spawn().map_err(|source| ImageError::Missing { tool: tool.clone(), source })?;
    // A tool that reads it learns from its end that the lab is gone.
    let _lifeline = child.stdin.take();
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));

    let mut tail = VecDeque::with_capacity(TAIL_LINES);
    let finished = tokio::select! {
        finished = timeout(job.limit, follow(&mut child, &mut group, &mut tail, &mut line)) => finished.map_err(|_| {
            let tail = Vec::from(std::mem::take(&mut tail)).join("\n");
            ImageError::Deadline { image: job.image.clone(), doing: job.doing, tool: tool.clone(), limit: job.limit, tail }
        }),
        () = job.watcher.cancelled() => Err(ImageError::Cancelled(job.image.clone())),
    };
    match finished {
        Ok(Ok((status, output))) => Ok(Ended { status, output, tail: Vec::from(tail).join("\n") }),
        Ok(Err(source)) => Err(ImageError::Missing { tool, source }),
        Err(stopped) => {
            group.signal(Signal::SIGTERM);
            let _ = timeout(GRACE, child.wait()).await;
            Err(stopped)
        }
    }
}

/// As [`run`], and an end other than 0 is an error.
pub(super) async fn run_well(command: Command, job: &Job<'_>, line: impl FnMut(&str)) -> Result<Ended, ImageError> {
    let tool = command.as_std().get_program().to_string_lossy().into_owned();
    let ended = run(command, job, line).await?;
    if ended.status.success() {
        return Ok(ended);
    }
    Err(ImageError::Tool { image: job.image.clone(), doing: job.doing, tool, status: ended.status.to_string(), tail: ended.tail })
}

async fn follow(
    child: &mut Child,
    group: &mut Group,
    tail: &mut VecDeque<String>,
    line: &mut impl FnMut(&str),
) -> Result<(ExitStatus, Vec<u8>), std::io::Error> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = async {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = stdout {
            (&mut pipe).take(OUTPUT_BYTES).read_to_end(&mut bytes).await?;
            tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let errors = async {
        let Some(pipe) = stderr else { return Ok(()) };
        let mut pipe = BufReader::new(pipe);
        while let Some(text) = next_line(&mut pipe).await? {
            line(&text);
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(text);
        }
        Ok::<_, std::io::Error>(())
    };
    let end = async {
        let status = child.wait().await;
        group.end();
        status
    };
    let (status, bytes, ()) = tokio::try_join!(end, output, errors)?;
    Ok((status, bytes))
}

/// The next line without its end, cut at [`LINE_BYTES`], whatever its encoding.
async fn next_line(pipe: &mut BufReader<impl AsyncRead + Unpin>) -> Result<Option<String>, std::io::Error> {
    let mut bytes = Vec::new();
    if pipe.take(LINE_BYTES).read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::images::progress::unwatched;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_lines_and_tail_are_kept() {
        let name = "web".parse().expect("a name");
        let job = Job { image: &name, doing: "testing", limit: Duration::from_secs(20), watcher: &unwatched() };
        let mut lines = 0;
        let ended = run(shell("seq 1 40 >&2; echo done; exit 3"), &job, |_| lines += 1).await.expect("it runs");
        assert_eq!((ended.status.code(), ended.output.as_slice(), lines), (Some(3), &b"done\n"[..], 40));
        assert!(ended.tail.starts_with("16\n") && ended.tail.ends_with("\n40"), "{}", ended.tail);
    }

    #[tokio::test]
    async fn a_deadline_ends_the_whole_group() {
        let name = "web".parse().expect("a name");
        let job = Job { image: &name, doing: "testing", limit: Duration::from_millis(300), watcher: &unwatched() };
        let folder = tempfile::tempdir().expect("a folder");
        let mark = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
        let error = run(shell(&script), &job, |_| ()).await.err().expect("the deadline passes");
        assert!(matches!(error, ImageError::Deadline { .. }), "{error}");
        let pid: i32 = std::fs::read_to_string(mark).expect("a mark").trim().parse().expect("a pid");
        let gone = |()| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            status.is_empty() || status.contains(") Z ")
        };
        for _ in 0..200 {
            if gone(()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {pid} outlived its deadline");
    }

    #[tokio::test]
    async fn a_process_left_behind_does_not_hold_up_the_end() {
        let name = "web".parse().expect("a name");
        let job = Job { image: &name, doing: "testing", limit: Duration::from_secs(20), watcher: &unwatched() };
        let ended = run(shell("sleep 600 & echo started >&2"), &job, |_| ()).await.expect("it runs");
        assert_eq!((ended.status.code(), ended.tail.as_str()), (Some(0), "started"));
    }

    #[tokio::test]
    async fn a_missing_tool_is_named() {
        let name = "web".parse().expect("a name");
        let job = Job { image: &name, doing: "testing", limit: Duration::from_secs(1), watcher: &unwatched() };
        let error = run(Command::new("no-such-tool-here"), &job, |_| ()).await.err().expect("no such tool");
        assert!(error.to_string().contains("no-such-tool-here"));
    }
}
