//! The log that the job runner writes in the guest, read piece by piece. Pure.
//!
//! `patchlab-job 1 PID START` · `step N` · `end N KIND VALUE MS HEAD TAIL TRUNCATED RESULT` and that many bytes, newline · `done`.
//! A patch may have written it instead: every number is bounded, and what does not fit is an error, never a guess.

use std::time::Duration;

use crate::guest::{JobState, StepEnd, StepReport};

/// Bytes that a log may have altogether. Two times the outputs of a job fit, and more than the guest's tmpfs does not.
pub const LOG_CAP: usize = 32 << 20;

/// Bytes of one line.
const LINE_CAP: usize = 256;

/// Steps that a job may have when nobody here knows how many it has.
const STEPS_CAP: usize = 10_000;

/// The runner's process in the guest: a number, and when it started, for numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runner {
    pub pid: u32,
    pub started: u64,
}

/// How far the log of a job was read.
#[derive(Debug, Default)]
pub struct JobLog {
    /// Steps of the job, where it was started from here.
    pub expected: Option<usize>,
    /// Bytes understood so far: reading goes on here.
    pub offset: u64,
    pub runner: Option<Runner>,
    at: usize,
    reports: Vec<StepReport>,
    done: bool,
}

enum Entry {
    Header(Runner),
    Step(usize),
    End(usize, StepReport),
    Done,
}

impl JobLog {
    pub fn new(expected: usize) -> Self {
        Self { expected: Some(expected), ..Self::default() }
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    pub fn state(&self) -> JobState {
        if self.done {
            JobState::Ended { steps: self.reports.clone() }
        } else {
            JobState::Running { at: self.at, finished: self.reports.clone() }
        }
    }

    /// Takes the bytes from [`Self::offset`] on, as many as make whole entries.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !self.done {
            let Some((entry, used)) = next_entry(bytes)? else {
                return Ok(());
            };
            self.take(entry)?;
            self.offset += used as u64;
            if self.offset > LOG_CAP as u64 {
                return Err(format!("the job's log is longer than {LOG_CAP} bytes"));
            }
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry) -> Result<(), String> {
        let steps = self.expected.unwrap_or(STEPS_CAP);
        match entry {
            Entry::Header(runner) if self.runner.is_none() => self.runner = Some(runner),
            Entry::Header(_) => return Err(String::from("the job's log has a second header")),
            _ if self.runner.is_none() => return Err(String::from("the job's log has no header")),
            Entry::Step(at) if at == self.reports.len() && at < steps => self.at = at,
            Entry::Step(at) => return Err(format!("the job's log has step {at} after {} of {steps}", self.reports.len())),
            Entry::End(at, report) if at == self.reports.len() && at == self.at && at < steps => self.reports.push(report),
            Entry::End(at, _) => return Err(format!("the job's log ends step {at} after {} of {steps}", self.reports.len())),
            Entry::Done if self.expected.is_none_or(|expected| expected == self.reports.len()) => self.done = true,
            Entry::Done => return Err(format!("the job's log is done after {} of {steps} steps", self.reports.len())),
        }
        Ok(())
    }
}

/// The entry at the start of the bytes and its length, or nothing when it isn't whole yet.
fn next_entry(bytes: &[u8]) -> Result<Option<(Entry, usize)>, String> {
    let Some(end) = bytes.iter().take(LINE_CAP).position(|byte| *byte == b'\n') else {
        if bytes.len() >= LINE_CAP {
            return Err(String::from("the job's log has a line without end"));
        }
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&bytes[..end]);
    let nonsense = || format!("the job's log says {line:?}");
    let words: Vec<&str> = line.split(' ').collect();
    let entry = match words[..] {
        ["patchlab-job", "1", pid, started] => {
            let runner = Runner { pid: number(pid).ok_or_else(nonsense)?, started: number(started).ok_or_else(nonsense)? };
            Entry::Header(runner)
        }
        ["step", at] => Entry::Step(number(at).ok_or_else(nonsense)?),
        ["end", at, kind, value, elapsed, head, tail, truncated, result] => {
            let length = |word| number::<usize>(word).filter(|length| *length <= LOG_CAP).ok_or_else(nonsense);
            let at = number(at).ok_or_else(nonsense)?;
            let value: i64 = number(value).ok_or_else(nonsense)?;
            let elapsed = Duration::from_millis(number(elapsed).ok_or_else(nonsense)?);
            let output = end + 1 + length(head)? + length(tail)?;
            let last = if result == "-" { output } else { output + length(result)? };
            match bytes.get(last) {
                None => return Ok(None),
                Some(b'\n') => {}
                Some(_) => return Err(format!("{}, but other bytes than that follow", nonsense())),
            }
            let output_bytes = bytes[end + 1..output].to_vec();
            let end = match kind {
                "exit" => StepEnd::Exit(value),
                "signal" => StepEnd::Signal(value),
                "timed-out" => StepEnd::TimedOut,
                "asked" => StepEnd::Asked,
                "lacks" => StepEnd::Lacks(String::from_utf8_lossy(&output_bytes).into_owned()),
                _ => return Err(nonsense()),
            };
            let lacks = matches!(end, StepEnd::Lacks(_));
            let report = StepReport {
                end,
                elapsed,
                output: if lacks { Vec::new() } else { output_bytes },
                truncated: truncated == "1",
                result: (result != "-").then(|| bytes[output..last].to_vec()),
            };
            return Ok(Some((Entry::End(at, report), last + 1)));
        }
        ["done"] => Entry::Done,
        _ => return Err(nonsense()),
    };
    Ok(Some((entry, end + 1)))
}

fn number<T: std::str::FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_log_of_any_bytes_is_read_without_harm(bytes: Vec<u8>, words in "(end|step|done|patchlab-job)( [0-9a-z-]{1,20}){0,9}\n") {
            let mut log = JobLog::default();
            let _ = log.feed(&[b"patchlab-job 1 1 1\nstep 0\n".as_slice(), words.as_bytes(), &bytes].concat());
            let _ = log.state();
        }

        #[test]
        fn a_log_says_the_same_in_pieces(output: Vec<u8>, cut in 0usize..200) {
            let head = format!("patchlab-job 1 1 1\nstep 0\nend 0 exit 0 5 {} 0 0 -\n", output.len());
            let whole = [head.as_bytes(), &output, b"\ndone\n"].concat();
            let mut log = JobLog::default();
            log.feed(&whole[..cut.min(whole.len())]).unwrap();
            log.feed(&whole[log.offset as usize..]).unwrap();
            let mut at_once = JobLog::default();
            at_once.feed(&whole).unwrap();
            prop_assert!(log.is_done());
            prop_assert_eq!(log.state(), at_once.state());
        }
    }
}
