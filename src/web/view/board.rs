//! Today's board: patches down, customers across, the decision at each place.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use jiff::Timestamp;

use crate::api::decisions::Row;
use crate::catalog::patch::Severity;
use crate::id::{Digest, Name};
use crate::report::text;
use crate::verdict::gate::Status;

use super::frame::Frame;
use super::gate::{Badge, away, of_status, why};
use super::lists::{Paging, RunLine};

/// What asks for somebody's attention comes first.
const TILES: [Status; 7] = [
    Status::Rejected,
    Status::Pending,
    Status::Inconclusive,
    Status::Expired,
    Status::Approved,
    Status::ApprovedWithWaivers,
    Status::Superseded,
];

/// The board's page.
#[derive(Template)]
#[template(path = "board.html", config = "src/web/askama.toml")]
pub struct BoardPage {
    pub frame: Frame,
    pub board: BoardView,
}

/// What a list may be narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub customer: Option<Name>,
    pub status: Option<Status>,
}

/// What is known of a patch besides its decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchFacts {
    pub title: String,
    pub severity: Option<Severity>,
}

pub struct BoardView {
    pub tiles: Vec<Tile>,
    pub under_way: Vec<RunLine>,
    pub customers: Vec<String>,
    pub rows: Vec<PatchRow>,
    /// Customers to choose from: name, and whether it is chosen.
    pub choices: Vec<(String, bool)>,
    pub status: &'static str,
    pub narrowed: bool,
    pub paging: Paging,
    pub as_of: String,
}

/// How many decisions are of one kind.
pub struct Tile {
    pub badge: Badge,
    pub count: usize,
    pub href: String,
    pub here: bool,
}

pub struct PatchRow {
    pub id: String,
    pub title: String,
    pub severity: &'static str,
    pub sha256: String,
    pub short: String,
    pub places: Vec<Option<Place>>,
}

pub struct Place {
    pub badge: Badge,
    pub href: String,
    pub summary: String,
    /// When it is due or ends.
    pub when: String,
}

/// What a board is made from.
pub struct BoardInput<'a> {
    /// The decisions of this page: the newest of each patch and customer, in the order in which the patches are listed.
    pub decisions: &'a [Row],
    pub facts: &'a BTreeMap<Digest, PatchFacts>,
    /// How many decisions there are of each status, whatever the filter and the page.
    pub counts: &'a BTreeMap<Status, usize>,
    /// All customers.
    pub customers: &'a [Name],
    pub under_way: Vec<RunLine>,
    pub filter: &'a Filter,
    pub paging: Paging,
    pub now: Timestamp,
}

impl BoardView {
    pub fn of(input: BoardInput<'_>) -> Self {
        let shown: BTreeSet<&Name> = input.decisions.iter().map(|decision| &decision.customer).collect();
        let mut patches: Vec<&Row> = Vec::new();
        for decision in input.decisions {
            if !patches.iter().any(|known| known.sha256 == decision.sha256) {
                patches.push(decision);
            }
        }
        let chosen = input.filter.status;
        Self {
            tiles: TILES.into_iter().map(|status| tile(status, &input)).collect(),
            customers: shown.iter().map(ToString::to_string).collect(),
            rows: patches.into_iter().map(|patch| row(patch, &shown, &input)).collect(),
            choices: input.customers.iter().map(|name| (name.to_string(), input.filter.customer.as_ref() == Some(name))).collect(),
            status: chosen.map_or("", Status::as_str),
            narrowed: *input.filter != Filter::default(),
            as_of: text::moment(input.now),
            under_way: input.under_way,
            paging: input.paging,
        }
    }
}

fn tile(status: Status, input: &BoardInput<'_>) -> Tile {
    let here = input.filter.status == Some(status);
    let customer = input.filter.customer.as_ref().map(|name| format!("customer={name}"));
    let wanted = (!here).then(|| format!("status={status}"));
    let query: Vec<_> = customer.into_iter().chain(wanted).collect();
    let href = if query.is_empty() { "/".to_owned() } else { format!("/?{}", query.join("&")) };
    Tile { badge: of_status(status), count: input.counts.get(&status).copied().unwrap_or(0), href, here }
}

fn row(patch: &Row, customers: &BTreeSet<&Name>, input: &BoardInput<'_>) -> PatchRow {
    let facts = input.facts.get(&patch.sha256);
    let of = |customer: &&Name| {
        let mut all = input.decisions.iter();
        let found = all.find(|one| one.sha256 == patch.sha256 && one.customer == **customer)?;
        Some(place(found, input.now))
    };
    PatchRow {
        id: patch.id.to_string(),
        title: facts.map(|facts| text::one_line(&facts.title, 120)).unwrap_or_default(),
        severity: facts.and_then(|facts| facts.severity).map_or("", severity),
        sha256: patch.sha256.to_string(),
        short: patch.sha256.short(),
        places: customers.iter().map(of).collect(),
    }
}

fn place(decision: &Row, now: Timestamp) -> Place {
    let when = match (decision.status, decision.deadline, decision.until) {
        (Status::Pending, Some(deadline), _) => format!("due {}", away(now, deadline)),
        (Status::Approved | Status::ApprovedWithWaivers, _, Some(until)) => format!("holds until {}", away(now, until)),
        _ => String::new(),
    };
    Place {
        badge: of_status(decision.status),
        href: format!("/patches/{}/{}", decision.sha256, decision.customer),
        summary: why(decision.status, &decision.summary, 110),
        when: when.replace("until in ", "another "),
    }
}

pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Moderate => "moderate",
        Severity::Important => "important",
        Severity::Critical => "critical",
    }
}
