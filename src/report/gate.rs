//! A decision for people, and the commands that answer to it.

use crate::id::{Digest, Name};
use crate::verdict::gate::{Decision, GateFinding, Reason, Requirement, Status};

use super::human::{Styled, Tone};
use super::text;

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
    out.push(Tone::Plain, decision.summary.as_str()).end_line();
    if let Some(deadline) = decision.deadline {
        out.push(Tone::Plain, format!("due {}", text::moment(deadline))).end_line();
    }
    if let Some(until) = decision.until {
        out.push(Tone::Plain, format!("holds until {} if nothing happens", text::moment(until))).end_line();
    }
    out.end_line();
    for requirement in &decision.requirements {
        requirement_lines(&mut out, decision, requirement);
    }
    let cells_met = decision.requirements.iter().all(|one| one.reason.is_met() || is_approval(one));
    if cells_met && decision.requirements.iter().any(|one| is_approval(one) && !one.reason.is_met()) {
        out.end_line();
        let words = ["approve".to_owned(), scope(decision), format!("--revision {}", decision.revision)];
        command(&mut out, 0, "approve it", &words);
    }
    out
}

fn is_approval(requirement: &Requirement) -> bool {
    requirement.what.starts_with("approval:")
}

fn scope(decision: &Decision) -> String {
    format!("{} --customer {}", decision.patch.sha256.short(), decision.customer)
}

fn requirement_lines(out: &mut Styled, decision: &Decision, requirement: &Requirement) {
    let tone = match requirement.reason {
        Reason::Passed | Reason::Waived => Tone::Pass,
        Reason::Failed => Tone::Fail,
        Reason::Flaky | Reason::Errored | Reason::Missing | Reason::Queued | Reason::Running | Reason::Stale | Reason::Superseded => {
            Tone::Inconclusive
        }
    };
    let from = requirement.from.as_ref().map_or_else(String::new, |from| format!(" of {from}"));
    let run = requirement.run.map_or_else(String::new, |run| format!(" (run {run}{from})"));
    out.push(tone, format!("{:10}", requirement.reason)).push(Tone::Plain, format!("{:28} ", requirement.what));
    out.push(Tone::Plain, format!("{}{run}", requirement.message)).end_line();
    for finding in &requirement.findings {
        let place = finding.case.as_deref().unwrap_or_default();
        out.push(Tone::Plain, format!("          {} {place}", finding.code)).end_line();
        match finding.waiver {
            Some(waiver) => out.push(Tone::Dim, format!("            waived by {waiver}")).end_line(),
            None => {
                let hardware = hardware(decision, requirement);
                let words = waive(decision.patch.sha256, &decision.customer, finding, hardware.as_deref());
                command(out, 12, "waive it", &words);
            }
        }
    }
    let again = matches!(requirement.reason, Reason::Missing | Reason::Errored | Reason::Stale | Reason::Superseded);
    if let Some(selection) = again.then(|| selection(&decision.customer, &requirement.what)).flatten() {
        let words = ["run".to_owned(), decision.patch.sha256.short(), selection];
        command(out, 10, "run it", &words);
    }
}

/// One command over several lines that a shell takes as one.
pub(super) fn command(out: &mut Styled, indent: usize, what: &str, words: &[String]) {
    let pad = " ".repeat(indent);
    let joined = words.join(&format!(" \\\n{pad}  "));
    out.push(Tone::Dim, format!("{pad}{what}: patchlab {joined}")).end_line();
}

/// The words of the command that proposes to waive a finding.
pub fn waive(patch: Digest, customer: &Name, finding: &GateFinding, hardware: Option<&str>) -> Vec<String> {
    let hardware = hardware.map_or_else(String::new, |hardware| format!(" --hardware {hardware}"));
    vec![
        format!("waive {} --customer {customer}{hardware}", patch.short()),
        format!("--case {} --fingerprint {}", finding.subject(), finding.fingerprint.short()),
        "--expires 7d --reason WHY".to_owned(),
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
