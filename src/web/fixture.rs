//! Every page over made-up runs, decisions and people.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::assets;
use super::view::approvals::{ApprovalsPage, Viewer};
use super::view::board::{BoardInput, BoardPage, BoardView, Filter, PatchFacts};
use super::view::cell::{CellPage, CellView};
use super::view::decision::{DecisionInput, DecisionPage, DecisionView};
use super::view::frame::{Frame, May, Notice, Section, Who};
use super::view::lab::{Gauge, HostCard, LabPage, WaitingLine, kept};
use super::view::launch::{Choice, Group, LaunchPage, LaunchView, Preview};
use super::view::lists::{Paging, PatchLine, PatchPage, PatchesPage, RunFacts, RunLine, RunsPage, patch_facts};
use super::view::plain::{ErrorPage, LoginPage};
use super::view::run::{RunPage, RunView};
use super::view::waivers::WaiversPage;
use crate::api::decisions::Row;
use crate::catalog::patch::Severity;
use crate::catalog::policy::{Role, Terms, WaiverRule};
use crate::catalog::text::Span;
use crate::id::{Digest, Name, RunId};
use crate::lab::gate::WaiverView;
use crate::plan::Request;
use crate::report::fixture::{self, Story, name};
use crate::report::html::Sign;
use crate::verdict::Verdict;
use crate::verdict::gate::{
    Act, Approval, ApprovalRecord, DecidedPatch, Decision, Digests, GateFinding, Reason, Rejection, RejectionRecord, Requirement,
    Requirements, Status, Waiver, WaiverRecord,
};

pub fn now() -> Timestamp {
    at(900)
}

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-03-04T09:30:00Z".parse().expect("a moment");
    start + SignedDuration::from_secs(seconds)
}

fn run_id(number: u64) -> RunId {
    RunId::from_parts(1_772_616_600_000 + number, [7; 10])
}

pub fn frame(here: Section, title: &str) -> Frame {
    let who = Who { name: "erika".to_owned(), role: "approver", csrf: "0".repeat(64), may: May { work: true, approve: true } };
    Frame { title: title.to_owned(), here, who: Some(who), waiting: 2, notice: None, assets: assets::version() }
}

fn requirement(what: &str, reason: Reason, message: &str) -> Requirement {
    let run = what.contains('@').then(|| run_id(0));
    Requirement { what: what.to_owned(), reason, message: message.to_owned(), run, from: None, together: Vec::new(), findings: Vec::new() }
}

fn finding(code: &str, case: Option<&str>, waived: bool) -> GateFinding {
    GateFinding {
        code: code.to_owned(),
        case: case.map(str::to_owned),
        fingerprint: Digest::of(code),
        waiver: waived.then(|| Uuid::from_u128(7)),
    }
}

pub fn decision(patch: &str, customer: &str, status: Status, summary: &str) -> Decision {
    let mut requirements = vec![
        requirement("acme.desktop@virtio-bios", Reason::Passed, "7 checks passed in 2 min 34 s"),
        Requirement {
            from: Some(name("umbrella")),
            ..requirement("acme.desktop@virtio-uefi", Reason::Passed, "the same bytes passed for umbrella")
        },
    ];
    match status {
        Status::Rejected => requirements.push(Requirement {
            findings: vec![finding("regression", Some("nginx/tls"), false), finding("kernel-panic", None, false)],
            ..requirement("acme.web@virtio-bios", Reason::Failed, "2 findings: regression, kernel-panic")
        }),
        Status::ApprovedWithWaivers => requirements.push(Requirement {
            findings: vec![finding("regression", Some("nginx/tls"), true)],
            ..requirement("acme.web@virtio-bios", Reason::Waived, "1 finding, waived")
        }),
        Status::Pending => requirements.push(requirement("approval:approver", Reason::Missing, "1 of 2 approvals by an approver")),
        Status::Inconclusive => {
            requirements.push(requirement("acme.web@virtio-uefi", Reason::Errored, "host-disk-full on 2 of 2 attempts"))
        }
        Status::Superseded => requirements.push(requirement("patch", Reason::Superseded, "dsa-5902-nginx takes its place")),
        Status::Expired => {
            requirements.push(requirement("acme.web@virtio-uefi", Reason::Stale, "passed 15 d ago; a verdict is valid for 14 d"))
        }
        Status::Approved => {}
    }
    Decision {
        patch: DecidedPatch { id: name(patch), sha256: Digest::of(patch) },
        customer: name(customer),
        status,
        summary: summary.to_owned(),
        requirements,
        digests: Digests {
            policy: Digest::of("policy"),
            plan: Digest::of("plan"),
            basis: Digest::of("basis"),
            runs: [(run_id(0), Digest::of("plan"))].into(),
        },
        revision: 3,
        is_final: !matches!(status, Status::Pending),
        as_of: at(800),
        until: status.is_open().then(|| at(86_400 * 9)),
        deadline: Some(at(4 * 3600)),
        lane: Some(name("critical")),
        simulated: false,
    }
}

pub fn decisions() -> Vec<Decision> {
    let all = [
        ("dsa-5901-nginx", "acme", Status::Rejected, "1 of 3 cells failed: regression in nginx/tls, kernel-panic"),
        ("dsa-5901-nginx", "umbrella", Status::Approved, "all 6 cells passed"),
        ("dsa-5901-nginx", "contoso", Status::Pending, "all 4 cells passed; 1 of 2 approvals is missing"),
        ("dsa-5903-openssl", "acme", Status::ApprovedWithWaivers, "all 3 cells passed or are waived"),
        ("dsa-5903-openssl", "contoso", Status::Inconclusive, "the lab could not judge 1 of 4 cells: host-disk-full"),
        ("kb-2026-03-rollup", "umbrella", Status::Expired, "passed 15 d ago; a verdict is valid for 14 d"),
        ("av-defs-20260304", "acme", Status::Superseded, "av-defs-20260304b takes its place"),
    ];
    all.into_iter().map(|(patch, customer, status, summary)| decision(patch, customer, status, summary)).collect()
}

pub fn waivers() -> Vec<WaiverView> {
    let act = |by: &str, seconds, reason: &str| Act { by: by.to_owned(), at: at(seconds), reason: reason.to_owned() };
    let one = |id, expires, consented: bool, revoked: bool, by: &str| WaiverView {
        void: None,
        record: WaiverRecord {
            id: Uuid::from_u128(id),
            waiver: Waiver {
                patch: Digest::of("dsa-5901-nginx"),
                customer: name("acme"),
                case: "nginx/tls".to_owned(),
                hardware: Some(name("virtio-bios")),
                fingerprint: Digest::of("regression"),
                expires: at(expires),
                reason: "the front ends of this customer end TLS before nginx; ticket 4711".to_owned(),
            },
            proposed: act(by, 100, ""),
            consented: consented.then(|| act("jonas", 200, "")),
            revoked: revoked.then(|| act("jonas", 300, "nginx is reached directly since Tuesday")),
        },
    };
    vec![
        one(1, 86_400 * 12, true, false, "otto"),
        one(2, 86_400 * 3, false, false, "otto"),
        one(3, 86_400, true, true, "erika"),
        one(4, 60, true, false, "otto"),
    ]
}

fn requirements(story: &Story) -> Requirements {
    Requirements {
        patch: Digest::of("dsa-5901-nginx"),
        patch_id: name("dsa-5901-nginx"),
        customer: name("acme"),
        policy: Terms {
            lane: None,
            valid_for: Span::secs(86_400 * 14),
            deadline: None,
            launcher_may_approve: false,
            accept_from: Vec::new(),
            require: Default::default(),
            approvals: Vec::new(),
            waiver: Some(WaiverRule { cases: vec!["*".to_owned()], longest: Span::secs(86_400 * 7) }),
        },
        policy_digest: Digest::of("policy"),
        plan: Box::new(story.run.plan.clone()),
        deadline: None,
        simulated: false,
        by: "erika".to_owned(),
    }
}

fn run_lines() -> Vec<RunLine> {
    let ends = [None, None, Some(Verdict::Fail), Some(Verdict::Pass), Some(Verdict::Inconclusive)];
    let fact = |(number, verdict): (usize, Option<Verdict>)| RunFacts {
        run: run_id(number as u64),
        patch: Digest::of("dsa-5901-nginx"),
        title: "dsa-5901-nginx".to_owned(),
        customers: vec![name("acme"), name("umbrella")],
        by: "erika (uid 1000)".to_owned(),
        planned: at(600 - 7_000 * number as i64),
        ended: verdict.map(|verdict| (at(800), verdict)),
        working: number == 0,
    };
    ends.into_iter().enumerate().map(|end| RunLine::of(&fact(end), now())).collect()
}

/// The decisions as lists show them.
fn rows() -> Vec<Row> {
    decisions().iter().zip(1..).map(|(decision, seq)| Row::of(decision, seq)).collect()
}

pub fn board() -> BoardPage {
    let decisions = rows();
    let facts: BTreeMap<_, _> = decisions
        .iter()
        .map(|one| {
            let facts = PatchFacts { title: "nginx: security update".to_owned(), severity: Some(Severity::Critical) };
            (one.sha256, facts)
        })
        .collect();
    let counts = decisions.iter().fold(BTreeMap::new(), |mut counts, one| {
        *counts.entry(one.status).or_default() += 1;
        counts
    });
    let customers: Vec<Name> = ["acme", "contoso", "umbrella"].map(name).into();
    let board = BoardView::of(BoardInput {
        decisions: &decisions,
        facts: &facts,
        counts: &counts,
        customers: &customers,
        under_way: run_lines().into_iter().take(2).collect(),
        filter: &Filter::default(),
        paging: Paging { newer: None, older: Some("/?before=7".to_owned()) },
        now: now(),
    });
    BoardPage { frame: frame(Section::Board, "Board"), board }
}

pub fn decision_page(decision: &Decision, story: &Story, said: &str) -> DecisionPage {
    let requirements = requirements(story);
    let approval = ApprovalRecord {
        id: Uuid::from_u128(20),
        approval: Approval {
            patch: decision.patch.sha256,
            customer: decision.customer.clone(),
            revision: 2,
            basis: Digest::of("basis"),
            role: Role::Approver,
            by: "jonas".to_owned(),
            comment: said.to_owned(),
        },
        at: at(700),
        revoked: None,
    };
    let rejection = RejectionRecord {
        id: Uuid::from_u128(21),
        rejection: Rejection {
            patch: decision.patch.sha256,
            customer: decision.customer.clone(),
            by: "otto".to_owned(),
            reason: said.to_owned(),
        },
        at: at(650),
        revoked: Some(Act { by: "otto".to_owned(), at: at(660), reason: said.to_owned() }),
    };
    let earlier = Decision { revision: 2, as_of: at(500), ..super::fixture::decision("x", "acme", Status::Pending, said) };
    let view = DecisionView::of(&DecisionInput {
        decision,
        requirements: Some(&requirements),
        approvals: &[approval],
        rejections: &[rejection],
        waivers: &waivers()[..2],
        history: &[earlier],
        viewer: "erika",
        now: now(),
    });
    DecisionPage { frame: frame(Section::Board, "Decision"), decision: view }
}

pub fn run_page(story: &Story) -> RunPage {
    RunPage { frame: frame(Section::Runs, "Run"), run: story.tell(RunView::of) }
}

pub fn cell_page(story: &Story, at: usize) -> CellPage {
    let id = story.run.plan.cells[at].id.clone();
    let cell = story.tell(|source| CellView::of(source, &id)).expect("a cell of the plan");
    CellPage { frame: frame(Section::Runs, "Cell"), cell }
}

fn patch_line(story: &Story) -> PatchLine {
    let mut decisions = rows();
    decisions.iter_mut().for_each(|one| one.sha256 = story.run.plan.patch.sha256);
    PatchLine::of(story.run.plan.patch.sha256, &story.run.plan.patch.manifest, 1_400_000, &decisions[..3])
}

fn launch(story: &Story) -> LaunchPage {
    let choice = |value: &str, chosen| Choice { value: value.to_owned(), shown: value.to_owned(), chosen };
    let group = |field, legend, values: &[&str]| Group {
        field,
        legend,
        choices: values.iter().map(|value| choice(value, *value == "web")).collect(),
    };
    let request = Request { builds: vec![name("web")], ..Request::default() };
    let view = LaunchView {
        patches: vec![choice("dsa-5901-nginx — nginx: security update (1dce09161a92)", true), choice("dsa-5903-openssl", false)],
        groups: vec![
            group("customer", "Customers", &["acme", "umbrella"]),
            group("build", "Builds", &["desktop", "office-server", "web"]),
            group("environment", "Environments", &["office", "back-office"]),
            group("hardware", "Hardware", &["amd-rome-dell", "virtio-bios", "virtio-uefi"]),
            group("suite", "Suites", &["nginx", "disk", "ssh"]),
        ],
        keep: true,
        preview: Some(Preview::of(&story.run.plan, &request, 12, true, "key".to_owned())),
        problems: vec!["no build has the suite ssh on amd-rome-dell".to_owned()],
    };
    LaunchPage { frame: frame(Section::Launch, "Launch a run"), launch: view }
}

fn waiting() -> WaitingLine {
    let text = |text: &str| text.to_owned();
    WaitingLine { run: run_id(3).to_string(), cell: text("acme.web@virtio-bios"), why: text("it needs 1 of 2 cores, 0 free") }
}

fn lab(story: &Story) -> LabPage {
    let host = &story.run.controllers[0];
    let gauges = vec![Gauge::of("Memory", 3 << 30, 8 << 30), Gauge::of("Disk", 12 << 30, 100 << 30)];
    LabPage {
        frame: frame(Section::Lab, "Lab"),
        hosts: vec![HostCard::of(&host.hypervisor, &host.host, (1, 2), gauges)],
        trouble: Some("no room in /srv/lab/.patchlab".to_owned()),
        paused: Some("the host is paused by ann since 2026-03-04 08:00 UTC: a new disk".to_owned()),
        waiting: vec![waiting()],
        more_waiting: 3,
        under_way: run_lines().into_iter().take(1).collect(),
        queued: run_lines().into_iter().skip(1).take(1).collect(),
        kept: kept(std::slice::from_ref(&story.run), now()),
        as_of: "2026-03-04 09:45:00 UTC".to_owned(),
    }
}

/// Says how long it took: in an unoptimized build, so that only the order of magnitude counts.
pub fn timed<T>(what: &str, make: impl FnOnce() -> T) -> T {
    let begun = std::time::Instant::now();
    let made = make();
    let took = begun.elapsed();
    println!("{what}: {} ms", took.as_millis());
    assert!(took < std::time::Duration::from_secs(5), "{what} took {took:?}");
    made
}

/// Every customer has an answer about every patch.
pub fn large_board(patches: usize, customers: usize) -> BoardPage {
    let summary = "1 of 3 cells failed: regression in nginx/tls, kernel-panic";
    let of = |patch: usize| {
        (0..customers)
            .map(move |one| Row::of(&decision(&format!("patch-{patch}"), &format!("customer-{one}"), Status::Rejected, summary), 1))
    };
    let decisions: Vec<_> = (0..patches).flat_map(of).collect();
    let board = BoardView::of(BoardInput {
        decisions: &decisions,
        facts: &BTreeMap::new(),
        counts: &BTreeMap::new(),
        customers: &[],
        under_way: run_lines(),
        filter: &Filter::default(),
        paging: Paging::default(),
        now: now(),
    });
    BoardPage { frame: frame(Section::Board, "Board"), board }
}

/// Every page over this story, by name.
pub fn pages(story: &Story, said: &str) -> Vec<(&'static str, String)> {
    let render = |page: &dyn askama::DynTemplate| page.dyn_render().expect("a page");
    let viewer = Viewer { name: "erika", role: Role::Approver };
    let all = decisions();
    let manifest = &story.run.plan.patch.manifest;
    let sha256 = story.run.plan.patch.sha256;
    let mut noticed = frame(Section::Waivers, "Waivers");
    noticed.notice = Some(Notice { sign: Sign::Good, text: "The waiver is proposed; a second person has to consent.".to_owned() });
    let mut hostile = decision("dsa-5901-nginx", "acme", Status::Rejected, said);
    hostile.requirements.iter_mut().for_each(|it| it.message = said.to_owned());
    hostile.requirements[2].findings[0].case = Some(said.to_owned());
    let mut records = waivers();
    if !said.is_empty() {
        records.iter_mut().for_each(|view| view.record.waiver.reason = said.to_owned());
    }
    let mut pages = vec![
        ("board", render(&board())),
        ("run", render(&run_page(story))),
        (
            "runs",
            render(&RunsPage {
                frame: frame(Section::Runs, "Runs"),
                runs: run_lines(),
                paging: Paging { newer: Some("/runs".to_owned()), older: Some("/runs?before=12".to_owned()) },
                as_of: "2026-03-04 09:45:00 UTC".to_owned(),
            }),
        ),
        (
            "patches",
            render(&PatchesPage {
                frame: frame(Section::Patches, "Patches"),
                patches: vec![patch_line(story)],
                problems: vec![crate::report::text::one_line(said, 300)],
                paging: Paging::default(),
            }),
        ),
        (
            "patch",
            render(&PatchPage {
                frame: frame(Section::Patches, "Patch"),
                patch: patch_line(story),
                facts: patch_facts(sha256, manifest),
                undecided: vec!["initech".to_owned()],
                runs: run_lines(),
            }),
        ),
        ("approvals", render(&ApprovalsPage::of(frame(Section::Approvals, "Approvals"), &rows(), &records, viewer, now()))),
        ("waivers", render(&WaiversPage::of(noticed, &records, "erika", now()))),
        ("lab", render(&lab(story))),
        ("launch", render(&launch(story))),
        (
            "login",
            render(&LoginPage {
                frame: Frame::outside("Sign in", assets::version()),
                csrf: "0".repeat(64),
                next: "/".to_owned(),
                problem: Some("No token like this is known, or it has expired.".to_owned()),
            }),
        ),
        (
            "error",
            render(&ErrorPage {
                frame: frame(Section::Outside, "Not found"),
                status: 404,
                title: "There is no such run".to_owned(),
                detail: "Expected the id of a run, found something else.".to_owned(),
                ways: vec![("/runs".to_owned(), "All runs"), ("/".to_owned(), "Board")],
            }),
        ),
        ("decision-rejected", render(&decision_page(&hostile, story, said))),
        ("decision-pending", render(&decision_page(&all[2], &fixture::passing(), said))),
    ];
    let cells = ["cell-0", "cell-1", "cell-2", "cell-3"];
    pages.extend(cells.into_iter().zip(0..story.run.plan.cells.len()).map(|(name, at)| (name, render(&cell_page(story, at)))));
    pages
}
