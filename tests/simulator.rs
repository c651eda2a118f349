//! Whole lives of simulated machines: what each kind of trouble looks like, and that a seed decides everything.

#[path = "simulator/plans.rs"]
mod plans;
#[path = "simulator/provoke.rs"]
mod provoke;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::catalog::image::Os;
use patchlab::catalog::text::Span;
use patchlab::cell::cause::{BootPhase, Cause, Side};
use patchlab::cell::observation::Point;
use patchlab::guest::sim::SimGuests;
use patchlab::guest::{Guest, Guests, Job, JobState, JobStep, StepEnd};
use patchlab::hypervisor::segments::Mac;
use patchlab::hypervisor::sim::{
    Deed, Ends, Fault, For, Moment, Pace, Refusal, Scenario, ScenarioError, SimHypervisor, Stall, Step, StepName, TraceEntry, When, World,
};
use patchlab::hypervisor::{Hypervisor, HypervisorErrorKind, MachineEvent, MachineEventKind, MachineNic, MachineSpec, Tag};
use patchlab::id::{Digest, RunId};
use provoke::provoking;

/// How long the pretended engine waits for anything.
const BUDGET: Duration = Duration::from_secs(150);

fn spec(name: &str) -> MachineSpec {
    MachineSpec {
        name: name.to_owned(),
        tag: Tag {
            lab: "lab".to_owned(),
            run: RunId::from_parts(0, [0; 10]),
            cell: "acme.web@virtio-bios".parse().expect("a cell"),
            lease: name.to_owned(),
        },
        hardware: Hardware { second_cold_boot: true, ..Hardware::plain(Chipset::Q35, Firmware::Uefi, DiskBus::Virtio, NicModel::Virtio) },
        image: "/image".into(),
        image_digest: Digest::of("image"),
        media: None,
        template: None,
        nics: vec![MachineNic { mac: Mac([0x52, 0x54, 0, 1, 2, 3]), at: None }],
    }
}

fn step(name: &str) -> JobStep {
    JobStep {
        command: "not looked at".to_owned(),
        folder: None,
        env: BTreeMap::from([("PATCHLAB_STEP".to_owned(), name.to_owned())]),
        limit: Duration::from_secs(120),
        output_cap: 64 * 1024,
        terminal: true,
        needs: Vec::new(),
    }
}

fn in_virtual_time<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime").block_on(life)
}

/// A cell's life without an engine's wisdom: it notes how each stage went and goes on to the next whatever that was.
struct Life {
    hypervisor: SimHypervisor,
    guest: Arc<dyn Guest>,
    notes: Vec<String>,
}

impl Life {
    async fn live(world: &Arc<World>, name: &str) -> Vec<String> {
        let hypervisor = SimHypervisor::new(world.clone(), "lab");
        let guest = SimGuests::new(world.clone()).connect(name, Os::Debian);
        let mut life = Self { hypervisor, guest, notes: Vec::new() };
        let made = life.hypervisor.create(&spec(name)).await;
        life.note("create", made.map(drop));
        life.power_on(name).await;
        life.steps(&["facts", "preflight", "apply", "confirm", "reboot-wanted"]).await;
        let asked = life.guest.reboot().await;
        life.note("reboot", asked);
        sleep(Duration::from_secs(5)).await;
        life.until_up().await;
        life.steps(&["facts", "confirm", "reboot-wanted"]).await;
        let off = life.hypervisor.power_off(name).await;
        life.note("power off", off);
        life.power_on(name).await;
        life.steps(&["facts", "reapply", "rollback", "confirm", "facts"]).await;
        let seen = life.hypervisor.vitals(name).await;
        life.note("vitals", seen.map(|vitals| format!("{vitals:?}")));
        let gone = life.hypervisor.destroy(name).await;
        life.note("destroy", gone);
        life.notes
    }

    async fn power_on(&mut self, name: &str) {
        let started = self.hypervisor.start(name).await;
        self.note("start", started);
        self.until_up().await;
    }

    async fn until_up(&mut self) {
        let guest = self.guest.clone();
        let up = timeout(BUDGET, async { while guest.is_settled().await != Ok(true) {} }).await;
        self.note("up", up);
        let prepared = self.guest.prepare().await;
        self.note("prepare", prepared);
    }

    async fn steps(&mut self, names: &[&str]) {
        for name in names {
            let id = format!("{name}-{}", self.notes.len());
            if self.guest.start(&Job { id: id.clone(), steps: vec![step(name)] }).await.is_err() {
                self.notes.push(format!("{name}: not started"));
                continue;
            }
            let guest = self.guest.clone();
            let ended = timeout(BUDGET, async {
                loop {
                    match guest.poll(&id).await {
                        Ok(JobState::Ended { steps }) => return steps.first().map(|report| report.end.clone()),
                        Ok(JobState::Unknown) => return None,
                        Ok(JobState::Running { .. }) | Err(_) => {}
                    }
                }
            });
            let ended = ended.await;
            self.note(name, ended);
        }
    }

    fn note(&mut self, what: &str, how: impl std::fmt::Debug) {
        self.notes.push(format!("{what}: {how:?}"));
    }
}

/// One machine's whole life in such a world: the notes, and the trace.
fn lived(scenario: Scenario) -> (Vec<String>, Vec<TraceEntry>) {
    in_virtual_time(async {
        let world = World::new(scenario);
        let notes = Life::live(&world, "m").await;
        (notes, world.trace())
    })
}

#[test]
fn an_untroubled_life_goes_well() {
    let (notes, trace) = lived(Scenario::seeded(3));
    let bad: Vec<&String> = notes.iter().filter(|note| note.contains("Err") || note.contains("None")).collect();
    assert_eq!(bad, Vec::<&String>::new());
    let confirms: Vec<&String> = notes.iter().filter(|note| note.starts_with("confirm")).collect();
    assert_eq!(
        confirms,
        ["confirm: Ok(Some(Exit(0)))", "confirm: Ok(Some(Exit(0)))", "confirm: Ok(Some(Exit(1)))"],
        "the last is taken back"
    );
    use MachineEventKind::{AgentConnected, AgentDisconnected, Rebooted, Started, Stopped};
    let kinds: Vec<MachineEventKind> = trace.iter().map(|entry| entry.event.kind.clone()).collect();
    let (up, off) = ([Started, AgentConnected], [AgentDisconnected, Stopped]);
    let rebooted = [AgentDisconnected, Rebooted, AgentConnected];
    assert_eq!(kinds, [&up[..], &rebooted, &off, &up, &off].concat());
}

#[test]
fn a_seed_decides_everything() {
    let flaky = |seed| {
        let chancy = Step { chance: 50, ..Step::new(StepName::Step("*".to_owned()), Ends::Exit(9)) };
        Scenario::seeded(seed).step(chancy).fault(Fault::new(Moment::Step("apply".to_owned()), Deed::Reboot).after(Span::secs(3)))
    };
    assert_eq!(lived(flaky(7)), lived(flaky(7)));
    let (notes, trace) = lived(flaky(8));
    assert_ne!(trace, lived(flaky(7)).1, "another seed, other times");
    assert!(notes.iter().any(|note| note.contains("Exit(9)")) && notes.iter().any(|note| note.contains("Exit(0)")), "{notes:?}");
}

#[test]
fn many_machines_at_once_keep_to_the_seed() {
    let crowd = || {
        in_virtual_time(async {
            let world = World::new(provoking(&Cause::KernelPanic, Side::After).expect("a scenario"));
            let lives = (0..20).map(|n| {
                let world = world.clone();
                tokio::spawn(async move { Life::live(&world, &format!("m{n}")).await })
            });
            for life in lives.collect::<Vec<_>>() {
                life.await.expect("a life");
            }
            world.trace()
        })
    };
    let trace = crowd();
    assert_eq!(trace, crowd());
    assert_eq!(trace.iter().filter(|entry| entry.event.kind == MachineEventKind::Panicked).count(), 40, "two boots after the patch each");
}

/// What a life must show of each cause, and on which sides of the patch the cause can be had.
#[test]
fn every_row_of_the_blame_table_can_be_provoked() {
    const BOTH: &[Side] = &[Side::Before, Side::After];
    const BEFORE: &[Side] = &[Side::Before];
    const AFTER: &[Side] = &[Side::After];
    let phases = [BootPhase::Firmware, BootPhase::BootLoader, BootPhase::Kernel, BootPhase::Userspace, BootPhase::Agent];
    let stalls = phases.map(|reached| (Cause::BootStalled { reached }, BOTH, ["up: Err", ""]));
    let rows = [
        (Cause::Hypervisor, BEFORE, ["start: Err", "kind: Refused"]),
        (Cause::Hypervisor, AFTER, ["ConnectionLost", ""]),
        (Cause::HostDiskFull, BEFORE, ["create: Err", "kind: NoSpace"]),
        (Cause::EmulatorDied, BOTH, ["Crashed", ""]),
        (Cause::DiskError { nospace: true }, BOTH, ["DiskError { nospace: true }", ""]),
        (Cause::DiskError { nospace: false }, BOTH, ["DiskError { nospace: false }", ""]),
        (Cause::BootLoop, BOTH, ["up: Err", "Rebooted"]),
        (Cause::PoweredOff, BOTH, ["up: Err", "Stopped"]),
        (Cause::KernelPanic, BOTH, ["up: Err", "Panicked"]),
        (Cause::AgentLost, BOTH, [": Err(Elapsed", "AgentDisconnected"]),
        (Cause::AgentNonsense, BOTH, [": Err(Elapsed", "reboot: Err(Failed"]),
        (Cause::UnexpectedReboot, BOTH, ["facts: Ok(None)", "Rebooted"]),
        (Cause::ProbeFailed, BOTH, ["facts: Ok(Some(Exit(1)))", ""]),
        (Cause::HardwareUnmet, BEFORE, ["facts: Ok(Some(Exit(0)))", ""]),
        (Cause::GuestDiskFull, BOTH, ["apply: Ok(Some(Exit(1)))", "facts: Ok(Some(Exit(0)))"]),
        (Cause::NotApplicable, AFTER, ["preflight: Ok(Some(Exit(64)))", ""]),
        (Cause::ApplyFailed { exit: 100 }, AFTER, ["apply: Ok(Some(Exit(100)))", ""]),
        (Cause::ApplyTimedOut, AFTER, ["apply: Ok(Some(TimedOut))", ""]),
        (Cause::ApplyAsked, AFTER, ["apply: Ok(Some(Asked))", ""]),
        (Cause::UndeclaredRemovals, AFTER, ["preflight: Ok(Some(Exit(65)))", ""]),
        (Cause::NotEffective, AFTER, ["confirm: Ok(Some(Exit(66)))", "apply: Ok(Some(Exit(0)))"]),
        (Cause::NotIdempotent, AFTER, ["reapply: Ok(Some(Exit(1)))", ""]),
        (Cause::RollbackFailed, AFTER, ["rollback: Ok(Some(Exit(1)))", ""]),
    ];
    for (cause, sides, signs) in rows.into_iter().chain(stalls) {
        for side in sides {
            let (notes, trace) = lived(provoking(&cause, *side).expect("a scenario"));
            let kinds: Vec<&MachineEventKind> = trace.iter().map(|entry| &entry.event.kind).collect();
            let story = format!("{notes:#?} {kinds:?}");
            assert!(signs.iter().all(|sign| story.contains(sign)), "{cause:?} {side:?}: {story}");
            // Created, started, up, prepared, facts: all well until the patch comes.
            let well = notes.iter().take(5).all(|note| !note.contains("Err") && !note.contains("None") && !note.contains("Exit(1)"));
            assert!(well || *side == Side::Before, "{cause:?} {side:?}: {story}");
        }
    }
    for cause in [Cause::ImageDamaged, Cause::PayloadDamaged, Cause::ControllerEnded, Cause::Cancelled] {
        assert!(provoking(&cause, Side::Before).is_none() && provoking(&cause, Side::After).is_none());
    }
}

#[test]
fn a_fault_can_wait_for_the_second_boot() {
    let fault = Fault::new(Moment::Boot(BootPhase::BootLoader), Deed::Stall(Stall { busy: true })).when(When::at(&[Point::ColdBooted]));
    let (notes, _) = lived(Scenario::seeded(1).fault(fault));
    let ups: Vec<bool> = notes.iter().filter(|note| note.starts_with("up:")).map(|note| note.contains("Ok")).collect();
    assert_eq!(ups, [true, true, false]);
}

#[test]
fn refusals_strike_as_often_as_told() {
    in_virtual_time(async {
        let start_fails_once = Fault::new(Moment::Start, Deed::Refuse(Refusal::TimedOut)).times(1);
        let first_clone_finds_no_space = Fault::new(Moment::Create, Deed::Refuse(Refusal::NoSpace)).when(When::nth(&[1]));
        let world = World::new(Scenario::seeded(1).fault(start_fails_once).fault(first_clone_finds_no_space));
        let on = SimHypervisor::new(world, "lab");
        assert_eq!(on.create(&spec("a")).await.map_err(|e| e.kind), Err(HypervisorErrorKind::NoSpace));
        assert_eq!(on.owned().await, Ok(Vec::new()), "on error nothing is left");
        on.create(&spec("b")).await.expect("the second clone");
        assert_eq!(on.start("b").await.map_err(|e| e.kind), Err(HypervisorErrorKind::TimedOut));
        assert_eq!(on.start("b").await, Ok(()));
    });
}

#[test]
fn an_outage_is_told_once_and_hides_the_rest() {
    in_virtual_time(async {
        let outage = Deed::LoseConnection(For { span: Some(Span::secs(30)) });
        let world = World::new(Scenario::seeded(1).fault(Fault::new(Moment::Boot(BootPhase::Kernel), outage)));
        let on = SimHypervisor::new(world, "lab");
        on.create(&spec("a")).await.expect("a machine");
        let mut events = on.events();
        on.start("a").await.expect("a start");
        assert_eq!(events.recv().await.map(|event| event.kind), Ok(MachineEventKind::Started));
        assert_eq!(events.recv().await, Ok(MachineEvent { machine: String::new(), kind: MachineEventKind::ConnectionLost }));
        assert_eq!(on.vitals("a").await.map_err(|e| e.kind), Err(HypervisorErrorKind::Gone));
        sleep(Duration::from_secs(31)).await;
        assert!(on.vitals("a").await.is_ok_and(|vitals| vitals.running), "the machine went on meanwhile");
        assert!(events.try_recv().is_err(), "nothing was heard of it");
    });
}

#[test]
fn machines_outlive_their_controller() {
    let state = tempfile::tempdir().expect("a folder");
    let open = |state: &Path| World::open(Scenario::seeded(1), state).expect("a world");
    let boot_id = in_virtual_time(async {
        let world = open(state.path());
        let (on, guests) = (SimHypervisor::new(world.clone(), "lab"), SimGuests::new(world));
        for name in ["off", "up", "booting"] {
            on.create(&spec(name)).await.expect("a machine");
        }
        on.start("up").await.expect("a start");
        let guest = guests.connect("up", Os::Debian);
        while guest.is_settled().await != Ok(true) {}
        guest.prepare().await.expect("prepared");
        guest.start(&Job { id: "lost".to_owned(), steps: vec![step("apply"), step("apply")] }).await.expect("a job");
        on.start("booting").await.expect("a start");
        guest.boot_id().await.expect("a boot id")
        // The world is dropped here, without a farewell.
    });
    std::fs::create_dir(state.path().join("machines/half-made")).expect("a folder");
    in_virtual_time(async {
        let world = open(state.path());
        let (on, guests) = (SimHypervisor::new(world.clone(), "lab"), SimGuests::new(world.clone()));
        let owned = on.owned().await.expect("a list");
        let owned: Vec<_> = owned.iter().map(|owned| (owned.machine.as_str(), owned.tag.is_some(), owned.running)).collect();
        assert_eq!(owned, [("booting", true, true), ("half-made", false, false), ("off", true, false), ("up", true, true)]);
        let guest = guests.connect("up", Os::Debian);
        assert_eq!(guest.boot_id().await, Ok(boot_id), "it is the same boot");
        assert_eq!(guest.poll("lost").await, Ok(JobState::Unknown));
        assert!(!on.console("up", 0).await.expect("a console").is_empty());
        let booting = guests.connect("booting", Os::Debian);
        assert!(timeout(BUDGET, async { while booting.ping().await.is_err() {} }).await.is_ok(), "it boots on");
        on.create(&spec("next")).await.expect("a machine");
        assert_eq!(std::fs::read_to_string(state.path().join("sim-clones.json")).expect("counts"), r#"{"acme.web@virtio-bios":4}"#);
        for name in ["off", "up", "booting", "next", "half-made"] {
            on.destroy(name).await.expect("a removal");
        }
        assert_eq!(on.owned().await, Ok(Vec::new()));
        assert_eq!(std::fs::read_dir(state.path().join("machines")).expect("the folder").count(), 0);
    });
}

#[test]
fn scenarios_are_read_from_toml() {
    let text = r#"
        seed = 7
        lacks = ["curl"]
        pace = { speed = 20, kernel = "3s" }

        [[fault]]
        on = { boot = "kernel" }
        when = { cell = "acme.web@*", at = ["cold-booted"] }
        does = "panic"

        [[fault]]
        on = "create"
        when = { nth = [1] }
        does = { refuse = "no-space" }

        [[fault]]
        on = { step = "apply" }
        after = "2s"
        times = 1
        does = { agent-lost = { for = "30s" } }

        [[step]]
        on = { case = "nginx/tls" }
        when = { side = "after" }
        chance = 30
        ends = { exit = 1 }
        output = "handshake failure"

        [[step]]
        on = { step = "apply" }
        ends = "times-out"

        [[facts]]
        section = "units"
        from = "rebooted"
        drop = "nginx.service"
        add = "nginx.service loaded failed failed"
    "#;
    let scenario = Scenario::parse(text).expect("a scenario");
    assert_eq!((scenario.faults.len(), scenario.steps.len(), scenario.facts.len()), (3, 2, 1));
    assert_eq!(scenario.faults[2].does, Deed::AgentLost(For { span: Some(Span::secs(30)) }));
    assert_eq!(scenario.pace, Pace { speed: 20, kernel: Span::secs(3), ..Pace::default() });
    let written = toml_edit::ser::to_string(&scenario).expect("TOML");
    assert_eq!(Scenario::parse(&written), Ok(scenario), "{written}");
    assert_eq!(Scenario::parse(""), Ok(Scenario::default()));
    let misplaced = Scenario::parse("[[fault]]\non = \"create\"\ndoes = \"panic\"");
    assert!(matches!(misplaced, Err(ScenarioError::Misplaced { number: 1, .. })), "{misplaced:?}");
    let unknown = Scenario::parse("[[fault]]\non = \"create\"\ndose = \"panic\"");
    assert!(matches!(&unknown, Err(ScenarioError::Unreadable(found)) if found.contains("dose")), "{unknown:?}");
}

#[test]
fn the_first_script_whose_chance_comes_up_decides() {
    let unlucky = Step { chance: 0, ..Step::new(StepName::Step("apply".to_owned()), Ends::Exit(1)) };
    let lucky = Step::new(StepName::Step("*".to_owned()), Ends::Exit(2));
    let never_asked = Step::new(StepName::Step("apply".to_owned()), Ends::Exit(3));
    let (notes, _) = lived(Scenario::seeded(1).step(unlucky).step(lucky).step(never_asked));
    let expected = format!("apply: {:?}", Ok::<_, ()>(Some(StepEnd::Exit(2))));
    assert!(notes.contains(&expected), "{notes:?}");
}
