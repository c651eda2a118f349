//! Tells one run on the simulator from beginning to end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::catalog::image::Os;
use patchlab::catalog::patch::{Patch, PatchKind, Reboot};
use patchlab::catalog::step::Step;
use patchlab::catalog::suite::Case;
use patchlab::catalog::text::Span;
use patchlab::cell::{Pass, Stage, StageOutcome};
use patchlab::guest::sim::SimGuests;
use patchlab::hypervisor::Hypervisor;
use patchlab::hypervisor::sim::{Scenario, SimHypervisor, World};
use patchlab::id::{CellId, Digest, Name, RunId};
use patchlab::journal::projection::RunFilter;
use patchlab::journal::{Controller, Event, Journal, Placed, RunState};
use patchlab::lab::baselines::Baselines;
use patchlab::lab::clock::Clock;
use patchlab::lab::desk::DeskError;
use patchlab::lab::evidence::EvidenceStore;
use patchlab::lab::history::History;
use patchlab::lab::scheduler::host::Hosts;
use patchlab::lab::scheduler::room::Room;
use patchlab::lab::sites::{Opener, Site, Sites};
use patchlab::lab::templates::{Limits, Templates};
use patchlab::lab::{Lab, RunFiles, Settings, reaper, scheduler};
use patchlab::plan::{
    Package, PayloadFacts, Plan, PlannedCell, PlannedHardware, PlannedImage, PlannedMachine, PlannedNic, PlannedPatch, PlannedSegment,
    PlannedSuite, Shared, Subject, VERSION,
};
use patchlab::report::files::kept_files;
use patchlab::verdict::judge::judge;
use patchlab::verdict::trend::Past;
use patchlab::verdict::{Comparison, Judgement};
use tokio::sync::{broadcast, watch};

pub fn name(text: &str) -> Name {
    text.parse().expect("a good name")
}

/// A script patch that can be verified and taken back.
pub fn script_patch(reboot: Reboot) -> PlannedPatch {
    let manifest = Patch {
        id: name("sample"),
        title: "a patch".to_owned(),
        kind: PatchKind::Script,
        payload: vec!["install.sh".to_owned()],
        reboot,
        vendor: None,
        severity: None,
        cves: Vec::new(),
        supersedes: Vec::new(),
        requires: Vec::new(),
        install: Some("./install.sh".to_owned()),
        uninstall: Some("./install.sh --undo".to_owned()),
        verify: Some("./install.sh --verify".to_owned()),
        timeout: Span::secs(600),
        files: Vec::new(),
        root: None,
        strip: None,
        removes: Vec::new(),
        changes: Vec::new(),
    };
    PlannedPatch { sha256: Digest::of("sample"), manifest, facts: PayloadFacts::default(), brings: false }
}

/// A patch of one package.
pub fn deb_patch() -> PlannedPatch {
    let script = script_patch(Reboot::Auto);
    let manifest = Patch { kind: PatchKind::Deb, install: None, uninstall: None, verify: None, ..script.manifest };
    let text = |text: &str| text.to_owned();
    let package = Package { name: text("nginx"), version: text("1.22.1-9+deb12u9"), architecture: text("amd64"), file: text("nginx.deb") };
    PlannedPatch { facts: PayloadFacts { packages: vec![package], ..PayloadFacts::default() }, manifest, ..script }
}

pub fn case(text: &str, destructive: bool) -> Case {
    Case {
        name: name(text),
        title: String::new(),
        run: Some(format!("{text}.sh")),
        steps: Vec::new(),
        result: Default::default(),
        time_limit: Span::secs(60),
        role: None,
        needs: Vec::new(),
        destructive,
        leaves_nothing: false,
        autopkgtest: None,
    }
}

fn machine(role: &str, hardware: impl Into<Shared<PlannedHardware>>) -> PlannedMachine {
    let image = PlannedImage { name: name("acme-web"), sha256: Digest::of("image") };
    let services = vec!["nginx.service".to_owned()];
    PlannedMachine { services: services.into(), ..PlannedMachine::alone(name(role), name("web"), Os::Debian, image, hardware.into()) }
}

pub fn plan(patch: PlannedPatch) -> Plan {
    let plain = Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    let profile = Hardware { second_cold_boot: true, ..plain };
    let suite = PlannedSuite {
        name: name("web"),
        sha256: Digest::of("web"),
        cast: Default::default(),
        cases: vec![case("pages", false), case("tls", false), case("crash", true)],
        packages: Vec::new(),
    };
    let cell = PlannedCell {
        id: CellId::new(&name("acme"), &name("web"), &name("virtio-bios")),
        customer: name("acme"),
        subject: Subject::Build(name("web")),
        machines: vec![machine("server", PlannedHardware { name: name("virtio-bios"), sha256: Digest::of_json(&profile), profile })],
        segments: Vec::new(),
        suites: vec![suite.into()],
        confirmations: 1,
        attempts: 2,
        baseline_valid_for: Span::secs(0),
        host_labels: Default::default(),
    };
    Plan { version: VERSION, patch, beside: Vec::new(), cells: vec![cell], excluded: Vec::new(), lint: Vec::new() }
}

/// A server and a client on one segment, at each patch level.
fn environment_plan(patch: PlannedPatch) -> Plan {
    let single = plan(patch);
    let hardware = single.cells[0].machines[0].hardware.clone();
    let profile = Hardware { second_cold_boot: false, ..hardware.profile.clone() };
    let hardware = PlannedHardware { sha256: Digest::of_json(&profile), profile, ..(*hardware).clone() };
    let step = |role: &str| Step { role: Some(name(role)), ..Step::default() };
    let page = vec![
        Step { run: Some("own-page.sh".to_owned()), ..step("server") },
        Step { run: Some("front-page.sh".to_owned()), ..step("client") },
    ];
    let stream = vec![
        Step { start: Some("listen.sh".to_owned()), name: Some(name("listener")), ready: true, ..step("server") },
        Step { network: Some("delay client 10ms".parse().expect("a disturbance")), ..Step::default() },
        Step { expect: Some("send.sh".to_owned()), ..step("client") },
        Step { stop: Some(name("listener")), ..Step::default() },
    ];
    let with_steps = |text: &str, steps| Case { run: None, steps, ..case(text, false) };
    let suite = PlannedSuite {
        name: name("http"),
        sha256: Digest::of("http"),
        cast: Default::default(),
        cases: vec![with_steps("page", page), with_steps("stream", stream)],
        packages: Vec::new(),
    };
    let nic = |last| vec![PlannedNic { segment: name("lan"), address: [10, 77, 1, last].into() }];
    let cell = |level: &str| {
        let patched = |role: &str| level == "all" || level == role;
        let server = PlannedMachine { nics: nic(1), patched: patched("server"), ..machine("server", hardware.clone()) };
        let client = PlannedMachine { nics: nic(2), patched: patched("client"), ..machine("client", hardware.clone()) };
        PlannedCell {
            id: CellId::of_level(&name("acme"), &name("office"), "virtio-bios", level),
            subject: Subject::Environment(name("office")),
            machines: vec![server, client],
            segments: vec![PlannedSegment { name: name("lan"), subnet: "10.77.1.0/24".parse().expect("a subnet") }],
            suites: vec![suite.clone().into()],
            ..single.cells[0].clone()
        }
    };
    Plan { cells: ["client", "server", "all"].map(cell).to_vec(), ..single }
}

/// A lab of one host, which is open, asks nobody for it.
struct Nowhere;

#[async_trait::async_trait]
impl Opener for Nowhere {
    async fn open(&self, host: &Name) -> Result<Site, DeskError> {
        Err(DeskError::asked(format!("{host} is not asked for")))
    }
}

/// A run to be told.
pub struct Story {
    pub plan: Plan,
    past: Vec<Past>,
    scenario: String,
    dies_after: Option<usize>,
    emulated: bool,
    cold: bool,
    fresh_baselines: bool,
    room: Room,
    hosts: Vec<SimHost>,
}

/// One of several hosts.
#[derive(Clone)]
pub struct SimHost {
    pub name: &'static str,
    pub scenario: String,
    pub room: Room,
    /// How often it can't be reached before it can.
    pub away: u32,
    pub labels: &'static [&'static str],
}

impl SimHost {
    pub fn new(name: &'static str, scenario: &str) -> Self {
        Self { name, scenario: scenario.to_owned(), room: Room::cores(2), away: 0, labels: &[] }
    }
}

/// Opens simulated hosts, each of which has a world of its own.
struct SimHosts {
    worlds: Vec<(Name, Arc<World>, AtomicU32)>,
    clock: Clock,
}

#[async_trait::async_trait]
impl Opener for SimHosts {
    async fn open(&self, host: &Name) -> Result<Site, DeskError> {
        let (_, world, away) = self.worlds.iter().find(|(name, ..)| name == host).expect("a host");
        if away.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(DeskError::Fault("no route to it".to_owned()));
        }
        let hypervisor = Arc::new(SimHypervisor::new(world.clone(), "lab-00000001"));
        let controller = Controller { patchlab: "test".to_owned(), hypervisor: format!("sim:{host}"), host: hypervisor.host().await? };
        Ok(Site {
            hypervisor,
            guests: Arc::new(SimGuests::new(world.clone())),
            clock: self.clock,
            baselines: Baselines::new(&controller),
            controller,
            history: Arc::new(History::default()),
            templates: None,
            emulated: false,
            room: None,
        })
    }
}

/// A lab in which runs are told one after the other, each in a world of its own.
pub struct Bench {
    state: tempfile::TempDir,
    told: std::cell::Cell<u8>,
    /// When the next one begins.
    pub now: Timestamp,
}

impl Bench {
    pub fn new() -> Self {
        Self { state: tempfile::tempdir().expect("a folder"), told: std::cell::Cell::new(0), now: Timestamp::UNIX_EPOCH }
    }

    pub fn tell(&self, story: Story) -> Told {
        self.told.set(self.told.get() + 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(story.tell(self.state.path(), RunId::from_parts(u64::from(self.told.get()), [1; 10]), self.now))
    }
}

/// A run that was told.
pub struct Told {
    pub judgement: Judgement,
    pub state: RunState,
    /// Machines that nobody owns and that are still there, and drafts of templates.
    pub left: Vec<String>,
    /// How many entries the journal has, and what they say.
    pub entries: usize,
    pub journal: Vec<String>,
    /// The kept files: where a report puts each, and what it says.
    pub files: Vec<(String, String)>,
}

impl Story {
    pub fn new(patch: PlannedPatch) -> Self {
        Self::of(plan(patch))
    }

    pub fn of_environment(patch: PlannedPatch) -> Self {
        Self::of(environment_plan(patch))
    }

    fn of(plan: Plan) -> Self {
        Self {
            plan,
            past: Vec::new(),
            scenario: String::new(),
            dies_after: None,
            emulated: false,
            cold: false,
            fresh_baselines: false,
            room: Room::cores(1),
            hosts: Vec::new(),
        }
    }

    /// With this suite in place of its own.
    pub fn with_suite(mut self, suite: &str, cases: Vec<Case>) -> Self {
        let planned = PlannedSuite { name: name(suite), sha256: Digest::of(suite), cast: Default::default(), cases, packages: Vec::new() };
        self.plan.cells[0].suites = vec![planned.into()];
        self
    }

    pub fn scenario(mut self, scenario: &str) -> Self {
        self.scenario = scenario.to_owned();
        self
    }

    /// After what earlier runs gave.
    pub fn past(mut self, past: Vec<Past>) -> Self {
        self.past = past;
        self
    }

    /// The first controller is gone once the journal has this many entries.
    pub fn dies_after(mut self, entries: usize) -> Self {
        self.dies_after = Some(entries);
        self
    }

    /// On a host whose machines' processors are emulated.
    pub fn emulated(mut self) -> Self {
        self.emulated = true;
        self
    }

    /// Whatever templates there are.
    pub fn cold(mut self) -> Self {
        self.cold = true;
        self
    }

    /// With every baseline run, whichever of them earlier runs have seen.
    pub fn fresh_baselines(mut self) -> Self {
        self.fresh_baselines = true;
        self
    }

    /// On a host with this for machines.
    pub fn room(mut self, room: Room) -> Self {
        self.room = room;
        self
    }

    /// On several hosts.
    pub fn hosts(mut self, hosts: &[SimHost]) -> Self {
        self.hosts = hosts.to_vec();
        self
    }

    /// With so many cells that differ in their hardware's name alone.
    pub fn cells(self, count: usize) -> Self {
        self.with(|plan| {
            let first = plan.cells[0].clone();
            let id = |number| CellId::new(&name("acme"), &name("web"), &name(&format!("machine-{number}")));
            plan.cells = (0..count).map(|number| PlannedCell { id: id(number), ..first.clone() }).collect();
        })
    }

    /// With a plan that is another.
    pub fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }

    pub fn run(self) -> Told {
        Bench::new().tell(self)
    }

    async fn tell(self, state: &Path, run: RunId, now: Timestamp) -> Told {
        let world = World::new(Scenario::parse(&self.scenario).unwrap_or_else(|bad| panic!("{bad}: {}", self.scenario)));
        let journal = Journal::open(&state.join("journal.sqlite")).await.expect("a journal");
        let (_cancel, cancelled) = watch::channel(false);
        let hypervisor = Arc::new(SimHypervisor::new(world.clone(), "lab-00000001"));
        let templates = hypervisor.freezes().then(|| Arc::new(Templates::open(state, Limits::default()).expect("a store")));
        let host = hypervisor.host().await.expect("a simulated host");
        let taken = Controller { patchlab: "test".to_owned(), hypervisor: "sim".to_owned(), host };
        let baselines = Baselines::new(&taken);
        for row in journal.page(&RunFilter::ALL, None, u32::MAX).await.expect("a journal") {
            baselines.learn(&journal.state(row.run).await.expect("a journal").expect("a run"));
        }
        let clock = Clock::starting_at(now);
        let mut hosts = vec![(name("local"), self.room)];
        let mut sites = Sites::new(vec![name("local")], Box::new(Nowhere));
        let mut worlds = Vec::new();
        if !self.hosts.is_empty() {
            let world =
                |host: &SimHost| World::new(Scenario::parse(&host.scenario).unwrap_or_else(|bad| panic!("{bad}: {}", host.scenario)));
            hosts = self.hosts.iter().map(|host| (name(host.name), host.room)).collect();
            let opener =
                SimHosts { worlds: self.hosts.iter().map(|host| (name(host.name), world(host), host.away.into())).collect(), clock };
            worlds = opener.worlds.iter().map(|(_, world, _)| world.clone()).collect();
            sites = Sites::new(hosts.iter().map(|(name, _)| name.clone()).collect(), Box::new(opener));
        }
        let placed = self.hosts.first().map(|host| Arc::new(Placed { host: name(host.name), controller: taken.clone() }));
        let lab = Lab {
            hypervisor: hypervisor.clone(),
            guests: Arc::new(SimGuests::new(world)),
            journal: journal.clone(),
            clock,
            evidence: EvidenceStore::open(state).expect("a store"),
            history: Arc::new(History::default()),
            baselines,
            templates,
            emulated: self.emulated,
            id: "lab-00000001".to_owned(),
            settings: Settings { cold: self.cold, fresh_baselines: self.fresh_baselines, ..Settings::default() },
            hosts: Hosts::new(hosts, None)
                .labelled(self.hosts.iter().map(|host| (name(host.name), host.labels.iter().map(|label| name(label)).collect()))),
            sites: Arc::new(sites),
            placed,
            lanes: Arc::default(),
            activity: broadcast::channel(16).0,
            cancelled,
        };
        let event =
            Event::RunPlanned { plan_digest: self.plan.digest(), plan: Box::new(self.plan.clone()), by: "test".to_owned(), bundle: None };
        lab.journal.append(run, lab.clock.now(), event).await.expect("appended");
        if !self.past.is_empty() {
            let drawn = Event::HistoryDrawn { past: self.past.clone() };
            lab.journal.append(run, lab.clock.now(), drawn).await.expect("appended");
        }
        let files = || RunFiles { images: [(Digest::of("image"), "/nonexistent".into())].into(), ..RunFiles::default() };
        let controller = || async {
            let controller = taken.clone();
            lab.journal.append(run, lab.clock.now(), Event::RunTaken { controller }).await.expect("appended");
            let state = lab.journal.state(run).await.expect("a journal").expect("a run");
            // A hypervisor that is gone is the next controller's to clean up after.
            let _ = reaper::take_over(&lab, &state).await;
            let state = lab.journal.state(run).await.expect("a journal").expect("a run");
            scheduler::work(&lab, &state, files()).await.expect("a journal that can be written");
            if lab.placed.is_some() {
                reaper::reap_run(&lab, run).await.expect("a journal that can be read");
            }
        };
        if let Some(entries) = self.dies_after {
            let mut watch = journal.watch();
            tokio::select! {
                () = controller() => {}
                () = async { while watch.recv().await.is_ok_and(|entry| (entry.seq as usize) < entries) {} } => {}
            }
        }
        let ended = journal.state(run).await.expect("a journal").is_some_and(|state| state.is_finished());
        if !ended {
            controller().await;
        }
        let folder = state.join("templates");
        let state = journal.state(run).await.expect("a journal").expect("a run");
        let mut left: Vec<String> = hypervisor.owned().await.unwrap_or_default().into_iter().map(|one| one.machine).collect();
        for world in worlds {
            let owned = SimHypervisor::new(world, "lab-00000001").owned().await.expect("every host is back");
            left.extend(owned.into_iter().map(|one| one.machine));
        }
        let named = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name().to_string_lossy().into_owned();
        left.extend(std::fs::read_dir(folder).into_iter().flatten().map(named).filter(|name| name.starts_with(".draft")));
        journal.verify().await.expect("a sound chain");
        assert_eq!(state.ended.map(|(_, verdict)| verdict), Some(judge(&state).verdict), "the run ended with what its journal means");
        let entries = journal.entries(run).await.expect("entries");
        let journal = entries.iter().map(|entry| serde_json::to_string(entry).expect("json")).collect();
        let text = |sha256: &Digest| String::from_utf8_lossy(&lab.evidence.get(sha256).expect("it is kept")).into_owned();
        let files = kept_files(&state).into_iter().map(|file| (file.path, text(&file.sha256))).collect();
        Told { judgement: judge(&state), state, left, entries: entries.len(), journal, files }
    }
}

impl Told {
    pub fn findings(&self) -> Vec<String> {
        self.judgement.cells.iter().flat_map(|cell| &cell.findings).map(|finding| finding.code.clone()).collect()
    }

    /// Faults that were not made up for.
    pub fn faults(&self) -> Vec<String> {
        let faults = self.judgement.cells.iter().flat_map(|cell| &cell.faults);
        faults.filter(|fault| !fault.recovered).map(|fault| fault.code.clone()).collect()
    }

    pub fn comparison(&self, case: &str) -> Comparison {
        let mut cases = self.judgement.cells.iter().flat_map(|cell| &cell.cases);
        cases.find(|judged| judged.case.as_str() == case).map_or(Comparison::Missing, |judged| judged.comparison)
    }

    /// Whether a stage of the first main pass ran and passed.
    pub fn stage_passed(&self, stage: &str) -> bool {
        let passes = self.state.cells.values().flat_map(|record| &record.passes).filter(|pass| pass.pass == Pass::Main);
        let mut stages = passes.flat_map(|pass| &pass.stages);
        stages.any(|record| {
            record.stage.as_str() == stage && matches!(record.ended, Some((_, StageOutcome::Passed))) && record.stage != Stage::Clone
        })
    }
}
