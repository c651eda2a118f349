//! The decision about one patch and one customer: each requirement with its reason, and what can be done about it.

use askama::Template;
use jiff::{SignedDuration, Timestamp};

use crate::catalog::patch::Patch;
use crate::id::{CellId, Digest, Name, RunId};
use crate::lab::gate::WaiverView;
use crate::report::text;
use crate::verdict::gate::{ApprovalRecord, Decision, GateFinding, RejectionRecord, Requirement, Requirements};

use super::frame::Frame;
use super::gate::{Badge, moment, of_reason, of_status, waive, why};
use super::waivers::WaiverLine;

/// How long a waiver lasts unless the person or the policy says less.
const USUAL: SignedDuration = SignedDuration::from_hours(14 * 24);

#[derive(Template)]
#[template(path = "decision.html", config = "src/web/askama.toml")]
pub struct DecisionPage {
    pub frame: Frame,
    pub decision: DecisionView,
}

pub struct DecisionView {
    pub patch: String,
    pub sha256: String,
    pub title: String,
    pub customer: String,
    pub badge: Badge,
    pub summary: String,
    pub simulated: bool,
    pub facts: Vec<(&'static str, String)>,
    pub requirements: Vec<RequirementRow>,
    /// Cells that nobody has tried or that have to be tried again: what to launch.
    pub to_run: bool,
    /// Whether an approval is what is missing.
    pub to_approve: bool,
    pub revision: u32,
    pub approvals: Vec<Word>,
    pub waivers: Vec<WaiverLine>,
    /// Earlier revisions, the newest first.
    pub history: Vec<(u32, String, Badge, String)>,
    pub digests: Vec<(&'static str, String)>,
    pub commands: Vec<(String, &'static str)>,
}

pub struct RequirementRow {
    pub what: String,
    pub badge: Badge,
    pub message: String,
    /// Where it can be read up.
    pub href: Option<String>,
    /// Whose verdict it is, where it is another customer's.
    pub from: Option<String>,
    pub findings: Vec<FindingRow>,
}

/// Bad news and the form that waives it.
pub struct FindingRow {
    pub code: String,
    pub subject: String,
    pub fingerprint: String,
    pub short: String,
    pub waived: bool,
    /// Profiles that the waiver can be kept to.
    pub hardware: Option<String>,
    /// The end that the form proposes, as its field wants it.
    pub expires: String,
    pub command: String,
}

/// A person's approval or rejection.
pub struct Word {
    pub id: String,
    pub badge: Badge,
    pub by: String,
    pub when: String,
    pub said: String,
    pub revoked: Option<String>,
}

/// What the page is made from.
pub struct DecisionInput<'a> {
    pub decision: &'a Decision,
    pub requirements: Option<&'a Requirements>,
    pub approvals: &'a [ApprovalRecord],
    pub rejections: &'a [RejectionRecord],
    pub waivers: &'a [WaiverView],
    pub history: &'a [Decision],
    /// Who looks.
    pub viewer: &'a str,
    pub now: Timestamp,
}

impl DecisionView {
    pub fn of(input: &DecisionInput<'_>) -> Self {
        let decision = input.decision;
        let longest = input.requirements.and_then(|it| it.policy.waiver.as_ref()).map(|rule| rule.longest.0);
        let longest = longest.and_then(|longest| SignedDuration::try_from(longest).ok()).map_or(USUAL, |longest| longest.min(USUAL));
        let expires = input.now.checked_add(longest).unwrap_or(input.now);
        let unmet = |prefix: &str| decision.requirements.iter().any(|it| it.what.starts_with(prefix) && !it.reason.is_met());
        let manifest = input.requirements.map(|it| &it.plan.patch.manifest);
        Self {
            patch: decision.patch.id.to_string(),
            sha256: decision.patch.sha256.to_string(),
            title: manifest.map_or_else(|| decision.patch.id.to_string(), |manifest| text::one_line(&manifest.title, 200)),
            customer: decision.customer.to_string(),
            badge: of_status(decision.status),
            summary: why(decision.status, &decision.summary, 400),
            simulated: decision.simulated,
            facts: facts(input),
            requirements: sorted(decision).into_iter().map(|it| row(it, decision, expires)).collect(),
            to_run: decision.requirements.iter().any(needs_run),
            to_approve: unmet("approval:")
                && !decision.requirements.iter().any(|it| !it.what.starts_with("approval:") && !it.reason.is_met()),
            revision: decision.revision,
            approvals: words(input),
            waivers: input.waivers.iter().map(|one| WaiverLine::of(&one.record, one.void, input.viewer, input.now)).collect(),
            history: input.history.iter().filter(|it| it.revision != decision.revision).map(|it| past(it, input.now)).collect(),
            digests: digests(decision),
            commands: vec![
                (format!("patchlab gate {} --customer {}", decision.patch.sha256, decision.customer), "this answer, as an exit code"),
                (format!("patchlab run {} --customer {}", decision.patch.sha256, decision.customer), "run all that this customer has"),
            ],
        }
    }
}

/// What stands in the way first, the worst of it first of all.
fn sorted(decision: &Decision) -> Vec<&Requirement> {
    use crate::verdict::gate::Reason::{Errored, Failed, Flaky, Missing, Passed, Queued, Running, Stale, Superseded, Waived};
    let mut all: Vec<_> = decision.requirements.iter().collect();
    all.sort_by_key(|it| match it.reason {
        Failed => 0,
        Flaky => 1,
        Errored => 2,
        Superseded => 3,
        Stale => 4,
        Missing => 5,
        Queued => 6,
        Running => 7,
        Waived => 8,
        Passed => 9,
    });
    all
}

fn needs_run(requirement: &Requirement) -> bool {
    use crate::verdict::gate::Reason::{Errored, Flaky, Missing, Stale, Superseded};
    let again = matches!(requirement.reason, Errored | Flaky | Missing | Stale | Superseded);
    again && requirement.what.parse::<CellId>().is_ok()
}

fn facts(input: &DecisionInput<'_>) -> Vec<(&'static str, String)> {
    let decision = input.decision;
    let mut facts = vec![
        ("Customer", decision.customer.to_string()),
        ("Revision", format!("{}{}", decision.revision, if decision.is_final { ", final" } else { "" })),
        ("As of", text::moment(decision.as_of)),
    ];
    facts.extend(decision.lane.as_ref().map(|lane| ("Lane", lane.to_string())));
    facts.extend(decision.deadline.map(|at| ("Due", moment(input.now, at))));
    facts.extend(decision.until.map(|at| ("Holds until", moment(input.now, at))));
    facts
}

fn row(requirement: &Requirement, decision: &Decision, expires: Timestamp) -> RequirementRow {
    let cell = requirement.what.parse::<CellId>().ok();
    RequirementRow {
        what: text::one_line(&requirement.what, 140),
        badge: of_reason(requirement.reason),
        // "passed" beside a badge that says so says nothing.
        message: if requirement.message == requirement.reason.as_str() { String::new() } else { text::one_line(&requirement.message, 300) },
        href: requirement.run.map(|run| place(run, cell.as_ref(), requirement.from.is_some())),
        from: requirement.from.as_ref().map(ToString::to_string),
        findings: requirement.findings.iter().map(|one| finding(one, cell.as_ref(), decision, expires)).collect(),
    }
}

/// The cell's page; of another customer's run the run's, because its cell has another name.
fn place(run: RunId, cell: Option<&CellId>, foreign: bool) -> String {
    match cell {
        Some(cell) if !foreign => format!("/runs/{run}/cells/{cell}"),
        _ => format!("/runs/{run}"),
    }
}

fn finding(one: &GateFinding, cell: Option<&CellId>, decision: &Decision, expires: Timestamp) -> FindingRow {
    let hardware = cell.and_then(|cell| cell.as_str().split_once('@')).map(|(_, place)| place.split(':').next().unwrap_or(place));
    let hardware = hardware.filter(|hardware| !hardware.contains('+')).map(str::to_owned);
    let until = expires.strftime("%Y-%m-%dT%H:%M").to_string();
    let subject = text::one_line(one.subject(), 140);
    FindingRow {
        code: text::one_line(&one.code, 60),
        command: waive(decision.patch.sha256, &decision.customer, one, hardware.as_deref()),
        subject,
        fingerprint: one.fingerprint.to_string(),
        short: one.fingerprint.short(),
        waived: one.waiver.is_some(),
        hardware,
        expires: until,
    }
}

fn words(input: &DecisionInput<'_>) -> Vec<Word> {
    use crate::report::html::Sign;
    let badge = |sign, shape, word| Badge { sign, shape, word };
    let undone = |act: &crate::verdict::gate::Act| {
        format!("taken back by {} {}: {}", text::one_line(&act.by, 80), moment(input.now, act.at), text::one_line(&act.reason, 200))
    };
    let approved = input.approvals.iter().map(|one| Word {
        id: one.id.to_string(),
        badge: badge(Sign::Good, "✓", "approved"),
        by: text::one_line(&one.approval.by, 80),
        when: format!("revision {}, {}", one.approval.revision, moment(input.now, one.at)),
        said: text::one_line(&one.approval.comment, 400),
        revoked: one.revoked.as_ref().map(undone),
    });
    let rejected = input.rejections.iter().map(|one| Word {
        id: one.id.to_string(),
        badge: badge(Sign::Bad, "✕", "rejected"),
        by: text::one_line(&one.rejection.by, 80),
        when: moment(input.now, one.at),
        said: text::one_line(&one.rejection.reason, 400),
        revoked: one.revoked.as_ref().map(undone),
    });
    approved.chain(rejected).collect()
}

fn past(decision: &Decision, now: Timestamp) -> (u32, String, Badge, String) {
    (decision.revision, moment(now, decision.as_of), of_status(decision.status), why(decision.status, &decision.summary, 200))
}

fn digests(decision: &Decision) -> Vec<(&'static str, String)> {
    let runs = decision.digests.runs.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    vec![
        ("Patch", decision.patch.sha256.to_string()),
        ("Policy", decision.digests.policy.to_string()),
        ("Plan", decision.digests.plan.to_string()),
        ("Basis", decision.digests.basis.to_string()),
        ("Runs", if runs.is_empty() { "none".to_owned() } else { runs }),
    ]
}

/// A patch that the gate was not asked about for this customer.
#[derive(Template)]
#[template(path = "ask.html", config = "src/web/askama.toml")]
pub struct AskPage {
    pub frame: Frame,
    pub patch: String,
    pub sha256: String,
    pub title: String,
    pub customer: String,
}

impl AskPage {
    pub fn of(frame: Frame, sha256: Digest, manifest: &Patch, customer: &Name) -> Self {
        Self {
            frame,
            patch: manifest.id.to_string(),
            sha256: sha256.to_string(),
            title: text::one_line(&manifest.title, 200),
            customer: customer.to_string(),
        }
    }
}
