//! What the reports of a patch's steps mean, with the actual cause named. Pure.

use super::apply::PatchSteps;
use crate::cell::{Cause, Trouble};
use crate::guest::{JobStep, StepEnd, StepReport};

/// The exit codes of the lab's own scripts (`common.sh`).
const NOT_APPLICABLE: i64 = 64;
const UNDECLARED_REMOVALS: i64 = 65;
const NOT_EFFECTIVE: i64 = 66;
const CANNOT: i64 = 67;

/// How `common.sh` begins to say that a vendor's command was not even started.
const NO_PAYLOAD: &str = "the payload cannot be copied";

/// How lines of dpkg's own begin.
const DPKGS: [&str; 8] =
    ["Setting up ", "Preparing to unpack ", "Unpacking ", "Selecting ", "Removing ", "Processing triggers ", "(Reading database", "dpkg: "];

/// Bytes of output that a trouble shows.
const DETAIL: usize = 8 * 1024;
/// Characters of a message's quotation.
const WORDS: usize = 300;

/// Whether the patch fits this build.
///
/// # Errors
/// With the reason why it does not.
pub fn preflight(reports: &[StepReport]) -> Result<(), Trouble> {
    each(reports, |report| {
        let said = last_words(report);
        match &report.end {
            StepEnd::Exit(0) => Ok(()),
            StepEnd::Exit(NOT_APPLICABLE) => {
                Err(trouble(Cause::NotApplicable, format!("the patch does not apply to this build: {said}"), report))
            }
            StepEnd::Exit(UNDECLARED_REMOVALS) => {
                Err(trouble(Cause::UndeclaredRemovals, format!("{said}, which the manifest's `removes` does not name"), report))
            }
            StepEnd::Lacks(command) => {
                Err(trouble(Cause::NotApplicable, format!("the patch does not apply to this build: it has no {command}"), report))
            }
            StepEnd::Exit(CANNOT) => {
                Err(trouble(full(report).unwrap_or(Cause::ProbeFailed), format!("the check before applying could not run: {said}"), report))
            }
            StepEnd::Exit(exit) => Err(trouble(Cause::ApplyFailed { exit: *exit }, format!("the patch can't be applied: {said}"), report)),
            end => Err(trouble(Cause::ProbeFailed, format!("the check before applying {}", ended(end)), report)),
        }
    })
}

/// Whether the machine joined its network.
///
/// # Errors
/// With what kept it from that.
pub fn network(reports: &[StepReport]) -> Result<(), Trouble> {
    among_peers(reports, Cause::ProbeFailed, "the machine could not join its network")
}

/// Whether the machine became what its peers wait for within so many seconds.
///
/// # Errors
/// With what is missing.
pub fn ready(reports: &[StepReport], seconds: u64) -> Result<(), Trouble> {
    among_peers(reports, Cause::NotReady, &format!("the machine came up and was not ready for its peers within {seconds} s; missing"))
}

fn among_peers(reports: &[StepReport], cause: Cause, message: &str) -> Result<(), Trouble> {
    each(reports, |report| match report.end {
        StepEnd::Exit(0) => Ok(()),
        _ => Err(trouble(full(report).unwrap_or_else(|| cause.clone()), format!("{message}: {}", last_words(report)), report)),
    })
}

/// Whether applying went well.
///
/// # Errors
/// With what went wrong.
pub fn apply(reports: &[StepReport]) -> Result<(), Trouble> {
    each(reports, applied)
}

/// Whether the patch did what it is for, as the machine's state shows.
///
/// # Errors
/// With what is missing.
pub fn confirm(steps: &PatchSteps, reports: &[StepReport]) -> Result<(), Trouble> {
    for (step, report) in steps.confirm.iter().zip(reports) {
        let who = if is_vendors(step) { "the patch's own verify" } else { "the confirmation" };
        if report.end == StepEnd::Exit(0) {
            continue;
        }
        let said = last_words(report);
        let message = match &report.end {
            StepEnd::Exit(CANNOT) if said.starts_with(NO_PAYLOAD) => format!("{who} could not be started: {said}"),
            StepEnd::Exit(NOT_EFFECTIVE) if !is_vendors(step) => format!("the patch is not effective: {said}"),
            StepEnd::Exit(exit) => format!("{who} ended with exit code {exit}: {said}"),
            end => format!("{who} {}: {said}", ended(end)),
        };
        return Err(trouble(Cause::NotEffective, message, report));
    }
    missing(steps.confirm.len(), reports, "confirmation")
}

/// Why the guest wants a reboot; none when it does not.
///
/// # Errors
/// When the question could not be put.
pub fn reboot_reasons(reports: &[StepReport]) -> Result<Vec<String>, Trouble> {
    let Some(report) = reports.first() else {
        return Err(Trouble::new(Cause::ProbeFailed, "the guest was not asked whether it wants a reboot"));
    };
    if report.end != StepEnd::Exit(0) {
        return Err(trouble(Cause::ProbeFailed, format!("asking the guest whether it wants a reboot {}", ended(&report.end)), report));
    }
    let text = String::from_utf8_lossy(&report.output);
    Ok(text.lines().filter_map(|line| line.strip_prefix("reboot: ")).take(50).map(one_line).collect())
}

/// Whether applying again went well. That it changed nothing is for the health checks to say.
///
/// # Errors
/// With what went wrong.
pub fn reapply(reports: &[StepReport]) -> Result<(), Trouble> {
    each(reports, applied).map_err(|trouble| again(trouble, Cause::NotIdempotent, "applied a second time"))
}

/// Whether taking back went well. That nothing is left behind is for the health checks to say.
///
/// # Errors
/// With what went wrong.
pub fn rollback(reports: &[StepReport]) -> Result<(), Trouble> {
    each(reports, applied).map_err(|trouble| again(trouble, Cause::RollbackFailed, "taken back"))
}

/// The same trouble, seen as what it is in its stage.
fn again(trouble: Trouble, cause: Cause, tried: &str) -> Trouble {
    let message = trouble.message.replacen("applying", &format!("when {tried}, the patch"), 1);
    Trouble { cause, message, ..trouble }
}

fn applied(report: &StepReport) -> Result<(), Trouble> {
    let said = last_words(report);
    match &report.end {
        StepEnd::Exit(0) => Ok(()),
        StepEnd::Exit(exit) => match full(report) {
            Some(cause) => Err(trouble(cause, format!("applying filled the guest's disk (exit code {exit}): {said}"), report)),
            None => Err(trouble(
                Cause::ApplyFailed { exit: *exit },
                match culprit(report) {
                    None if *exit == CANNOT && said.starts_with(NO_PAYLOAD) => format!("applying could not begin: {said}"),
                    culprit => format!("applying ended with exit code {exit}: {}", culprit.unwrap_or(said)),
                },
                report,
            )),
        },
        StepEnd::Signal(signal) => Err(trouble(
            Cause::ApplyFailed { exit: 128 + signal.clamp(&0, &127) },
            format!("applying was ended by signal {signal}: {said}"),
            report,
        )),
        StepEnd::TimedOut => Err(trouble(
            Cause::ApplyTimedOut,
            format!("applying did not end within the manifest's timeout; its last words: {said}"),
            report,
        )),
        StepEnd::Asked => Err(trouble(Cause::ApplyAsked, format!("applying waits for an answer on its terminal: {said}"), report)),
        StepEnd::Lacks(command) => {
            Err(trouble(Cause::NotApplicable, format!("applying needs {command}, which this build does not have"), report))
        }
    }
}

fn each(reports: &[StepReport], judge: impl Fn(&StepReport) -> Result<(), Trouble>) -> Result<(), Trouble> {
    reports.iter().try_for_each(judge)
}

fn missing(steps: usize, reports: &[StepReport], what: &str) -> Result<(), Trouble> {
    if reports.len() < steps {
        return Err(Trouble::new(Cause::ProbeFailed, format!("{} of {steps} steps of the {what} gave a report", reports.len())));
    }
    Ok(())
}

fn is_vendors(step: &JobStep) -> bool {
    step.terminal
}

fn ended(end: &StepEnd) -> String {
    match end {
        StepEnd::Exit(code) => format!("ended with exit code {code}"),
        StepEnd::Signal(signal) => format!("was ended by signal {signal}"),
        StepEnd::TimedOut => "did not end in time".to_owned(),
        StepEnd::Asked => "waits for an answer on its terminal".to_owned(),
        StepEnd::Lacks(command) => format!("needs {command}, which this build does not have"),
    }
}

/// The guest's disk, when the output says that it is full.
fn full(report: &StepReport) -> Option<Cause> {
    let text = String::from_utf8_lossy(&report.output);
    let words = ["No space left on device", "Disk quota exceeded", "You don't have enough free space"];
    words.iter().any(|word| text.contains(word)).then_some(Cause::GuestDiskFull)
}

/// The package that dpkg or apt blames, with its reason.
fn culprit(report: &StepReport) -> Option<String> {
    let text = String::from_utf8_lossy(&report.output);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.starts_with("dpkg: error processing"))?;
    let blamed = lines[at].trim_start_matches("dpkg: error ");
    let reason = lines.get(at + 1).copied().unwrap_or_default();
    // Its maintainer script's own last words, where it had any.
    let words = lines[..at].last().filter(|line| !line.is_empty() && !DPKGS.iter().any(|start| line.starts_with(start)));
    Some(one_line(&match words {
        Some(words) => format!("{blamed} {reason}; it said: {words}"),
        None => format!("{blamed} {reason}"),
    }))
}

fn trouble(cause: Cause, message: String, report: &StepReport) -> Trouble {
    let text = String::from_utf8_lossy(&report.output);
    let mut start = text.len().saturating_sub(DETAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    Trouble::new(cause, message).with_detail(&text[start..])
}

/// The last line that says something.
fn last_words(report: &StepReport) -> String {
    let text = String::from_utf8_lossy(&report.output);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map_or_else(|| "(it said nothing)".to_owned(), one_line)
}

fn one_line(text: &str) -> String {
    text.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guest::linux::apply::steps;
    use crate::plan::examples::planned;

    fn report(end: StepEnd, output: &str) -> StepReport {
        StepReport { end, elapsed: Duration::ZERO, output: output.into(), truncated: false, result: None }
    }

    #[test]
    fn the_cause_is_named() {
        let dpkg = "Setting up x\ndpkg: error processing package nginx (--configure):\n installed nginx package post-installation script returned error exit status 1\nE: Sub-process returned an error code\n";
        for (end, output, cause, message) in [
            (StepEnd::Exit(3), "a\nconfig missing\n\n", Cause::ApplyFailed { exit: 3 }, "applying ended with exit code 3: config missing"),
            (StepEnd::Exit(3), "", Cause::ApplyFailed { exit: 3 }, "applying ended with exit code 3: (it said nothing)"),
            (
                StepEnd::Exit(100),
                dpkg,
                Cause::ApplyFailed { exit: 100 },
                "applying ended with exit code 100: processing package nginx (--configure): installed nginx package post-installation script returned error exit status 1",
            ),
            (
                StepEnd::Exit(100),
                "Setting up x\nacme: table customers is locked\ndpkg: error processing package x (--configure):\n exit status 1\n",
                Cause::ApplyFailed { exit: 100 },
                "applying ended with exit code 100: processing package x (--configure): exit status 1; it said: acme: table customers is locked",
            ),
            (
                StepEnd::Exit(CANNOT),
                "the payload cannot be copied to /x: rm: Read-only file system",
                Cause::ApplyFailed { exit: CANNOT },
                "applying could not begin: the payload cannot be copied to /x: rm: Read-only file system",
            ),
            (
                StepEnd::Exit(1),
                "cp: x: No space left on device",
                Cause::GuestDiskFull,
                "applying filled the guest's disk (exit code 1): cp: x: No space left on device",
            ),
            (StepEnd::Signal(9), "x", Cause::ApplyFailed { exit: 137 }, "applying was ended by signal 9: x"),
            (
                StepEnd::TimedOut,
                "waiting",
                Cause::ApplyTimedOut,
                "applying did not end within the manifest's timeout; its last words: waiting",
            ),
            (StepEnd::Asked, "Accept? [y/N]", Cause::ApplyAsked, "applying waits for an answer on its terminal: Accept? [y/N]"),
        ] {
            let trouble = apply(&[report(end, output)]).expect_err("a trouble");
            assert_eq!((trouble.cause, trouble.message.as_str()), (cause, message));
        }
        assert_eq!(apply(&[report(StepEnd::Exit(0), "No space left on device")]), Ok(()));
    }

    #[test]
    fn the_preflight_tells_unfit_from_broken() {
        for (end, output, code) in [
            (StepEnd::Exit(64), "none installed", "not-applicable"),
            (StepEnd::Lacks("patch".to_owned()), "", "not-applicable"),
            (StepEnd::Exit(65), "installing it would remove vim", "undeclared-removals"),
            (StepEnd::Exit(1), "apt-get refuses: E: broken", "apply-failed"),
            (StepEnd::Exit(67), "cannot write", "probe-failed"),
            (StepEnd::Exit(67), "No space left on device", "guest-disk-full"),
            (StepEnd::TimedOut, "", "probe-failed"),
        ] {
            assert_eq!(preflight(&[report(end, output)]).expect_err("a trouble").cause.code(), code, "{output}");
        }
        assert_eq!(preflight(&[]), Ok(()));
    }

    #[test]
    fn confirmation_needs_every_word() {
        let steps = steps(&planned("files"));
        assert_eq!(confirm(&steps, &[report(StepEnd::Exit(0), "")]), Ok(()));
        assert_eq!(confirm(&steps, &[]).expect_err("nothing was heard").cause, Cause::ProbeFailed);
        let trouble =
            confirm(&steps, &[report(StepEnd::Exit(66), "/etc/motd does not have the patch's contents")]).expect_err("not effective");
        assert_eq!(trouble.cause, Cause::NotEffective);
        assert_eq!(trouble.message, "the patch is not effective: /etc/motd does not have the patch's contents");
    }

    #[test]
    fn a_second_application_and_a_rollback_have_their_own_causes() {
        let failed = [report(StepEnd::Exit(1), "File exists")];
        let trouble = reapply(&failed).expect_err("a trouble");
        assert_eq!(
            (trouble.cause, trouble.message.as_str()),
            (Cause::NotIdempotent, "when applied a second time, the patch ended with exit code 1: File exists")
        );
        let trouble = rollback(&failed).expect_err("a trouble");
        assert_eq!(
            (trouble.cause, trouble.message.as_str()),
            (Cause::RollbackFailed, "when taken back, the patch ended with exit code 1: File exists")
        );
    }

    #[test]
    fn reboot_reasons_are_listed() {
        let reasons = reboot_reasons(&[report(StepEnd::Exit(0), "noise\nreboot: kernel 6.1.0-2 is installed\n")]);
        assert_eq!(reasons, Ok(vec!["kernel 6.1.0-2 is installed".to_owned()]));
        assert_eq!(reboot_reasons(&[report(StepEnd::Exit(0), "")]), Ok(vec![]));
        assert!(reboot_reasons(&[report(StepEnd::TimedOut, "")]).is_err() && reboot_reasons(&[]).is_err());
    }
}
