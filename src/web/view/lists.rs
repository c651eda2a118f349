//! Lists: runs and patches.

use askama::Template;
use jiff::Timestamp;

use crate::api::decisions::Row;
use crate::catalog::patch::{Patch, PatchKind};
use crate::id::{Digest, Name, RunId};
use crate::report::html::{self, Sign};
use crate::report::text;
use crate::verdict::Verdict;

use super::board::severity;
use super::frame::Frame;
use super::gate::{Badge, away, of_status};

/// The way to the lines before and after those of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    pub newer: Option<String>,
    pub older: Option<String>,
}

#[derive(Template)]
#[template(path = "runs.html", config = "src/web/askama.toml")]
pub struct RunsPage {
    pub frame: Frame,
    pub runs: Vec<RunLine>,
    pub paging: Paging,
    pub as_of: String,
}

/// A run in a list.
pub struct RunLine {
    pub href: String,
    pub badge: Badge,
    pub patch: String,
    pub patch_href: String,
    pub customers: String,
    pub by: String,
    pub begun: String,
    pub took: String,
}

/// What is known of a run without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    pub run: RunId,
    pub patch: Digest,
    /// What it tests, in a few words.
    pub title: String,
    pub customers: Vec<Name>,
    pub by: String,
    pub planned: Timestamp,
    pub ended: Option<(Timestamp, Verdict)>,
    /// Whether a controller works on it.
    pub working: bool,
}

impl RunLine {
    pub fn of(run: &RunFacts, now: Timestamp) -> Self {
        Self {
            href: format!("/runs/{}", run.run),
            badge: state(run),
            patch: run.title.clone(),
            patch_href: format!("/patches/{}", run.patch),
            customers: run.customers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            by: text::one_line(&run.by, 60),
            begun: format!("{}, {}", text::moment(run.planned), away(now, run.planned)),
            took: run.ended.map_or_else(String::new, |(at, _)| text::duration(text::elapsed(run.planned, at))),
        }
    }
}

fn state(run: &RunFacts) -> Badge {
    let (sign, word) = match run.ended {
        Some((_, verdict)) => (html::sign_of(verdict), verdict.as_str()),
        None if run.working => (Sign::Open, "running"),
        None => (Sign::Open, "queued"),
    };
    Badge { sign, shape: if word == "queued" { "◷" } else { sign.mark() }, word }
}

#[derive(Template)]
#[template(path = "patches.html", config = "src/web/askama.toml")]
pub struct PatchesPage {
    pub frame: Frame,
    pub patches: Vec<PatchLine>,
    /// Entries of the store that can't be used, in words.
    pub problems: Vec<String>,
    pub paging: Paging,
}

/// A candidate in a list.
pub struct PatchLine {
    pub id: String,
    pub title: String,
    pub sha256: String,
    pub short: String,
    pub kind: &'static str,
    pub severity: &'static str,
    pub vendor: String,
    pub cves: String,
    pub size: String,
    pub decisions: Vec<(String, String, Badge)>,
}

impl PatchLine {
    /// `decisions`: the newest of each customer, of any patch.
    pub fn of(sha256: Digest, manifest: &Patch, bytes: u64, decisions: &[Row]) -> Self {
        let mine = decisions.iter().filter(|row| row.sha256 == sha256);
        let told = |one: &Row| (one.customer.to_string(), format!("/patches/{sha256}/{}", one.customer), of_status(one.status));
        Self {
            id: manifest.id.to_string(),
            title: text::one_line(&manifest.title, 160),
            sha256: sha256.to_string(),
            short: sha256.short(),
            kind: kind(manifest.kind),
            severity: manifest.severity.map_or("", severity),
            vendor: manifest.vendor.as_deref().map(|vendor| text::one_line(vendor, 80)).unwrap_or_default(),
            cves: text::one_line(&manifest.cves.join(", "), 200),
            size: text::size(bytes),
            decisions: mine.map(told).collect(),
        }
    }
}

pub const fn kind(kind: PatchKind) -> &'static str {
    match kind {
        PatchKind::Deb => "deb",
        PatchKind::Script => "script",
        PatchKind::Files => "files",
        PatchKind::Diff => "diff",
    }
}

/// One candidate: its decisions and its runs.
#[derive(Template)]
#[template(path = "patch.html", config = "src/web/askama.toml")]
pub struct PatchPage {
    pub frame: Frame,
    pub patch: PatchLine,
    pub facts: Vec<(&'static str, String)>,
    /// Customers with a policy that have no decision yet.
    pub undecided: Vec<String>,
    pub runs: Vec<RunLine>,
}

/// What a manifest says, for those who read it.
pub fn patch_facts(sha256: Digest, manifest: &Patch) -> Vec<(&'static str, String)> {
    let names = |names: &[Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let reboot = match manifest.reboot {
        crate::catalog::patch::Reboot::Never => "never",
        crate::catalog::patch::Reboot::Auto => "when the guest asks for it",
        crate::catalog::patch::Reboot::Required => "required",
    };
    let all = [
        ("sha256", sha256.to_string()),
        ("Kind", kind(manifest.kind).to_owned()),
        ("Severity", manifest.severity.map_or("", severity).to_owned()),
        ("Vendor", manifest.vendor.clone().unwrap_or_default()),
        ("Answers", manifest.cves.join(", ")),
        ("Reboot", reboot.to_owned()),
        ("Supersedes", names(&manifest.supersedes)),
        ("Requires", names(&manifest.requires)),
        ("Payload", manifest.payload.join(", ")),
    ];
    all.into_iter().map(|(label, value)| (label, text::one_line(&value, 400))).filter(|(_, value)| !value.is_empty()).collect()
}
