//! One simulated machine: a state machine on given time, without clock, tasks or locks.
//!
//! ```text
//!          start               phases, agent wakes            services up
//!  Off ───────────▶ Booting ─────────────────────▶ Up ─────────────────▶ Up, settled
//!   ▲                │   ▲         restart         │
//!   │                │   └─────────────────────────┤
//!   │   panic, stall,▼  disk error                 │
//!   │              Hung ◀──────────────────────────┤
//!   └────────────────┴──── power off, crash ───────┘
//! ```
//! Invariants: whatever is scheduled belongs to an epoch; every change between the boxes ends it, but coming up; what comes late is
//! ignored. A restart always takes some time, so that no fault plan can make time stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::boot;
use super::jobs::Jobs;
use super::matching::Situation;
use super::scenario::{Deed, Flaw, Moment, Pace, Scenario};
use crate::catalog::hardware::Hardware;
use crate::cell::cause::BootPhase;
use crate::cell::identity::Identity;
use crate::cell::observation::Point;
use crate::hypervisor::{MachineEventKind, Vitals};
use crate::id::Digest;

/// From the reset line until the firmware runs.
const RESET_TAKES: Duration = Duration::from_millis(100);

/// What outlives the controller, in `sim.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    pub cell: String,
    /// Among its peers; empty without any.
    #[serde(default)]
    pub role: String,
    /// Which clone of the cell, 1 and up.
    pub nth: u32,
    pub hardware: Hardware,
    /// The hardware addresses of its NICs.
    #[serde(default)]
    pub macs: Vec<String>,
    #[serde(default)]
    pub on_template: bool,
    pub on: bool,
    /// Whether the guest had come up when this was written.
    pub up: bool,
    pub boots: u32,
    pub point: Point,
    /// Whether an apply went well and was not taken back.
    pub applied: bool,
    /// The ids of the patches that were applied and not taken back.
    #[serde(default)]
    pub patches: BTreeSet<String>,
    pub disk_full: bool,
    /// How often each fault of the scenario has struck, by its place.
    pub struck: BTreeMap<usize, u32>,
    /// How often each named step ran.
    pub ran: BTreeMap<String, u32>,
}

/// What an operation brings about beside the machine's own change.
pub struct Effects<'a> {
    pub scenario: &'a Scenario,
    pub now: Duration,
    pub later: Vec<(Duration, u64, Happening)>,
    pub events: Vec<MachineEventKind>,
    /// The hypervisor's connection is gone until then.
    pub outage: Option<Duration>,
}

/// Something that was scheduled.
#[derive(Clone, Debug)]
pub enum Happening {
    Phase(BootPhase),
    Line(&'static str),
    Answers,
    Settles,
    GoesDown { restart: bool },
    AgentReturns,
    StepEnds { job: String, at: usize },
    Deed(Deed),
}

#[derive(Debug)]
pub enum State {
    Off,
    Booting { phase: BootPhase, mood: Mood },
    Up { settled: bool, prepared: bool, mood: Mood, jobs: Jobs },
    Hung { busy: bool },
}

/// What is wrong with this boot without ending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mood {
    pub agent: Agent,
    pub never_settles: bool,
    /// Per cent of the usual time.
    pub slow: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    Well,
    Lost { until: Duration },
    Nonsense { until: Duration },
}

const WELL: Mood = Mood { agent: Agent::Well, never_settles: false, slow: 100 };

#[derive(Debug)]
pub struct Machine {
    pub record: Record,
    pub state: State,
    pub console: String,
    pub epoch: u64,
    vitals: Vitals,
    counted_to: Duration,
}

impl Effects<'_> {
    pub fn later(&mut self, after: Duration, epoch: u64, what: Happening) {
        self.later.push((self.now.saturating_add(after), epoch, what));
    }
}

/// A span of the pace, at its speed.
pub fn paced(pace: &Pace, span: Duration) -> Duration {
    span / pace.speed.max(1)
}

impl Machine {
    pub fn new(cell: &str, role: &str, nth: u32, hardware: Hardware) -> Self {
        let record = Record {
            cell: cell.to_owned(),
            role: role.to_owned(),
            nth,
            hardware,
            macs: Vec::new(),
            on_template: false,
            on: false,
            up: false,
            boots: 0,
            point: Point::Baseline,
            applied: false,
            patches: BTreeSet::new(),
            disk_full: false,
            struck: BTreeMap::new(),
            ran: BTreeMap::new(),
        };
        Self { record, state: State::Off, console: String::new(), epoch: 0, vitals: Vitals::default(), counted_to: Duration::ZERO }
    }

    /// A machine that another controller left behind. One that was up goes on without its jobs; one that was booting boots anew.
    pub fn found(record: Record, console: String, fx: &mut Effects<'_>) -> Self {
        let (on, up) = (record.on, record.up);
        let mut machine = Self { console, ..Self::new("", "", 0, record.hardware.clone()) };
        machine.record = record;
        if up {
            machine.state = State::Up { settled: true, prepared: true, mood: WELL, jobs: Jobs::default() };
        } else if on {
            machine.begin_boot(fx);
        }
        machine
    }

    pub fn situation(&self) -> Situation<'_> {
        Situation {
            cell: &self.record.cell,
            role: &self.record.role,
            nth: self.record.nth,
            point: self.record.point,
            boot: self.record.boots,
            patches: &self.record.patches,
        }
    }

    pub fn boot_id(&self, scenario: &Scenario) -> String {
        let Record { cell, nth, boots, .. } = &self.record;
        scenario.seed.boot_id(&["boot", cell, &nth.to_string(), &boots.to_string()])
    }

    pub fn start(&mut self, fx: &mut Effects<'_>) {
        if matches!(self.record.point, Point::Applied | Point::Rebooted) {
            self.record.point = Point::ColdBooted;
        }
        self.record.boots += 1;
        fx.events.push(MachineEventKind::Started);
        self.begin_boot(fx);
    }

    /// Has the disk of a template's machine.
    pub fn lie_on(&mut self, frozen: Record) {
        let Record { point, applied, patches, disk_full, ran, .. } = frozen;
        self.record = Record { on_template: true, point, applied, patches, disk_full, ran, ..self.record.clone() };
    }

    /// Goes on where its template was frozen: up, and with all services.
    pub fn thaw(&mut self, fx: &mut Effects<'_>) {
        self.record.boots += 1;
        let silent = fx.scenario.templates.flaw == Some(Flaw::Silent);
        let agent = if silent { Agent::Lost { until: Duration::MAX } } else { Agent::Well };
        self.become_(State::Up { settled: true, prepared: false, mood: Mood { agent, ..WELL }, jobs: Jobs::default() });
        fx.events.extend([MachineEventKind::Started, MachineEventKind::AgentConnected]);
    }

    /// What makes it this machine and no other.
    pub fn identity(&self, scenario: &Scenario, thawed: bool) -> Identity {
        let flaw = scenario.templates.flaw.filter(|_| thawed);
        let Record { cell, role, nth, .. } = &self.record;
        let number = |what: &str, shared: bool| {
            let clone = if shared { String::new() } else { format!("{cell}/{role}/{nth}") };
            scenario.seed.number(&[what, &clone])
        };
        Identity {
            machine_id: format!("{:032x}", number("machine-id", flaw == Some(Flaw::SameMachineId))),
            hostname: "sim".to_owned(),
            random: Digest::of(number("random", flaw == Some(Flaw::SameRandom)).to_be_bytes()),
            host_keys: BTreeMap::new(),
            makes_host_keys: false,
            macs: if flaw == Some(Flaw::OldAddresses) { vec!["52:54:00:00:00:00".to_owned()] } else { self.record.macs.clone() },
            leases: Vec::new(),
            clock_ahead_ms: if flaw == Some(Flaw::OldClock) { -3_600_000 } else { 0 },
        }
    }

    /// The reset button, or the guest restarting itself.
    pub fn restart(&mut self, fx: &mut Effects<'_>) {
        if self.record.point == Point::Applied {
            self.record.point = Point::Rebooted;
        }
        self.record.boots += 1;
        self.drop_agent(fx);
        fx.events.push(MachineEventKind::Rebooted);
        self.begin_boot(fx);
    }

    pub fn go_off(&mut self, event: MachineEventKind, fx: &mut Effects<'_>) {
        self.drop_agent(fx);
        fx.events.push(event);
        self.become_(State::Off);
    }

    /// The guest begins to shut down. One that has not got to its userspace, or hangs, does not notice.
    pub fn go_down(&mut self, restart: bool, fx: &mut Effects<'_>) {
        if matches!(self.state, State::Up { .. } | State::Booting { phase: BootPhase::Agent, .. }) {
            self.say(if restart { "systemd[1]: Reached target reboot.target." } else { "systemd[1]: Reached target poweroff.target." });
            fx.later(paced(&fx.scenario.pace, fx.scenario.pace.shutdown.0), self.epoch, Happening::GoesDown { restart });
        }
    }

    /// What was scheduled comes.
    pub fn happen(&mut self, what: Happening, fx: &mut Effects<'_>) {
        match what {
            Happening::Phase(phase) => self.enter(phase, fx),
            Happening::Line(line) => self.say(line),
            Happening::Answers => {
                if let State::Booting { mood, .. } = self.state {
                    self.state = State::Up { settled: false, prepared: false, mood, jobs: Jobs::default() };
                    self.record.up = true;
                    let settle = paced(&fx.scenario.pace, fx.scenario.pace.settle.0);
                    fx.later(slowed(settle, mood), self.epoch, Happening::Settles);
                }
            }
            Happening::Settles => {
                if let State::Up { settled, mood: Mood { never_settles: false, .. }, .. } = &mut self.state {
                    *settled = true;
                    self.strike(&Moment::Up, fx);
                }
            }
            Happening::GoesDown { restart: true } => self.restart(fx),
            Happening::GoesDown { restart: false } => self.go_off(MachineEventKind::Stopped, fx),
            Happening::AgentReturns => {
                let up = matches!(self.state, State::Up { .. } | State::Booting { phase: BootPhase::Agent, .. });
                let now = fx.now;
                if let Some(mood) = self.mood() {
                    match mood.agent {
                        Agent::Lost { until } if until <= now => {
                            mood.agent = Agent::Well;
                            fx.events.extend(up.then_some(MachineEventKind::AgentConnected));
                        }
                        Agent::Nonsense { until } if until <= now => mood.agent = Agent::Well,
                        Agent::Well | Agent::Lost { .. } | Agent::Nonsense { .. } => {}
                    }
                }
            }
            Happening::StepEnds { job, at } => self.end_step(&job, at, fx),
            Happening::Deed(deed) => self.suffer(&deed, fx),
        }
    }

    /// Counts the work up to now. Called before every change.
    pub fn count(&mut self, now: Duration) {
        let (cpu_percent, disk_a_second) = match &self.state {
            State::Off | State::Hung { busy: false } => (0, 0),
            State::Booting { .. } => (100, 20_000_000),
            State::Up { jobs, .. } if jobs.any_running() => (100, 2_000_000),
            State::Up { settled, .. } => (if *settled { 1 } else { 80 }, 0),
            State::Hung { busy: true } => (100, 0),
        };
        let passed = now.saturating_sub(self.counted_to).as_nanos();
        let grown = |counter: u64, by: u128| counter.saturating_add(u64::try_from(by).unwrap_or(u64::MAX));
        self.vitals.cpu_ns = grown(self.vitals.cpu_ns, passed * cpu_percent / 100);
        self.vitals.disk_bytes = grown(self.vitals.disk_bytes, passed * disk_a_second / 1_000_000_000);
        self.counted_to = now.max(self.counted_to);
    }

    pub fn vitals(&self) -> Vitals {
        Vitals { running: !matches!(self.state, State::Off), console_bytes: self.console.len() as u64, ..self.vitals }
    }

    pub fn begin_boot(&mut self, fx: &mut Effects<'_>) {
        self.become_(State::Booting { phase: BootPhase::Firmware, mood: WELL });
        fx.later(RESET_TAKES, self.epoch, Happening::Phase(BootPhase::Firmware));
    }

    fn enter(&mut self, phase: BootPhase, fx: &mut Effects<'_>) {
        let State::Booting { phase: now, mood } = &mut self.state else { return };
        *now = phase;
        if phase == BootPhase::Agent && !matches!(mood.agent, Agent::Lost { .. }) {
            fx.events.push(MachineEventKind::AgentConnected);
        }
        let lines = boot::lines(phase, self.record.hardware.firmware);
        if let Some(first) = lines.first() {
            self.say(first);
        }
        if !self.strike(&Moment::Boot(phase), fx) {
            return;
        }
        let State::Booting { mood, .. } = self.state else { return };
        let length = slowed(self.jittered(phase, fx.scenario), mood);
        for (at, line) in (0..).zip(lines).skip(1) {
            let share: u32 = lines.len().try_into().unwrap_or(u32::MAX);
            fx.later(length / share * at, self.epoch, Happening::Line(line));
        }
        fx.later(length, self.epoch, boot::after(phase).map_or(Happening::Answers, Happening::Phase));
    }

    fn jittered(&self, phase: BootPhase, scenario: &Scenario) -> Duration {
        let Record { cell, nth, boots, .. } = &self.record;
        let words = ["pace", cell, &nth.to_string(), &boots.to_string(), phase.as_str()];
        let extra = scenario.seed.number(&words) % (u64::from(scenario.pace.jitter) * 10 + 1);
        let length = paced(&scenario.pace, boot::length(phase, &scenario.pace));
        let per_mille = u32::try_from(1000 + extra).unwrap_or(1000);
        Duration::from_millis(u64::try_from(length.saturating_mul(per_mille).as_millis() / 1000).unwrap_or(u64::MAX))
    }

    /// The guest agent's channel closes, if it was open.
    pub fn drop_agent(&mut self, fx: &mut Effects<'_>) {
        if let State::Up { mood, .. } | State::Booting { phase: BootPhase::Agent, mood } = &self.state
            && !matches!(mood.agent, Agent::Lost { .. })
        {
            fx.events.push(MachineEventKind::AgentDisconnected);
        }
    }

    pub fn become_(&mut self, state: State) {
        self.epoch += 1;
        self.record.on = !matches!(state, State::Off);
        self.record.up = matches!(state, State::Up { .. });
        self.state = state;
    }

    pub fn say(&mut self, line: &str) {
        self.console.push_str(line);
        self.console.push_str("\r\n");
    }
}

fn slowed(length: Duration, mood: Mood) -> Duration {
    length.saturating_mul(mood.slow) / 100
}
