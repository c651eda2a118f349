//! A decision for people, and the commands that answer to it.

use crate::id::{Digest, Name};
use crate::verdict::gate::{Decision, GateFinding, Reason, Requirement, Status};

use super::human::{Styled, Tone};
use super::text;

/// Columns that a command may take before it is broken up.
const COLUMNS: usize = 110;

/// The decision as text for a terminal: how each requirement stands, and what can be done about it.
pub fn human(decision: &Decision) -> Styled {
    let mut out = Styled::default();
    let tone = match decision.status {
        Status::Approved | Status::ApprovedWithWaivers => Tone::Pass,
        Status::Rejected => Tone::Fail,
        Status::Pending | Status::Inconclusive | Status::Superseded | Status::Expired => Tone::Inconclusive,
    };
    out.push(tone, decision.status.as_str().to_uppercase());
    let lane = decision.lane.as_ref().map_or_else(String::new, |lane| format!(", lane {lane}"));
    let about = format!("{} for {}, revision {}{lane}", decision.patch.id, decision.customer, decision.revision);
    out.push(Tone::Plain, "  ").push(Tone::Strong, about).end_line();
    out.push(Tone::Plain, text::one_line(&decision.summary, 300)).end_line();
    if let Some(deadline) = decision.deadline {
        out.push(Tone::Plain, format!("due {}", text::moment(deadline))).end_line();
    }
    if let Some(until) = decision.until {
        out.push(Tone::Plain, format!("holds until {} if nothing happens", text::moment(until))).end_line();
    }
    out.end_line();
    let width = decision.requirements.iter().map(|one| one.what.len()).max().unwrap_or_default();
    // Where nothing was tried at all, one command does it.
    let cells = || decision.requirements.iter().filter(|one| parts(&decision.customer, &one.what).is_some());
    let whole = cells().count() > 1 && cells().all(|one| one.reason == Reason::Missing);
    for requirement in &decision.requirements {
        requirement_lines(&mut out, decision, requirement, width, whole);
    }
    if whole {
        out.end_line();
        let words = [format!("run {} --customer {}", decision.patch.sha256.short(), decision.customer)];
        command(&mut out, 0, "run them", &words, COLUMNS);
    }
    let cells_met = decision.requirements.iter().all(|one| one.reason.is_met() || is_approval(one));
    if cells_met && decision.requirements.iter().any(|one| is_approval(one) && !one.reason.is_met()) {
        out.end_line();
        let words = [
            format!("approve {} --customer {}", decision.patch.sha256.short(), decision.customer),
            format!("--revision {}", decision.revision),
        ];
        command(&mut out, 0, "approve it", &words, COLUMNS);
    }
    out
}

fn is_approval(requirement: &Requirement) -> bool {
    requirement.what.starts_with("approval:")
}

fn requirement_lines(out: &mut Styled, decision: &Decision, requirement: &Requirement, width: usize, whole: bool) {
    let tone = match requirement.reason {
        Reason::Passed | Reason::Waived => Tone::Pass,
        Reason::Failed => Tone::Fail,
        Reason::Flaky | Reason::Errored | Reason::Missing | Reason::Queued | Reason::Running | Reason::Stale | Reason::Superseded => {
            Tone::Inconclusive
        }
    };
    let from = requirement.from.as_ref().map_or_else(String::new, |from| format!(" of {from}"));
    let run = requirement.run.map_or_else(String::new, |run| format!(" (run {run}{from})"));
    out.push(tone, format!("{:10}", requirement.reason)).push(Tone::Plain, format!("{:width$}  ", requirement.what));
    out.push(Tone::Plain, format!("{}{run}", text::one_line(&requirement.message, 300))).end_line();
    for finding in &requirement.findings {
        let place = finding.case.as_deref().unwrap_or_default();
        out.push(Tone::Plain, format!("          {} {place}", finding.code)).end_line();
        match finding.waiver {
            Some(waiver) => out.push(Tone::Dim, format!("            waived by {waiver}")).end_line(),
            None => {
                let hardware = hardware(decision, requirement);
                let words = waive(decision.patch.sha256, &decision.customer, finding, hardware.as_deref());
                command(out, 12, "waive it", &words, COLUMNS);
            }
        }
    }
    let again = !whole && matches!(requirement.reason, Reason::Missing | Reason::Errored | Reason::Stale | Reason::Superseded);
    if let Some(selection) = again.then(|| selection(&decision.customer, &requirement.what)).flatten() {
        let words = [format!("run {}", decision.patch.sha256.short()), selection];
        command(out, 10, "run it", &words, COLUMNS);
    }
}

/// A command: on one line where it fits, else over several that a shell takes as one.
pub(super) fn command(out: &mut Styled, indent: usize, what: &str, words: &[String], columns: usize) {
    let pad = " ".repeat(indent);
    let line = format!("{pad}{what}: patchlab {}", words.join(" "));
    let text = if line.len() <= columns { line } else { format!("{pad}{what}: patchlab {}", words.join(&format!(" \\\n{pad}  "))) };
    out.push(Tone::Dim, text).end_line();
}

/// The words of the command that proposes to waive a finding.
pub fn waive(patch: Digest, customer: &Name, finding: &GateFinding, hardware: Option<&str>) -> Vec<String> {
    let hardware = hardware.map_or_else(String::new, |hardware| format!("--hardware {hardware} "));
    vec![
        format!("waive {} --customer {customer}", patch.short()),
        format!("{hardware}--case {}", finding.subject()),
        format!("--fingerprint {} --expires 7d --reason WHY", finding.fingerprint.short()),
    ]
}

/// The one hardware profile of a required cell.
fn hardware(decision: &Decision, requirement: &Requirement) -> Option<String> {
    let (_, hardware, _) = parts(&decision.customer, &requirement.what)?;
    (!hardware.contains('+')).then(|| hardware.to_owned())
}

/// A cell id without its customer: build or environment, hardware, level.
fn parts<'a>(customer: &Name, cell: &'a str) -> Option<(&'a str, &'a str, Option<&'a str>)> {
    let (subject, place) = cell.strip_prefix(customer.as_str())?.strip_prefix('.')?.split_once('@')?;
    let (hardware, level) = place.split_once(':').map_or((place, None), |(hardware, level)| (hardware, Some(level)));
    Some((subject, hardware, level))
}

/// The words that `patchlab run` selects a required cell with.
fn selection(customer: &Name, cell: &str) -> Option<String> {
    let (subject, hardware, level) = parts(customer, cell)?;
    let mut names: Vec<&str> = hardware.split('+').collect();
    names.sort_unstable();
    names.dedup();
    let hardware: String = names.iter().map(|name| format!(" --hardware {name}")).collect();
    Some(match level {
        None => format!("--customer {customer} --build {subject}{hardware}"),
        Some(level) => format!("--customer {customer} --environment {subject}{hardware} --level {level}"),
    })
}
