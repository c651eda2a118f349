//! Overviews: board, runs, patches, what waits, waivers, the lab.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::Timestamp;

use super::Web;
use super::fields::Fields;
use super::view::approvals::{ApprovalsPage, Viewer, Waiting};
use super::view::board::{BoardInput, BoardPage, BoardView, Filter, PatchFacts};
use super::view::frame::Section;
use super::view::lab::{Gauge, HostCard, LabPage, WaitingLine, kept};
use super::view::lists::{Paging, PatchLine, PatchesPage, RunFacts, RunLine, RunsPage};
use super::view::waivers::{WaiverLine, WaiversPage};
use super::visitor::{Trouble, Visitor, show};
use crate::api::Problem;
use crate::api::decisions::Row;
use crate::catalog::policy::Role;
use crate::id::{Digest, Name};
use crate::journal::projection::RunFilter;
use crate::journal::{Controller, RunRow};
use crate::lab::memory;
use crate::lab::scheduler::standing::OneHost;
use crate::report::text;
use crate::verdict::gate::Status;

/// Patches of one page of the board, runs of one list, runs under way that the board shows.
const PATCHES: usize = 40;
const RUNS: u32 = 50;
const UNDER_WAY: u32 = 10;
/// Cells that the lab's page shows to wait.
const WAITING: usize = 50;

pub fn viewer(visitor: &Visitor) -> Viewer<'_> {
    Viewer { name: visitor.caller.name.as_str(), role: visitor.caller.role }
}

/// Decisions that this person could approve.
async fn approvable(web: &Web, viewer: Viewer<'_>, now: Timestamp) -> Result<Vec<Row>, Trouble> {
    if viewer.role < Role::Approver {
        return Ok(Vec::new());
    }
    web.service.decisions.settle().await?;
    Ok(web.shelf.approvable(&web.service.decisions, viewer.name, now).await?)
}

/// How much waits for this person.
///
/// # Errors
/// When the journal can't be read.
pub async fn waiting(web: &Web, viewer: Viewer<'_>, now: Timestamp) -> Result<usize, Trouble> {
    let approvals = approvable(web, viewer, now).await?;
    let approvals = approvals.iter().filter(|row| Waiting::of(row, viewer, now).is_some()).count();
    let waivers = web.shelf.waivers(&web.service.journal, now).await?;
    let consents = waivers.iter().filter(|_| viewer.role >= Role::Approver);
    let consents = consents.filter(|view| WaiverLine::of(&view.record, view.void, viewer.name, now).may_consent);
    Ok(approvals + consents.count())
}

impl Web {
    /// Runs as lists show them.
    pub async fn run_lines(&self, filter: &RunFilter, before: Option<u64>, limit: u32, now: Timestamp) -> Result<Vec<RunLine>, Problem> {
        Ok(self.rows(filter, before, limit).await?.iter().map(|row| self.line(row, now)).collect())
    }

    async fn rows(&self, filter: &RunFilter, before: Option<u64>, limit: u32) -> Result<Vec<RunRow>, Problem> {
        Ok(self.service.journal.page(filter, before, limit).await?)
    }

    fn line(&self, row: &RunRow, now: Timestamp) -> RunLine {
        let working = self.service.queue.standing().running.contains(&row.run);
        let title = row.title();
        let RunRow { run, patch, customers, by, planned, ended, .. } = row.clone();
        RunLine::of(&RunFacts { run, patch, title, customers, by, planned, ended, working }, now)
    }

    /// The decisions for which `fits` says so, by customer, as they stand at a moment.
    pub async fn decided(&self, fits: impl Fn(&Row) -> bool, now: Timestamp) -> Result<Vec<Row>, Problem> {
        self.service.decisions.settle().await?;
        let mut rows = self.service.decisions.rows(now, fits);
        rows.sort_by(|one, other| one.customer.cmp(&other.customer));
        Ok(rows)
    }

    /// What is known of these patches.
    async fn patch_facts(&self, wanted: BTreeSet<Digest>) -> Result<BTreeMap<Digest, PatchFacts>, Problem> {
        let desk = self.service.desk.clone();
        let read = tokio::task::spawn_blocking(move || {
            let store = desk.patches()?;
            let facts = |sha256: Digest| {
                let manifest = store.find(sha256)?.manifest;
                Some((sha256, PatchFacts { title: manifest.title, severity: manifest.severity }))
            };
            Ok::<_, Problem>(wanted.into_iter().filter_map(facts).collect())
        });
        read.await.map_err(Problem::fault)?
    }
}

/// `/`: patches by customer and decision.
pub async fn board(State(web): State<Arc<Web>>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Trouble> {
    made_board(&web, &visitor, query).await.map_err(|trouble: Trouble| trouble.for_visitor(&visitor))
}

async fn made_board(web: &Web, visitor: &Visitor, query: Option<String>) -> Result<Response, Trouble> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let status = fields.get("status");
    let filter =
        Filter { customer: fields.maybe::<Name>("customer")?, status: Status::ALL.into_iter().find(|known| known.as_str() == status) };
    let before: Option<u64> = fields.maybe("before")?;
    let now = visitor.now;
    let all = web.decided(|_| true, now).await?;
    let customers: BTreeSet<Name> = all.iter().map(|row| row.customer.clone()).collect();
    let mut counts = BTreeMap::new();
    let mut lines: Vec<Row> = Vec::new();
    for row in all.into_iter().filter(|row| filter.customer.as_ref().is_none_or(|name| row.customer == *name)) {
        *counts.entry(row.status).or_insert(0) += 1;
        if filter.status.is_none_or(|status| row.status == status) {
            lines.push(row);
        }
    }
    let (decisions, older) = page_of(lines, before);
    let wanted = decisions.iter().map(|row| row.sha256).collect();
    let carry = |older: u64| {
        let customer = filter.customer.as_ref().map(|name| format!("&customer={name}")).unwrap_or_default();
        let status = filter.status.map(|status| format!("&status={status}")).unwrap_or_default();
        format!("/?before={older}{customer}{status}")
    };
    let view = BoardView::of(BoardInput {
        decisions: &decisions,
        facts: &web.patch_facts(wanted).await?,
        counts: &counts,
        customers: &customers.into_iter().collect::<Vec<_>>(),
        under_way: web.run_lines(&RunFilter::OPEN, None, UNDER_WAY, now).await?,
        filter: &filter,
        paging: Paging { newer: before.map(|_| "/".to_owned()), older: older.map(carry) },
        now,
    });
    Ok(show(&BoardPage { frame: visitor.frame(web, Section::Board, "Board").await?, board: view }))
}

/// The decisions about a page's patches, the patch that was decided about last first, and where the next page begins.
fn page_of(lines: Vec<Row>, before: Option<u64>) -> (Vec<Row>, Option<u64>) {
    let mut newest: BTreeMap<Digest, u64> = BTreeMap::new();
    for row in &lines {
        let last = newest.entry(row.sha256).or_default();
        *last = (*last).max(row.seq);
    }
    let mut order: Vec<(u64, Digest)> =
        newest.iter().map(|(patch, seq)| (*seq, *patch)).filter(|(seq, _)| before.is_none_or(|before| *seq < before)).collect();
    order.sort_by(|one, other| other.cmp(one));
    let more = order.len() > PATCHES;
    order.truncate(PATCHES);
    let places: BTreeMap<Digest, usize> = order.iter().enumerate().map(|(at, (_, patch))| (*patch, at)).collect();
    let mut shown: Vec<(usize, Row)> = lines.into_iter().filter_map(|row| Some((*places.get(&row.sha256)?, row))).collect();
    shown.sort_by_key(|(place, _)| *place);
    let older = order.last().filter(|_| more).map(|(seq, _)| *seq);
    (shown.into_iter().map(|(_, row)| row).collect(), older)
}

/// `/runs`
pub async fn runs(State(web): State<Arc<Web>>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Trouble> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let before = fields.maybe("before").map_err(Trouble::from).map_err(|trouble| trouble.for_visitor(&visitor))?;
    let rows = web.rows(&RunFilter::ALL, before, RUNS).await?;
    let older = rows.last().filter(|_| rows.len() == RUNS as usize).map(|row| format!("/runs?before={}", row.seq));
    let runs = rows.iter().map(|row| web.line(row, visitor.now)).collect();
    let paging = Paging { newer: before.map(|_| "/runs".to_owned()), older };
    let frame = visitor.frame(&web, Section::Runs, "Runs").await?;
    Ok(show(&RunsPage { frame, runs, paging, as_of: text::moment(visitor.now) }))
}

/// `/patches`
pub async fn patches(State(web): State<Arc<Web>>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Trouble> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let from: usize = fields.maybe("from").map_err(Trouble::from).map_err(|trouble| trouble.for_visitor(&visitor))?.unwrap_or(0);
    let listing = web.service.decisions.candidates.listing().await?;
    let all = listing.candidates.len();
    let shown: Vec<_> = listing.candidates.iter().rev().skip(from).take(PATCHES).collect();
    let wanted: BTreeSet<Digest> = shown.iter().map(|patch| patch.sha256).collect();
    let decisions = web.decided(|row| wanted.contains(&row.sha256), visitor.now).await?;
    let line = |patch: &&crate::lab::patches::StoredPatch| PatchLine::of(patch.sha256, &patch.manifest, patch.facts.bytes, &decisions);
    let next = from.saturating_add(PATCHES);
    let paging = Paging {
        newer: (from > 0).then(|| format!("/patches?from={}", from.saturating_sub(PATCHES))),
        older: (next < all).then(|| format!("/patches?from={next}")),
    };
    Ok(show(&PatchesPage {
        patches: shown.iter().map(line).collect(),
        problems: listing.problems.iter().map(|problem| text::one_line(&problem.to_string(), 300)).collect(),
        paging,
        frame: visitor.frame(&web, Section::Patches, "Patches").await?,
    }))
}

/// `/approvals`: what waits for the person who looks.
pub async fn approvals(State(web): State<Arc<Web>>, visitor: Visitor) -> Result<Response, Trouble> {
    let viewer = viewer(&visitor);
    let frame = visitor.frame(&web, Section::Approvals, "Waiting for me").await?;
    let decisions = approvable(&web, viewer, visitor.now).await?;
    let waivers = web.shelf.waivers(&web.service.journal, visitor.now).await?;
    Ok(show(&ApprovalsPage::of(frame, &decisions, &waivers, viewer, visitor.now)))
}

/// `/waivers`
pub async fn waivers(State(web): State<Arc<Web>>, visitor: Visitor) -> Result<Response, Trouble> {
    let waivers = web.shelf.waivers(&web.service.journal, visitor.now).await?;
    let frame = visitor.frame(&web, Section::Waivers, "Waivers").await?;
    Ok(show(&WaiversPage::of(frame, &waivers, visitor.caller.name.as_str(), visitor.now)))
}

/// `/lab`
pub async fn lab(State(web): State<Arc<Web>>, visitor: Visitor) -> Result<Response, Trouble> {
    let now = visitor.now;
    let journal = &web.service.journal;
    let mut keepers = Vec::new();
    for run in journal.keepers(now).await? {
        keepers.extend(journal.state(run).await?);
    }
    let standing = web.service.queue.standing();
    let mut rows = web.rows(&RunFilter::OPEN, None, RUNS).await?;
    rows.reverse();
    let (under_way, queued): (Vec<_>, Vec<_>) = rows.iter().partition(|row| standing.running.contains(&row.run));
    let now_waiting = web.service.queue.hosts.standing(None, now);
    let hosts = hosts(&web, &now_waiting.hosts).await?;
    Ok(show(&LabPage {
        frame: visitor.frame(&web, Section::Lab, "Lab").await?,
        hosts,
        trouble: standing.trouble.as_deref().map(|trouble| text::one_line(trouble, 400)),
        paused: now_waiting.pause.map(|pause| text::one_line(&pause.told(), 400)),
        more_waiting: now_waiting.waiting.len().saturating_sub(WAITING),
        waiting: now_waiting.waiting.into_iter().take(WAITING).map(|one| WaitingLine::of(&one)).collect(),
        under_way: under_way.into_iter().map(|row| web.line(row, now)).collect(),
        queued: queued.into_iter().map(|row| web.line(row, now)).collect(),
        kept: kept(&keepers, now),
        as_of: text::moment(now),
    }))
}

/// The hosts, each as the last controller or pass found it. Nobody has looked at one before its first run.
async fn hosts(web: &Web, hosts: &[OneHost]) -> Result<Vec<HostCard>, Trouble> {
    let mut found: BTreeMap<Name, Controller> = BTreeMap::new();
    for row in web.rows(&RunFilter::ALL, None, 5).await? {
        let Some(state) = web.service.journal.state(row.run).await? else { continue };
        let placed = state.cells.values().flat_map(|cell| &cell.passes).filter_map(|pass| pass.placed.as_deref());
        for placed in placed {
            found.entry(placed.host.clone()).or_insert_with(|| placed.controller.clone());
        }
        if let ([only], Some(last)) = (hosts, state.controllers.last()) {
            found.entry(only.name.clone()).or_insert_with(|| last.clone());
        }
    }
    let several = hosts.len() > 1;
    let card = |host: &OneHost| {
        let Some(Controller { hypervisor, host: report, .. }) = found.get(&host.name) else {
            return several.then(|| HostCard::unseen(host));
        };
        let mut gauges = Vec::new();
        if !several {
            gauges.push(Gauge::of("Memory", memory::available().min(report.memory), report.memory));
            if let Ok(disk) = nix::sys::statvfs::statvfs(&web.service.desk.state.folder) {
                let unit = disk.fragment_size();
                gauges.push(Gauge::of("Disk", disk.blocks_available().saturating_mul(unit), disk.blocks().saturating_mul(unit)));
            }
        }
        let name = if several { format!("{}: {hypervisor}", host.name) } else { hypervisor.clone() };
        let mut card = HostCard::of(&name, report, (host.taken.cores, host.capacity.cores), gauges);
        (card.notice, card.facts) = (HostCard::notice(host), [HostCard::labels(host), card.facts].concat());
        Some(card)
    };
    Ok(hosts.iter().filter_map(card).collect())
}
