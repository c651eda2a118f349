//! What a case script's end means: exit code, TAP or JUnit file to an outcome.
//!
//! Invariant: every byte comes from a hostile guest. Whatever they are, this ends, keeps little, and calls nothing a pass that did not
//! say so in the form that its suite declares.

pub mod autopkgtest;
mod junit;
mod tap;

use crate::catalog::suite::ResultForm;
use crate::cell::CaseOutcome;
use crate::id::Digest;

use super::compare::SKIPPED;
use super::fold::{fingerprint, fold};

/// Characters of a message.
const MESSAGE: usize = 400;
/// Characters of a skipped test's name.
const SKIPPED_NAME: usize = 160;
/// Bytes of a detail: the end of the output is kept.
const DETAIL: usize = 24 * 1024;

/// How a case's script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    Exit(i64),
    Signal(i64),
    TimedOut,
    /// It waited for an answer on a terminal.
    Asked,
    /// A command that it needs is not there.
    Lacks(String),
}

/// What a case's script left.
#[derive(Clone, Copy, Debug)]
pub struct ScriptReport<'a> {
    pub end: &'a ScriptEnd,
    pub output: &'a [u8],
    /// Whether bytes of the output were dropped.
    pub truncated: bool,
    /// The file at `$PATCHLAB_RESULT`, if there is one.
    pub result: Option<&'a [u8]>,
}

/// What a case gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    pub outcome: CaseOutcome,
    /// One line: why it is not a pass.
    pub message: String,
    /// Its output, where it is not a pass. Guest text, capped.
    pub detail: String,
    /// Equal for failures that differ only in numbers, addresses and times.
    pub fingerprint: Option<Digest>,
    /// Where it passed: its own tests that it skipped, folded and sorted.
    pub skipped: Vec<String>,
}

/// A failure as its parts: sorted names of failed tests with their messages, or the last words of a script.
struct Reading {
    outcome: CaseOutcome,
    message: String,
    /// What makes this failure this failure.
    essence: Vec<String>,
    /// Names of the tests that were skipped.
    skipped: Vec<String>,
}

impl Reading {
    fn new(outcome: CaseOutcome, message: impl Into<String>) -> Self {
        Self { outcome, message: message.into(), essence: Vec::new(), skipped: Vec::new() }
    }

    fn with_essence(mut self, essence: Vec<String>) -> Self {
        self.essence = essence;
        self
    }

    fn with_skipped(mut self, skipped: Vec<String>) -> Self {
        self.skipped = skipped;
        self
    }
}

/// What a case's script found.
pub fn read(form: ResultForm, report: &ScriptReport<'_>) -> CaseResult {
    let output = String::from_utf8_lossy(report.output);
    let reading = match report.end {
        ScriptEnd::TimedOut => Reading::new(CaseOutcome::TimedOut, "did not end within its time limit"),
        ScriptEnd::Asked => Reading::new(CaseOutcome::Fail, format!("waited for an answer on its terminal{}", last_words(&output))),
        ScriptEnd::Lacks(command) => Reading::new(CaseOutcome::Skip, format!("needs {command}, which this machine does not have")),
        ScriptEnd::Signal(signal) => Reading::new(CaseOutcome::Fail, format!("ended by signal {signal}{}", last_words(&output)))
            .with_essence(vec![format!("signal-{}", letters(*signal))]),
        ScriptEnd::Exit(99) => Reading::new(
            CaseOutcome::HarnessError,
            format!("the script says that its own harness failed (exit code 99){}", last_words(&output)),
        ),
        ScriptEnd::Exit(code) => match form {
            ResultForm::Exit => exit(*code, &output),
            ResultForm::Tap => tap::read(*code, &output, report.truncated),
            ResultForm::Junit => junit::read(*code, report.result, &output),
        },
    };
    conclude(reading, &output)
}

fn conclude(reading: Reading, output: &str) -> CaseResult {
    let message = one_line(&reading.message);
    let failed = matches!(reading.outcome, CaseOutcome::Fail | CaseOutcome::TimedOut);
    let essence = if reading.essence.is_empty() { vec![message.clone()] } else { reading.essence };
    let mut skipped: Vec<String> = reading.skipped.iter().map(|name| fold(&one_line(name)).chars().take(SKIPPED_NAME).collect()).collect();
    skipped.sort();
    skipped.truncate(SKIPPED);
    CaseResult {
        outcome: reading.outcome,
        skipped,
        fingerprint: failed.then(|| fingerprint(essence.iter().map(String::as_str))),
        detail: if reading.outcome == CaseOutcome::Pass { String::new() } else { tail(output) },
        message,
    }
}

fn exit(code: i64, output: &str) -> Reading {
    match code {
        0 => Reading::new(CaseOutcome::Pass, ""),
        77 => Reading::new(CaseOutcome::Skip, last_line(output).unwrap_or("the script says that it does not apply here")),
        code => Reading::new(CaseOutcome::Fail, format!("exit code {code}{}", last_words(output)))
            .with_essence(vec![format!("exit-{}", letters(code)), last_line(output).unwrap_or_default().to_owned()]),
    }
}

/// A number as letters, so that folding leaves it alone: exit code 1 and 2 are two failures.
fn letters(number: i64) -> String {
    number.to_string().chars().map(|c| c.to_digit(10).map_or('-', |digit| (b'a' + digit as u8) as char)).collect()
}

fn last_line(output: &str) -> Option<&str> {
    output.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

fn last_words(output: &str) -> String {
    last_line(output).map(|line| format!(": {line}")).unwrap_or_default()
}

/// Made fit for one line: control characters become blanks.
fn one_line(text: &str) -> String {
    text.chars().take(MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

fn tail(output: &str) -> String {
    let mut start = output.len().saturating_sub(DETAIL);
    while !output.is_char_boundary(start) {
        start += 1;
    }
    if start == 0 { output.to_owned() } else { format!("[{start} bytes before this are left out]\n{}", &output[start..]) }
}

/// "a", "a and b", "a, b and 3 more".
pub(super) fn some_of<T: std::fmt::Display>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.to_string(),
        [one, two] => format!("{one} and {two}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests;
