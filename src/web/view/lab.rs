//! The lab itself: what machines run on, how much of it there is, what waits, and which machines are kept by whom.

use askama::Template;
use jiff::Timestamp;

use crate::id::Name;
use crate::journal::{HostReport, RunState};
use crate::lab::scheduler::standing::{OneHost, Waiting};
use crate::report::text;

use super::frame::Frame;
use super::gate::moment;
use super::lists::RunLine;

#[derive(Template)]
#[template(path = "lab.html", config = "src/web/askama.toml")]
pub struct LabPage {
    pub frame: Frame,
    pub hosts: Vec<HostCard>,
    /// Why it can't work at the moment.
    pub trouble: Option<String>,
    /// Who lets no cell start, where somebody does.
    pub paused: Option<String>,
    /// Cells that wait for room, and how many more do.
    pub waiting: Vec<WaitingLine>,
    pub more_waiting: usize,
    pub under_way: Vec<RunLine>,
    pub queued: Vec<RunLine>,
    pub kept: Vec<KeptRun>,
    pub as_of: String,
}

/// A cell that waits, and why.
pub struct WaitingLine {
    pub run: String,
    pub cell: String,
    pub why: String,
}

impl WaitingLine {
    pub fn of(waiting: &Waiting) -> Self {
        Self { run: waiting.run.to_string(), cell: waiting.cell.to_string(), why: text::one_line(&waiting.why, 400) }
    }
}

pub struct HostCard {
    pub name: String,
    pub facts: Vec<(&'static str, String)>,
    /// Machines at work, and how many may be.
    pub slots: (u32, u32),
    /// Why it gets no work, where it does not.
    pub notice: Option<String>,
    /// Bytes used and of all: word, used, all, in words.
    pub gauges: Vec<Gauge>,
}

/// How much of something is used.
pub struct Gauge {
    pub word: &'static str,
    pub used: u64,
    pub all: u64,
    pub told: String,
}

/// A run whose machines were left for a person to look at.
pub struct KeptRun {
    pub run: String,
    pub patch: String,
    /// Who launched it.
    pub by: String,
    pub machines: Vec<KeptMachine>,
    pub release: String,
}

pub struct KeptMachine {
    pub machine: String,
    pub cell: String,
    pub until: String,
    pub look: String,
}

impl HostCard {
    pub fn of(name: &str, host: &HostReport, slots: (u32, u32), gauges: Vec<Gauge>) -> Self {
        Self {
            name: text::one_line(name, 200),
            facts: vec![
                ("Accelerator", format!("{}: {}", text::one_line(&host.accelerator, 40), text::one_line(&host.accelerator_reason, 200))),
                ("QEMU", text::one_line(&host.qemu, 80)),
                ("libvirt", text::one_line(&host.libvirt, 80)),
                ("Kernel", text::one_line(&host.kernel, 80)),
                ("Processors", host.cpus.to_string()),
                ("Memory", gib(host.memory)),
            ],
            slots,
            notice: None,
            gauges,
        }
    }

    /// One that no run has been on yet.
    pub fn unseen(host: &OneHost) -> Self {
        let slots = (host.taken.cores, host.capacity.cores);
        Self { name: host.name.to_string(), facts: Self::labels(host), slots, notice: Self::notice(host), gauges: Vec::new() }
    }

    /// What a host is labelled with, where it is.
    pub fn labels(host: &OneHost) -> Vec<(&'static str, String)> {
        let labels = host.labels.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        if labels.is_empty() { Vec::new() } else { vec![("Labels", text::one_line(&labels, 200))] }
    }

    /// Why a host gets no work, where it does not.
    pub fn notice(host: &OneHost) -> Option<String> {
        let out = host.out.as_ref().map(|why| format!("Out until it has proved itself: {why}"));
        let paused = || host.pause.as_ref().map(|pause| format!("Nothing starts here: {}", pause.told()));
        out.or_else(paused).map(|notice| text::one_line(&notice, 400))
    }
}

impl Gauge {
    pub fn of(word: &'static str, free: u64, all: u64) -> Self {
        let told = format!("{} of {} free", gib(free), gib(all));
        Self { word, used: all.saturating_sub(free), all, told }
    }
}

/// `7.5 GiB`
fn gib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// Those of these runs that keep machines. One whose time is over is kept no more: it is anybody's to remove.
pub fn kept(runs: &[RunState], now: Timestamp) -> Vec<KeptRun> {
    let of = |run: &RunState| {
        let lasts = |machine: &&String| run.leases.get(*machine).is_none_or(|until| now < *until);
        KeptRun {
            run: run.run.to_string(),
            patch: run.plan.patch.manifest.id.to_string(),
            by: text::one_line(&run.by, 80),
            machines: run.kept.iter().filter(lasts).map(|machine| kept_machine(run, machine, now)).collect(),
            release: format!("patchlab release {}", run.run),
        }
    };
    runs.iter().map(of).filter(|run| !run.machines.is_empty()).collect()
}

fn kept_machine(run: &RunState, machine: &str, now: Timestamp) -> KeptMachine {
    let cells = run.plan.cells.iter().filter(|cell| {
        let passes = run.cells.get(&cell.id).map(|record| record.passes.as_slice()).unwrap_or_default();
        passes.iter().any(|pass| cell.machine_names(&pass.machine).iter().any(|name| name == machine))
    });
    KeptMachine {
        machine: text::one_line(machine, 80),
        cell: cells.map(|cell| cell.id.to_string()).next().unwrap_or_default(),
        until: run.leases.get(machine).map(|at| moment(now, *at)).unwrap_or_default(),
        look: format!("patchlab shell {} {}", run.run, text::one_line(machine, 80)),
    }
}
