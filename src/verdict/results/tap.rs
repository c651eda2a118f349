//! TAP 13 and 14 (<https://testanything.org/tap-version-14-specification.html>). Subtests are indented and speak through their
//! parent's line; lines that are not TAP are ignored, as the specification wants.

use std::collections::BTreeSet;

use super::{Reading, last_words, letters, some_of};
use crate::cell::CaseOutcome;

/// Tests kept of one output.
const TESTS: u64 = 100_000;

#[derive(Default)]
struct Stream {
    plan: Option<u64>,
    plan_twice: bool,
    skip_all: Option<String>,
    seen: BTreeSet<u64>,
    wrong_numbers: bool,
    passed: u64,
    skipped: Vec<String>,
    reasons: Vec<String>,
    failed: Vec<String>,
    bail: Option<String>,
}

pub(super) fn read(code: i64, output: &str, truncated: bool) -> Reading {
    let mut stream = Stream::default();
    for line in output.lines() {
        if stream.bail.is_some() {
            break;
        }
        stream.line(line.trim_end());
    }
    stream.judge(code, output, truncated)
}

impl Stream {
    fn line(&mut self, line: &str) {
        if let Some(reason) = line.strip_prefix("Bail out!") {
            self.bail = Some(reason.trim().to_owned());
        } else if let Some(plan) = line.strip_prefix("1..") {
            self.plan(plan);
        } else if let Some(rest) = line.strip_prefix("not ok") {
            self.test(false, rest);
        } else if let Some(rest) = line.strip_prefix("ok") {
            self.test(true, rest);
        }
    }

    fn plan(&mut self, text: &str) {
        let (count, directive) = directive(text);
        let Ok(count) = count.trim().parse::<u64>() else { return };
        self.plan_twice |= self.plan.is_some();
        self.plan = Some(count);
        if let (0, Some(Directive::Skip(reason))) = (count, directive) {
            self.skip_all = Some(reason);
        }
    }

    fn test(&mut self, ok: bool, rest: &str) {
        // "okay" is not a test line.
        if !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
            return;
        }
        let (text, directive) = directive(rest);
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let next = self.seen.last().copied().unwrap_or(0).saturating_add(1);
        let number = text[..digits].parse().unwrap_or(next);
        if self.seen.len() as u64 >= TESTS || number == 0 || !self.seen.insert(number) {
            self.wrong_numbers = true;
        }
        let name = text[digits..].trim().trim_start_matches("- ").trim();
        let name = if name.is_empty() { format!("test {}", letters(i64::try_from(number).unwrap_or(0))) } else { name.to_owned() };
        match (ok, directive) {
            (_, Some(Directive::Skip(reason))) => {
                self.reasons.push(if reason.is_empty() { name.clone() } else { format!("{name}: {reason}") });
                self.skipped.push(name);
            }
            (true, _) | (false, Some(Directive::Todo)) => self.passed += 1,
            (false, None) => self.failed.push(name),
        }
    }

    fn judge(mut self, code: i64, output: &str, truncated: bool) -> Reading {
        self.failed.sort();
        if let Some(reason) = self.bail {
            return Reading::new(CaseOutcome::Fail, format!("bailed out: {reason}")).with_essence(vec!["bail".to_owned(), reason]);
        }
        if !self.failed.is_empty() {
            let message = format!("{} of {} failed: {}", self.failed.len(), self.seen.len(), some_of(&self.failed));
            return Reading::new(CaseOutcome::Fail, message).with_essence(self.failed);
        }
        if code == 77 && self.seen.is_empty() {
            return Reading::new(CaseOutcome::Skip, super::last_line(output).unwrap_or("the script says that it does not apply here"));
        }
        let lost = if truncated { " (its output was longer than what is kept)" } else { "" };
        let ran = self.seen.len() as u64;
        let mismatch = match self.plan {
            None => Some(format!("there is no test plan in its output{lost}")),
            Some(_) if self.plan_twice => Some("its output has more than one test plan".to_owned()),
            Some(plan) if plan != ran => Some(format!("{plan} tests were planned and {ran} ran{lost}")),
            Some(plan) if self.wrong_numbers || self.seen.last().is_some_and(|last| *last > plan) => {
                Some("its tests are numbered wrongly".to_owned())
            }
            Some(_) => None,
        };
        match mismatch {
            // What the lab did not keep says nothing; the exit code still does.
            Some(message) if truncated && code == 0 => Reading::new(CaseOutcome::HarnessError, message),
            Some(message) => Reading::new(
                CaseOutcome::Fail,
                format!("{message}{}", if code == 0 { String::new() } else { format!("; exit code {code}{}", last_words(output)) }),
            ),
            None if code != 0 => {
                Reading::new(CaseOutcome::Fail, format!("every test is ok, but the exit code is {code}{}", last_words(output)))
            }
            None => match (self.plan, self.skip_all) {
                (Some(0), Some(reason)) => {
                    Reading::new(CaseOutcome::Skip, if reason.is_empty() { "all of it is skipped".to_owned() } else { reason })
                }
                (Some(0), None) => Reading::new(CaseOutcome::HarnessError, "its test plan is empty and it gives no reason"),
                _ if self.passed == 0 => Reading::new(CaseOutcome::Skip, format!("every test is skipped: {}", some_of(&self.reasons))),
                _ => Reading::new(CaseOutcome::Pass, "").with_skipped(self.skipped),
            },
        }
    }
}

enum Directive {
    Skip(String),
    Todo,
}

/// Text before ` # `, and what the directive there says. A `#` after a backslash is part of the text.
fn directive(text: &str) -> (&str, Option<Directive>) {
    let bytes = text.as_bytes();
    let at = (0..bytes.len()).find(|&at| bytes[at] == b'#' && (at == 0 || bytes[at - 1] != b'\\'));
    let Some(at) = at else { return (text, None) };
    let (before, after) = (&text[..at], text[at + 1..].trim());
    let word = after.split_whitespace().next().unwrap_or_default();
    let upper = word.to_ascii_uppercase();
    if upper.starts_with("SKIP") {
        (before, Some(Directive::Skip(after[word.len()..].trim().to_owned())))
    } else if upper == "TODO" {
        (before, Some(Directive::Todo))
    } else {
        (text, None)
    }
}
