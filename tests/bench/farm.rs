//! A simulated lab of 50 hosts with 10,000 cells, from the plan in the journal to the verdict in the journal; and one with 1,000 cells.
//!
//! The scheduler knows one host: it is as large as all of them together. Time is virtual and all machines take
//! alike, so that many are at the same point: the events of these go to disk together.

mod fleet;
mod memory;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleet::Fleet;
use jiff::Timestamp;
use patchlab::catalog::patch::PatchKind;
use patchlab::guest::sim::SimGuests;
use patchlab::hypervisor::Hypervisor;
use patchlab::hypervisor::sim::{Scenario, SimHypervisor, World};
use patchlab::id::{Name, RunId};
use patchlab::journal::{Controller, Event, Journal};
use patchlab::lab::baselines::Baselines;
use patchlab::lab::clock::Clock;
use patchlab::lab::desk::DeskError;
use patchlab::lab::evidence::EvidenceStore;
use patchlab::lab::history::History;
use patchlab::lab::scheduler::host::Hosts;
use patchlab::lab::scheduler::room::Room;
use patchlab::lab::sites::{Opener, Site, Sites};
use patchlab::lab::{Lab, RunFiles, Settings, scheduler};
use patchlab::plan::{Request, plan};
use patchlab::verdict::Verdict;
use patchlab::verdict::judge::judge;
use tokio::sync::{broadcast, watch};

/// Cells a second.
const LEAST: f64 = 1500.0;
/// What a cell of the large lab may cost, in those of the small one.
const MOST: f64 = 1.15;
/// The memory at the end, in that when a tenth of the cells had ended.
const MOST_MEMORY: f64 = 1.1;

const HOSTS: usize = 50;
/// Machines at once on each host.
const MACHINES: usize = 16;
const LARGE: Fleet = Fleet { customers: 100, builds: 10, hardware: 10, suites: (10, 1), cases: 4, images: 20, packages: 20 };
const SMALL: Fleet = Fleet { customers: 10, ..LARGE };
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let (mut large, mut small, mut growth) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a real disk");
        small.push(told(&folder.path().join("small"), SMALL).time.as_secs_f64() / SMALL.cells() as f64);
        let told = told(&folder.path().join("large"), LARGE);
        large.push(told.time.as_secs_f64() / LARGE.cells() as f64);
        growth.push(told.growth());
        eprintln!(
            "{} cells in {:.2} s, {} entries, {:.0} MB at the end",
            LARGE.cells(),
            told.time.as_secs_f64(),
            told.entries,
            told.last()
        );
    }
    let [large, small, growth] = [large, small, growth].map(median);
    eprintln!("{:.3} ms a cell of {}, {:.3} ms of {}, medians of {ROUNDS}", large * 1e3, LARGE.cells(), small * 1e3, SMALL.cells());
    let mut good = true;
    let mut say = |text: String, ok: bool| {
        good &= ok;
        println!("{text}: {}", if ok { "ok" } else { "short" });
    };
    let (rate, ratio) = (1.0 / large, large / small);
    say(format!("farm {rate:.0} cells a second on {HOSTS} hosts of {MACHINES} machines, at least {LEAST:.0}"), rate >= LEAST);
    say(format!("farm-scale {ratio:.2} of the cost of a cell among 1,000 for one among 10,000, at most {MOST:.2}"), ratio <= MOST);
    let text = format!("farm-memory {growth:.2} of what it was when a tenth had ended, at most {MOST_MEMORY:.2}");
    say(text, growth <= MOST_MEMORY);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A run that was told.
struct Told {
    time: Duration,
    entries: u64,
    /// MB, at even distances from the first cell on.
    memory: Vec<f64>,
}

impl Told {
    fn last(&self) -> f64 {
        *self.memory.last().expect("a sample")
    }

    fn growth(&self) -> f64 {
        self.last() / self.memory[self.memory.len() / 10]
    }
}

/// One line of machines, as large as the hosts together: nothing is opened.
struct NoOther;

#[async_trait]
impl Opener for NoOther {
    async fn open(&self, host: &Name) -> Result<Site, DeskError> {
        Err(DeskError::Fault(format!("there is no host {host}")))
    }
}

fn told(state: &Path, fleet: Fleet) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(tell(state, fleet))
}

async fn tell(state: &Path, fleet: Fleet) -> Told {
    let patch = fleet::patch(PatchKind::Script);
    let plan = plan(&Request::default(), &fleet.catalog(), &fleet.sealed(), &patch).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(plan.cells.len(), fleet.cells());
    std::fs::create_dir(state).expect("a folder");
    let world = World::new(Scenario::parse("[pace]\njitter = 0").expect("a scenario"));
    let journal = Journal::open(&state.join("journal.sqlite")).await.expect("a journal");
    let (_cancel, cancelled) = watch::channel(false);
    let hypervisor = Arc::new(SimHypervisor::new(world.clone(), "lab-00000001"));
    let host = hypervisor.host().await.expect("a simulated host");
    let controller = Controller { patchlab: "bench".to_owned(), hypervisor: "sim".to_owned(), host };
    let farm: Name = "farm".parse().expect("a name");
    let lab = Lab {
        hypervisor: hypervisor.clone(),
        guests: Arc::new(SimGuests::new(world)),
        journal: journal.clone(),
        clock: Clock::starting_at(Timestamp::UNIX_EPOCH),
        evidence: EvidenceStore::open(state).expect("a store"),
        history: Arc::new(History::default()),
        baselines: Baselines::new(&controller),
        templates: None,
        emulated: false,
        id: "lab-00000001".to_owned(),
        settings: Settings::default(),
        hosts: Hosts::new(vec![(farm.clone(), Room::cores(HOSTS as u32 * MACHINES as u32))], None),
        sites: Arc::new(Sites::new(vec![farm], Box::new(NoOther))),
        placed: None,
        lanes: Arc::default(),
        activity: broadcast::channel(16).0,
        cancelled,
    };
    let images = plan.machines().map(|machine| (machine.image.sha256, "/nonexistent".into())).collect();
    let run = RunId::from_parts(1, [1; 10]);
    let started = Instant::now();
    let event = Event::RunPlanned { plan_digest: plan.digest(), plan: Box::new(plan), by: "bench".to_owned(), bundle: None };
    journal.append(run, lab.clock.now(), event).await.expect("appended");
    journal.append(run, lab.clock.now(), Event::RunTaken { controller }).await.expect("appended");
    let planned = journal.state(run).await.expect("a journal").expect("a run");
    let sampler = Sampler::start();
    let verdict = scheduler::work(&lab, &planned, RunFiles { images, ..RunFiles::default() }).await.expect("a journal that can be written");
    let time = started.elapsed();
    let memory = sampler.end();
    assert_eq!(verdict, Verdict::Pass);
    let entries = journal.head().await.expect("a head");
    drop(planned);
    if fleet.cells() == SMALL.cells() {
        journal.verify().await.expect("a sound chain");
        let state = journal.state(run).await.expect("a journal").expect("a run");
        assert_eq!(judge(&state).verdict, verdict, "whoever reads the journal finds the same");
    }
    Told { time, entries, memory }
}

/// Looks at the memory from a thread of its own.
struct Sampler {
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<f64>>,
}

impl Sampler {
    fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let watched = ended.clone();
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            while !watched.load(Ordering::Relaxed) {
                samples.push(memory::of("VmRSS:"));
                thread::sleep(Duration::from_millis(20));
            }
            samples.push(memory::of("VmRSS:"));
            samples
        });
        Self { ended, thread }
    }

    fn end(self) -> Vec<f64> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sampler ends")
    }
}
