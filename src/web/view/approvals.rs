//! What waits for the person who looks: decisions that lack an approval, waivers that lack a consent.

use askama::Template;
use jiff::Timestamp;

use crate::api::decisions::Row;
use crate::catalog::policy::Role;
use crate::lab::gate::WaiverView;
use crate::report::text;

use super::frame::Frame;
use super::gate::{Badge, moment, of_status, why};
use super::waivers::WaiverLine;

#[derive(Template)]
#[template(path = "approvals.html", config = "src/web/askama.toml")]
pub struct ApprovalsPage {
    pub frame: Frame,
    pub waiting: Vec<Waiting>,
    pub consents: Vec<WaiverLine>,
}

/// A decision that lacks nothing but approvals.
pub struct Waiting {
    pub patch: String,
    pub sha256: String,
    pub customer: String,
    pub href: String,
    pub badge: Badge,
    pub summary: String,
    pub revision: u32,
    pub due: String,
    /// What is still to be given.
    pub lacks: Vec<String>,
}

/// Who looks.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    pub name: &'a str,
    pub role: Role,
}

impl Waiting {
    /// The decision, if an approval by this person is what it waits for.
    pub fn of(decision: &Row, viewer: Viewer<'_>, now: Timestamp) -> Option<Self> {
        let mut mine = decision.lacks.iter().filter(|it| needed(&it.what).is_some_and(|role| viewer.role >= role));
        mine.next()?;
        Some(Self {
            patch: decision.id.to_string(),
            sha256: decision.sha256.to_string(),
            customer: decision.customer.to_string(),
            href: format!("/patches/{}/{}", decision.sha256, decision.customer),
            badge: of_status(decision.status),
            summary: why(decision.status, &decision.summary, 300),
            revision: decision.revision,
            due: decision.deadline.map(|at| moment(now, at)).unwrap_or_default(),
            lacks: decision.lacks.iter().map(|it| text::one_line(&it.message, 200)).collect(),
        })
    }
}

fn needed(what: &str) -> Option<Role> {
    what.strip_prefix("approval:")?.parse().ok()
}

impl ApprovalsPage {
    pub fn of(frame: Frame, decisions: &[Row], waivers: &[WaiverView], viewer: Viewer<'_>, now: Timestamp) -> Self {
        let waiting = decisions.iter().filter_map(|decision| Waiting::of(decision, viewer, now)).collect();
        let lines = waivers.iter().map(|view| WaiverLine::of(&view.record, view.void, viewer.name, now));
        let consents = lines.filter(|line| line.may_consent && viewer.role >= Role::Approver).collect();
        Self { frame, waiting, consents }
    }
}
