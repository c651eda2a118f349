//! Runs to report on, built by hand: one for each kind of ending, and one whose guest is hostile.

mod environment;
mod parts;

use std::collections::BTreeMap;

use crate::cell::cause::{BootPhase, Evidence};
use crate::cell::{Anew, CaseObservation, CaseOutcome, Cause, Origin, Pass, Point, Stage, StageOutcome, Trouble};
use crate::id::{CellId, Digest, Name, RunId};
use crate::journal::{CellRecord, RunState};
use crate::plan::{Plan, PlannedCell};
use crate::verdict::baselines::Expected;
use crate::verdict::{CaseJudgement, CellJudgement, Comparison, Fault, Finding, Judgement, Verdict};

use super::Source;

pub const DIFF: &str = "--- listening before the patch\n+++ listening after the patch\n@@ -1,4 +1,4 @@\n tcp 0.0.0.0:22   sshd\n-tcp 0.0.0.0:80   nginx\n-tcp 0.0.0.0:443  nginx\n+tcp 0.0.0.0:8080 nginx\n udp 0.0.0.0:68   systemd-networkd\n";
pub const CONSOLE: &str = "[    1.204417] EXT4-fs (vda2): mounted filesystem with ordered data mode\r\n[\u{1b}[0;32m  OK  \u{1b}[0m] Reached target Local File Systems.\r\n[    2.917730] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n[    2.918001] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0-99-amd64 #1\r\n";

/// A run, what it was judged to mean, and its kept files.
pub struct Story {
    pub run: RunState,
    pub judgement: Judgement,
    pub files: BTreeMap<Digest, Vec<u8>>,
}

impl Story {
    pub fn tell<T>(&self, with: impl FnOnce(&Source<'_>) -> T) -> T {
        let evidence = |digest: &Digest| self.files.get(digest).cloned();
        with(&Source { run: &self.run, judgement: &self.judgement, evidence: &evidence })
    }
}

pub use environment::environment;
pub(crate) use parts::name;
use parts::{at, controller, pass, plan};

const HEALTH: [&str; 6] = ["failed-units", "listening", "packages", "files", "disk-space", "kernel-log"];

pub fn judged(suite: &Name, case: &Name, comparison: Comparison) -> CaseJudgement {
    use CaseOutcome::{Fail, Pass, Skip};
    let (baseline, patched, message) = match comparison {
        Comparison::Unchanged => (Some(Pass), Some(Pass), ""),
        Comparison::Regression => (Some(Pass), Some(Fail), "passed before the patch, fails after it: exit code 1"),
        Comparison::Fixed => (Some(Fail), Some(Pass), "failed before the patch, passes after it"),
        Comparison::PreExisting => (Some(Fail), Some(Fail), "fails before and after: exit code 2"),
        Comparison::ChangedFailure => (Some(Fail), Some(Fail), "fails in another way than before"),
        Comparison::Flaky => (Some(Pass), Some(Fail), "failed on 1 of 3 clones"),
        Comparison::New => (Some(Skip), Some(Pass), "could not run before"),
        Comparison::Missing => (Some(Pass), None, "no result after the patch"),
        Comparison::Skipped => (Some(Skip), Some(Skip), "needs openssl, which is not there"),
    };
    let detail = if patched == Some(Fail) { "curl: (7) Failed to connect to 127.0.0.1 port 443\n".to_owned() } else { String::new() };
    let took = |outcome: Option<CaseOutcome>| outcome.map(|_| 1_240);
    CaseJudgement {
        suite: suite.clone(),
        case: case.clone(),
        baseline,
        patched,
        comparison,
        message: message.to_owned(),
        detail,
        baseline_ms: took(baseline),
        patched_ms: took(patched),
        baseline_from: None,
    }
}

fn cell_judgement(cell: &PlannedCell, odd: &[(&str, Comparison)], verdict: Verdict) -> CellJudgement {
    let health = HEALTH.iter().map(|check| (name("health"), name(check)));
    let planned = cell.cases().map(|(suite, case)| (suite.name.clone(), case.name.clone()));
    let compare = |suite: &Name, case: &Name| {
        let full = format!("{suite}/{case}");
        odd.iter().find(|(known, _)| *known == full).map_or(Comparison::Unchanged, |(_, comparison)| *comparison)
    };
    let cases = health.chain(planned).map(|(suite, case)| judged(&suite, &case, compare(&suite, &case))).collect();
    CellJudgement { id: cell.id.clone(), verdict, cases, findings: Vec::new(), faults: Vec::new(), notes: Vec::new() }
}

/// Everything passes; a known failure and a fixed one, and a fault that a second attempt made up for.
pub fn passing() -> Story {
    let plan = plan();
    let mut cells = BTreeMap::new();
    let mut judgements = Vec::new();
    for (index, cell) in plan.cells.iter().enumerate() {
        let cold = cell.second_cold_boot();
        let from = 5 + 160 * i64::try_from(index).expect("few cells");
        cells.insert(cell.id.clone(), CellRecord { passes: vec![pass(&cell.id, Pass::Main, 1, from, None, cold)], ended: true });
        judgements.push(cell_judgement(cell, &[], Verdict::Pass));
    }
    judgements[3] = cell_judgement(
        &plan.cells[3],
        &[("nginx/reload", Comparison::PreExisting), ("disk/survives-reboot", Comparison::Fixed), ("nginx/tls", Comparison::Skipped)],
        Verdict::Pass,
    );
    judgements[3].notes.push("rolled back by the image: packages of kind deb can be downgraded only by hand".to_owned());
    let trouble = Trouble::new(Cause::EmulatorDied, "qemu-system-x86_64 ended with signal 9 while the machine booted");
    let first = pass(&plan.cells[1].id, Pass::Main, 1, 165, Some((Stage::Boot, trouble.clone())), true);
    let second = pass(&plan.cells[1].id, Pass::Main, 2, 200, None, true);
    cells.insert(plan.cells[1].id.clone(), CellRecord { passes: vec![first, second], ended: true });
    judgements[1].faults.push(Fault {
        code: "emulator-died".to_owned(),
        message: trouble.message,
        stage: Some(Stage::Boot),
        case: None,
        recovered: true,
        detail: String::new(),
        evidence: Vec::new(),
    });
    let expected = expected(&plan.cells[2]);
    let reused = judgements[2].cases.iter_mut().find(|case| case.case.as_str() == "serves-pages").expect("the case");
    reused.baseline_from = expected.reused[0].origin.as_deref().cloned();
    let record = cells.get_mut(&plan.cells[2].id).expect("the cell");
    record.passes[0].anew = expected.anew;
    record.passes[0].cases.extend(expected.reused);
    story(plan, cells, judgements, Some(Verdict::Pass))
}

/// One case of the web server's has its baseline from an earlier run.
pub fn expected(cell: &PlannedCell) -> Expected {
    let seen = CaseObservation {
        suite: name("nginx"),
        case: name("serves-pages"),
        point: Point::Baseline,
        outcome: CaseOutcome::Pass,
        elapsed_ms: 1_240,
        message: String::new(),
        detail: String::new(),
        fingerprint: None,
        skipped: Vec::new(),
        notes: Vec::new(),
        evidence: Vec::new(),
        origin: None,
    };
    let run = RunId::from_parts(1_772_530_200_000, [5; 10]);
    let origin = Origin { run, cell: cell.id.clone(), attempt: 1, at: at(-86_000), sha256: Digest::of_json(&seen) };
    let anew = [("tls", "its last outcome but a pass was fail, in another run"), ("reload", "not said to leave nothing")];
    let anew = anew.map(|(case, why)| Anew { suite: name("nginx"), case: name(case), why: why.to_owned() });
    Expected { cell: cell.id.clone(), reused: vec![CaseObservation { origin: Some(Box::new(origin)), ..seen }], anew: anew.into() }
}

fn story(plan: Plan, cells: BTreeMap<CellId, CellRecord>, judgements: Vec<CellJudgement>, ended: Option<Verdict>) -> Story {
    let run = RunState {
        bundle: None,
        run: RunId::from_parts(1_772_616_600_000, [7; 10]),
        plan_digest: plan.digest(),
        plan,
        by: "erika (uid 1000)".to_owned(),
        planned: at(0),
        controllers: vec![controller()],
        cells,
        ended: ended.map(|verdict| (at(742), verdict)),
        kept: Vec::new(),
        past: Vec::new(),
        called_off: None,
        leases: BTreeMap::new(),
    };
    let judgement = Judgement { verdict: ended.unwrap_or(Verdict::Inconclusive), finished: ended.is_some(), cells: judgements };
    Story { run, judgement, files: BTreeMap::new() }
}

/// The web server loses its port on BIOS, and does not boot on UEFI.
pub fn failing() -> Story {
    let mut story = passing();
    let web = story.run.plan.cells[2].clone();
    let mut cell =
        cell_judgement(&web, &[("health/listening", Comparison::Regression), ("nginx/tls", Comparison::Regression)], Verdict::Fail);
    for (case, message, detail) in [
        ("health/listening", "2 listening ports are gone and 1 is new after apply", DIFF),
        ("nginx/tls", "passed before the patch, fails after it: exit code 7", "curl: (7) Failed to connect to 127.0.0.1 port 443\n"),
    ] {
        cell.findings.push(Finding {
            code: "regression".to_owned(),
            message: message.to_owned(),
            stage: None,
            case: Some(case.to_owned()),
            confirmed: (2, 2),
            detail: detail.to_owned(),
            evidence: Vec::new(),
            fingerprint: Digest::of(message),
        });
    }
    cell.cases.iter_mut().filter(|case| case.case.as_str() == "listening").for_each(|case| case.detail = DIFF.to_owned());
    story.judgement.cells[2] = cell;
    let record = story.run.cells.get_mut(&web.id).expect("the cell");
    record.passes.push(pass(&web.id, Pass::Confirm { number: 1 }, 1, 460, None, false));
    record.passes.push(pass(&web.id, Pass::Confirm { number: 2 }, 1, 600, None, false));
    record.passes[0].cases.push(CaseObservation {
        suite: name("nginx"),
        case: name("tls"),
        point: Point::Applied,
        outcome: CaseOutcome::Fail,
        elapsed_ms: 1_240,
        message: "exit code 7".to_owned(),
        detail: String::new(),
        fingerprint: Some(Digest::of("curl 7")),
        skipped: Vec::new(),
        notes: Vec::new(),
        evidence: Vec::new(),
        origin: None,
    });
    no_boot(&mut story);
    story.run.ended = Some((at(742), Verdict::Fail));
    story.judgement.verdict = Verdict::Fail;
    story
}

fn no_boot(story: &mut Story) {
    let uefi = story.run.plan.cells[3].clone();
    let screen = story.keep("screenshot", screenshot());
    let console = story.keep("console", CONSOLE.as_bytes().to_vec());
    let message = "the machine came up before the patch in 24 s; after it the kernel panicked: VFS: Unable to mount root fs";
    let mut trouble = Trouble::new(Cause::KernelPanic, message).with_detail(CONSOLE);
    trouble.evidence = vec![console, screen];
    let failed = pass(&uefi.id, Pass::Main, 1, 310, Some((Stage::ColdBoot, trouble.clone())), true);
    story.run.kept.push(failed.machine.clone());
    story.run.cells.insert(uefi.id.clone(), CellRecord { passes: vec![failed], ended: true });
    let mut cell = cell_judgement(&uefi, &[("disk/survives-reboot", Comparison::Missing)], Verdict::Fail);
    cell.findings.push(Finding {
        code: "kernel-panic".to_owned(),
        fingerprint: Digest::of(&trouble.message),
        message: trouble.message,
        stage: Some(Stage::ColdBoot),
        case: None,
        confirmed: (1, 2),
        detail: trouble.detail,
        evidence: trouble.evidence,
    });
    cell.faults.push(Fault {
        code: "missing".to_owned(),
        message: "disk/survives-reboot gave no result after the patch: the machine was gone".to_owned(),
        stage: None,
        case: Some("disk/survives-reboot".to_owned()),
        recovered: false,
        detail: String::new(),
        evidence: Vec::new(),
    });
    story.judgement.cells[3] = cell;
}

impl Story {
    fn keep(&mut self, name: &str, bytes: Vec<u8>) -> Evidence {
        let evidence = Evidence { name: name.to_owned(), sha256: Digest::of(&bytes), size: bytes.len() as u64 };
        self.files.insert(evidence.sha256, bytes);
        evidence
    }
}

fn screenshot() -> Vec<u8> {
    let (width, height) = (320, 200);
    let lit = |x, y| (y / 8) % 2 == 0 && y < 120 && (x * 7 + y / 8 * 13) % 11 < 6 && x < 260;
    let pixels: Vec<u8> =
        (0..height).flat_map(|y| (0..width).flat_map(move |x| if lit(x, y) { [190, 190, 190] } else { [0, 0, 40] })).collect();
    let mut picture = Vec::new();
    let mut encoder = png::Encoder::new(&mut picture, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&pixels).and_then(|()| writer.finish()).expect("a picture");
    picture
}

/// Out of disk on the host, no boot before the patch, and a flaky case.
pub fn inconclusive() -> Story {
    let mut story = passing();
    let (desktop, web) = (story.run.plan.cells[0].clone(), story.run.plan.cells[2].clone());
    let trouble = Trouble::new(Cause::HostDiskFull, "no room for the overlay in /srv/lab/.patchlab: 12 MB free, 2 GB needed");
    let attempts = [(1, 5), (2, 9)].map(|(n, from)| pass(&desktop.id, Pass::Main, n, from, Some((Stage::Clone, trouble.clone())), false));
    story.run.cells.insert(desktop.id.clone(), CellRecord { passes: attempts.into(), ended: true });
    let every: Vec<_> = HEALTH.iter().map(|check| format!("health/{check}")).chain(["ssh/login".to_owned()]).collect();
    let missing: Vec<_> = every.iter().map(|case| (case.as_str(), Comparison::Missing)).collect();
    let mut cell = cell_judgement(&desktop, &missing, Verdict::Inconclusive);
    cell.cases.iter_mut().for_each(|case| (case.baseline, case.baseline_ms) = (None, None));
    cell.faults.push(Fault {
        code: "host-disk-full".to_owned(),
        message: trouble.message,
        stage: Some(Stage::Clone),
        case: None,
        recovered: false,
        detail: String::new(),
        evidence: Vec::new(),
    });
    story.judgement.cells[0] = cell;
    let stalled = Trouble::new(Cause::BootStalled { reached: BootPhase::BootLoader }, "no sign of a kernel within 90 s");
    let uefi = story.run.plan.cells[1].clone();
    let passes = [(1, 165), (2, 200)].map(|(n, from)| pass(&uefi.id, Pass::Main, n, from, Some((Stage::Boot, stalled.clone())), true));
    story.run.cells.insert(uefi.id.clone(), CellRecord { passes: passes.into(), ended: true });
    let mut cell = cell_judgement(&uefi, &missing, Verdict::Inconclusive);
    cell.faults.push(Fault {
        code: "boot-stalled".to_owned(),
        message: "no sign of a kernel within 90 s, on 2 of 2 attempts, before the patch".to_owned(),
        stage: Some(Stage::Boot),
        case: None,
        recovered: false,
        detail: "GRUB loading.\nerror: no such device: root.\ngrub rescue> ".to_owned(),
        evidence: Vec::new(),
    });
    story.judgement.cells[1] = cell;
    let mut cell = cell_judgement(&web, &[("nginx/reload", Comparison::Flaky)], Verdict::Inconclusive);
    cell.faults.push(Fault {
        code: "flaky".to_owned(),
        message: "failed on 1 of 3 clones; it says nothing until it says the same each time".to_owned(),
        stage: None,
        case: Some("nginx/reload".to_owned()),
        recovered: false,
        detail: String::new(),
        evidence: Vec::new(),
    });
    story.judgement.cells[2] = cell;
    story.run.ended = Some((at(742), Verdict::Inconclusive));
    story.judgement.verdict = Verdict::Inconclusive;
    story
}

/// The controller is at the second cell; the first is done, the others wait.
pub fn unfinished() -> Story {
    let mut story = passing();
    let ids: Vec<_> = story.run.plan.cells.iter().map(|cell| cell.id.clone()).collect();
    let mut under_way = pass(&ids[1], Pass::Main, 1, 165, None, true);
    under_way.stages.truncate(4);
    under_way.stages[3].ended = None;
    under_way.ended = false;
    story.run.cells.insert(ids[1].clone(), CellRecord { passes: vec![under_way], ended: false });
    for id in &ids[2..] {
        story.run.cells.insert(id.clone(), CellRecord::default());
    }
    story.run.ended = None;
    story.judgement.finished = false;
    story.judgement.verdict = Verdict::Inconclusive;
    // The judge speaks of the cell under way; those that wait are known from the plan alone.
    let planned = story.run.plan.cells[1].clone();
    let missing: Vec<_> = ["ssh/login", "health/listening", "health/files"].iter().map(|case| (*case, Comparison::Missing)).collect();
    story.judgement.cells.truncate(1);
    story.judgement.cells.push(cell_judgement(&planned, &missing, Verdict::Inconclusive));
    story
}

/// The failing run, with everything a guest can say replaced by this.
pub fn saying(text: &str) -> Story {
    let mut story = failing();
    story.run.plan.patch.manifest.title = text.to_owned();
    story.run.by = text.to_owned();
    for difference in
        story.run.plan.cells.iter_mut().flat_map(|cell| &mut cell.machines).flat_map(|machine| &mut machine.hardware.profile.differences)
    {
        (difference.device, difference.production, difference.lab) = (text.to_owned(), text.to_owned(), text.to_owned());
    }
    for cell in &mut story.judgement.cells {
        for case in &mut cell.cases {
            (case.message, case.detail) = (text.to_owned(), text.to_owned());
        }
        for finding in &mut cell.findings {
            (finding.message, finding.detail) = (text.to_owned(), text.to_owned());
        }
        for fault in &mut cell.faults {
            (fault.message, fault.detail) = (text.to_owned(), text.to_owned());
        }
        cell.notes.push(text.to_owned());
    }
    let stages = story.run.cells.values_mut().flat_map(|cell| &mut cell.passes).flat_map(|pass| &mut pass.stages);
    for stage in stages {
        match &mut stage.ended {
            Some((_, StageOutcome::Failed { trouble })) => (trouble.message, trouble.detail) = (text.to_owned(), text.to_owned()),
            Some((_, StageOutcome::Skipped { reason })) => *reason = text.to_owned(),
            _ => {}
        }
    }
    story
}

/// Everything that has ever broken a report.
pub const HOSTILE: &str = "]]>\u{1b}[31m\u{1b}]0;owned\u{7}\0<script>alert(1)</script><!-- --> \u{202e}txt.exe\u{202c} & \"quoted\" 'x' \u{fffe}\u{ffff} \u{9b}2J ``` | [a](http://evil.example) @everyone ~~~\r\n<img src=x onerror=alert(2)>\n+++ a\n--- b\n@@ -1 +1 @@\n</details></pre>{{ 7*7 }}";

/// The hostile text, and a line of 5 MB.
pub fn hostile() -> Story {
    let mut story = saying(HOSTILE);
    let line = format!("{HOSTILE}\n{}", "A<".repeat(2_500_000));
    story.judgement.cells[2].findings[0].detail = line.clone();
    story.judgement.cells[2].cases[1].detail = line;
    story
}
