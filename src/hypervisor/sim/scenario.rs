//! What a simulated world is like and what goes wrong in it, as data: a seed and a fault plan.
//!
//! ```toml
//! seed = 7
//!
//! [[fault]]                                   # a machine or its hypervisor misbehaves
//! on = { boot = "kernel" }                    # ... when it reaches this moment
//! when = { cell = "acme.web@*", at = ["cold-booted"] }
//! does = "panic"
//!
//! [[step]]                                    # a command in the guest ends differently
//! on = { case = "nginx/tls" }
//! when = { side = "after" }
//! ends = { exit = 1 }
//! output = "handshake failure"
//!
//! [[facts]]                                   # a section of the facts reads differently
//! section = "units"
//! from = "rebooted"
//! drop = "nginx.service"
//! add = "nginx.service loaded failed failed"
//! ```
//! Every table may be repeated. Of several `[[step]]` that match, the first whose `chance` comes up decides. `[[facts]]` edit one
//! after the other. Every `[[fault]]` that matches strikes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::matching::{When, glob};
use super::seed::Seed;
use crate::catalog::text::{Size, Span};
use crate::cell::cause::BootPhase;
use crate::cell::observation::Point;

/// A world: what its host is like, how fast things are, and what goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Scenario {
    pub seed: Seed,
    pub host: Host,
    pub pace: Pace,
    pub templates: Templates,
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    pub facts: Vec<Facts>,
    /// Files that can be read in every guest, beside the few that it has anyway.
    pub files: BTreeMap<String, String>,
    /// Commands that no guest has.
    pub lacks: Vec<String>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: Seed(0),
            host: Host::default(),
            pace: Pace::default(),
            templates: Templates::default(),
            faults: Vec::new(),
            steps: Vec::new(),
            facts: Vec::new(),
            files: BTreeMap::new(),
            lacks: vec!["no-such-command".to_owned()],
        }
    }
}

/// The host that is pretended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Host {
    pub cpus: u32,
    pub memory: Size,
}

impl Default for Host {
    fn default() -> Self {
        Self { cpus: 4, memory: Size::mib(16 * 1024) }
    }
}

/// How long things take when nothing is wrong. Each boot phase is drawn out by up to `jitter` per cent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Pace {
    pub create: Span,
    pub start: Span,
    pub firmware: Span,
    pub boot_loader: Span,
    pub kernel: Span,
    pub userspace: Span,
    /// From the agent's first answer until all services are up.
    pub settle: Span,
    pub shutdown: Span,
    pub freeze: Span,
    pub thaw: Span,
    /// One call to the guest agent.
    pub call: Span,
    /// A step that nothing else is said about.
    pub step: Span,
    pub apply: Span,
    pub jitter: u8,
    /// Let time go by as it does instead of jumping to what is due next.
    pub real_time: bool,
    /// How many times faster everything is, for demonstrations in real time. 0 counts as 1.
    pub speed: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let ms = |ms| Span(std::time::Duration::from_millis(ms));
        Self {
            create: ms(200),
            start: ms(300),
            firmware: ms(1500),
            boot_loader: ms(2500),
            kernel: ms(6000),
            userspace: ms(15_000),
            settle: ms(3000),
            shutdown: ms(2500),
            freeze: ms(2000),
            thaw: ms(400),
            call: ms(50),
            step: ms(400),
            apply: ms(12_000),
            jitter: 10,
            real_time: false,
            speed: 1,
        }
    }
}

/// Whether machines can be frozen here, and what is wrong with those that go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Templates {
    pub freeze: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flaw: Option<Flaw>,
}

/// What is wrong with each thawed machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// Its kernel gives the same random numbers as every other clone's.
    SameRandom,
    SameMachineId,
    /// Its clock still shows when the template was frozen.
    OldClock,
    /// Its NICs keep the template's addresses.
    OldAddresses,
    /// Its agent does not answer.
    Silent,
}

/// A machine, or the hypervisor under it, misbehaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    pub on: Moment,
    #[serde(default)]
    pub when: When,
    /// How long after the moment. Not for refusals.
    #[serde(default = "no_time")]
    pub after: Span,
    /// How many times it strikes each machine; for ever when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    pub does: Deed,
}

pub fn no_time() -> Span {
    Span::secs(0)
}

/// A moment in a machine's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Calls to the hypervisor: all that a [`Deed::Refuse`] fits.
    Create,
    Start,
    Freeze,
    Thaw,
    PowerOff,
    Destroy,
    /// A boot enters this phase.
    Boot(BootPhase),
    /// All services are up.
    Up,
    /// The engine's own step of this name starts (`apply`, `facts`, ...; `*` for any).
    Step(String),
    /// A case starts, `suite/case`; `*` stands for anything.
    Case(String),
}

impl Moment {
    /// Whether this moment is a call to the hypervisor.
    pub const fn is_call(&self) -> bool {
        match self {
            Self::Create | Self::Start | Self::Freeze | Self::Thaw | Self::PowerOff | Self::Destroy => true,
            Self::Boot(_) | Self::Up | Self::Step(_) | Self::Case(_) => false,
        }
    }

    /// Whether something that happens now is this moment. Only names are patterns.
    pub fn covers(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Step(pattern), Self::Step(name)) | (Self::Case(pattern), Self::Case(name)) => glob(pattern, name),
            _ => self == now,
        }
    }
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// The hypervisor refuses the call.
    Refuse(Refusal),
    /// The connection to the hypervisor is gone for so long; for ever when not given.
    LoseConnection(For),
    /// Nothing happens any more. A busy machine burns its processor meanwhile.
    Stall(Stall),
    /// The kernel panics and the machine stands still.
    Panic,
    /// The machine restarts, though nobody asked. On a boot phase: a boot loop.
    Reboot,
    /// The guest switches the machine off.
    PowerOff,
    /// The host cannot serve the disk, and the machine is paused.
    DiskError(DiskError),
    /// The emulator ends by itself. On power-off: it is taken for that, though it was told to.
    EmulatorCrash,
    /// The agent's channel closes for so long; until the next boot when not given.
    AgentLost(For),
    /// The agent answers with bytes that are no answer.
    AgentNonsense(For),
    /// This boot never finishes starting its services.
    NeverSettles,
    /// The rest of this boot takes this many per cent of its time.
    Slow(u32),
    /// The guest's own disk is full from now on, on this clone: what runs fails for it, but for the facts.
    FillDisk,
}

impl Deed {
    fn can_happen_on(&self, moment: &Moment) -> bool {
        match self {
            Self::Refuse(_) => moment.is_call(),
            Self::EmulatorCrash => !moment.is_call() || *moment == Moment::PowerOff,
            _ => !moment.is_call(),
        }
    }
}

/// How the hypervisor refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    Gone,
    NoSpace,
    TimedOut,
    Refused,
}

/// A length of time, or for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct For {
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Stall {
    pub busy: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DiskError {
    pub nospace: bool,
}

/// A step in the guest ends in another way than it would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    pub on: StepName,
    #[serde(default)]
    pub when: When,
    /// Per cent of the times, decided by the seed.
    #[serde(default = "always")]
    pub chance: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<Span>,
    #[serde(default)]
    pub ends: Ends,
    /// `None` leaves the output that the step has by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// How much it writes: `output` over and over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floods: Option<Size>,
    /// What it leaves in `$PATCHLAB_RESULT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

fn always() -> u8 {
    100
}

/// Which steps: the engine's own by the value of `PATCHLAB_STEP`, cases as `suite/case`. `*` stands for anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    Step(String),
    Case(String),
}

/// How a step ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ends {
    /// As it would have.
    #[default]
    AsUsual,
    Exit(i64),
    Signal(i64),
    /// It never ends by itself.
    TimesOut,
    /// It waits for an answer on its terminal; without a terminal it exits with 1.
    Asks,
    Lacks(String),
}

/// A section of the facts that reads differently on some machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Facts {
    pub section: String,
    #[serde(default)]
    pub when: When,
    /// The first point at which it reads so.
    #[serde(default = "baseline")]
    pub from: Point,
    /// The last. By default a rollback undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Point>,
    /// How often the clone's facts were read before they read so.
    #[serde(default)]
    pub read_before: u32,
    /// The whole section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Lines that hold this are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<String>,
    /// Lines at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<String>,
}

pub fn baseline() -> Point {
    Point::Baseline
}

impl Facts {
    pub fn reads_so_at(&self, point: Point) -> bool {
        let until = self.until.unwrap_or(Point::Reapplied).max(self.from);
        (self.from..=until).contains(&point)
    }
}

/// A scenario that means nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ScenarioError {
    #[error("the scenario is not readable: {0}")]
    Unreadable(String),
    #[error(
        "fault {number}: {does:?} cannot happen on {on:?}; refusals happen on create, start, freeze, thaw, power-off or destroy, \
         an emulator-crash also on power-off, all else elsewhere"
    )]
    Misplaced { number: usize, on: Box<Moment>, does: Box<Deed> },
}

impl Scenario {
    /// Reads a scenario from TOML.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml_edit::de::from_str(text).map_err(|e| ScenarioError::Unreadable(e.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether every fault can happen where it is put. In a world made of an unchecked scenario a misplaced fault does nothing.
    pub fn check(&self) -> Result<(), ScenarioError> {
        match self.faults.iter().enumerate().find(|(_, fault)| !fault.does.can_happen_on(&fault.on)) {
            Some((at, fault)) => {
                Err(ScenarioError::Misplaced { number: at + 1, on: Box::new(fault.on.clone()), does: Box::new(fault.does.clone()) })
            }
            None => Ok(()),
        }
    }
}
