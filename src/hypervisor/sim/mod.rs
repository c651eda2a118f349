//! The simulated hypervisor: machines without QEMU, in a [`World`] that a [`Scenario`] describes. For demonstrations, scale tests and
//! crash tests; every kind of bad news that the blame table knows can be had from it.
//!
//! ```text
//! scenario (data) ──▶ world (time, agenda) ──▶ machine (states) ──▶ jobs ──▶ step ──▶ facts, shell
//!    ▲  compose           │                       ├ boot (phases, console)
//!    └  (made in code)    └ store (what outlives  └ deeds (what faults do)
//!                           the controller)
//! ```
//! Invariants: a call to a machine that is not there or not in the needed state is refused as libvirt refuses it; nothing here reads
//! the host's clock or randomness.

mod boot;
mod compose;
mod deeds;
mod facts;
mod jobs;
mod machine;
mod matching;
mod scenario;
mod seed;
mod shell;
mod step;
mod store;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

pub(crate) use machine::{Agent, Effects, Machine, Record, State};
#[cfg(test)]
use matching::Situation;
pub use matching::When;
pub use scenario::{
    Deed, DiskError, Ends, Facts, Fault, Flaw, For, Host, Moment, Pace, Refusal, Scenario, ScenarioError, Stall, Step, StepName, Templates,
};
pub use seed::Seed;
pub(crate) use world::Core;
pub use world::{TraceEntry, World, WorldError};

use super::screen::png;
use super::segments::{self, NetworkSpec};
use super::{
    AgentError, Hypervisor, HypervisorError, HypervisorErrorKind, MachineEvent, MachineEventKind, MachineSpec, OnTemplate, Owned, Plug,
    Tag, Vitals, WireReport,
};
use crate::catalog::hardware::Hardware;
use crate::journal::HostReport;

/// The console's bytes that one call gives at the most.
const CONSOLE_CAP: usize = 1 << 20;
/// What a frozen machine of this world is kept in.
const FROZEN: &str = "memory.save";
/// How long a call takes that only asks.
const ASKING: Duration = Duration::from_millis(5);
/// How long a call takes that changes something.
const DOING: Duration = Duration::from_millis(50);

/// The hypervisor of a simulated world.
pub struct SimHypervisor {
    world: Arc<World>,
    lab: String,
}

impl SimHypervisor {
    /// As the lab of this id sees it. Several labs may share a world.
    pub fn new(world: Arc<World>, lab: &str) -> Self {
        Self { world, lab: lab.to_owned() }
    }

    /// Does something to a machine that must exist.
    async fn on<T>(
        &self,
        machine: &str,
        tried: &str,
        takes: Duration,
        act: impl FnOnce(&mut Machine, &mut Effects<'_>) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let tried = format!("{tried} {machine}");
        self.world
            .operate(takes, |core, now| {
                connected(core, now, &tried)?;
                core.machine(machine, now, act).unwrap_or_else(|| Err(no_machine(&tried, "there is no such machine")))
            })
            .await
    }
}

impl SimHypervisor {
    /// Nothing crosses a simulated network, so there is nothing to do on one but to be there.
    async fn on_network<T>(
        &self,
        network: &str,
        tried: &str,
        answer: impl FnOnce(&NetworkSpec, &str) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let tried = format!("{tried} {network}");
        self.world
            .operate(ASKING, |core, now| {
                connected(core, now, &tried)?;
                let (_, spec) = core.networks.get(network).ok_or_else(|| no_machine(&tried, "there is no such network"))?;
                answer(spec, &tried)
            })
            .await
    }
}

#[async_trait]
impl Hypervisor for SimHypervisor {
    async fn host(&self) -> Result<HostReport, HypervisorError> {
        self.world
            .operate(ASKING, |core, now| {
                connected(core, now, "ask for the host")?;
                let host = &core.scenario.host;
                Ok(HostReport {
                    accelerator: "sim".to_owned(),
                    accelerator_reason: "the machines are simulated".to_owned(),
                    qemu: "none".to_owned(),
                    libvirt: "none".to_owned(),
                    kernel: "none".to_owned(),
                    cpus: host.cpus,
                    memory: host.memory.0,
                })
            })
            .await
    }

    async fn open_network(&self, name: &str, tag: &Tag, spec: &NetworkSpec) -> Result<(), HypervisorError> {
        let tried = format!("open the network {name}");
        self.world
            .operate(DOING, |core, now| {
                connected(core, now, &tried)?;
                if !is_file_name(name) || tag.lab != self.lab {
                    return Err(refused(&tried, "the name or the tag is not this lab's"));
                }
                if core.networks.contains_key(name) || core.has(name) {
                    return Err(refused(&tried, "there is a network or a machine of this name already"));
                }
                core.networks.insert(name.to_owned(), (tag.clone(), spec.clone()));
                Ok(())
            })
            .await
    }

    async fn disturb(&self, network: &str, fault: &segments::Fault) -> Result<(), HypervisorError> {
        let known = |spec: &NetworkSpec, tried: &str| {
            let segment = spec.segments.iter().find(|segment| segment.name == fault.segment);
            let nics = segment.map(|segment| segment.nics.as_slice()).unwrap_or_default();
            let meant = fault.nic.as_ref().is_none_or(|meant| nics.iter().any(|nic| nic.name == *meant));
            if segment.is_some() && meant { Ok(()) } else { Err(refused(tried, "there is no such segment or NIC")) }
        };
        self.on_network(network, "disturb", known).await
    }

    async fn wire(&self, network: &str) -> Result<WireReport, HypervisorError> {
        let report = |_: &NetworkSpec, _: &str| {
            Ok(WireReport { unseen: Some("nothing crosses a simulated network".to_owned()), ..WireReport::default() })
        };
        self.on_network(network, "look at", report).await
    }

    async fn create(&self, spec: &MachineSpec) -> Result<String, HypervisorError> {
        let tried = format!("create {}", spec.name);
        let takes = self.world.scenario().pace.create.0;
        self.world
            .operate(takes, |core, now| {
                connected(core, now, &tried)?;
                if !is_file_name(&spec.name) {
                    return Err(refused(&tried, "the name is not usable as a file name of at most 60 bytes"));
                }
                if core.has(&spec.name) {
                    return Err(refused(&tried, "there is a machine or a folder of this name already"));
                }
                let frozen = |template: &OnTemplate| {
                    let read = std::fs::read(template.folder.join(FROZEN)).ok();
                    read.and_then(|read| serde_json::from_slice(&read).ok()).ok_or_else(|| refused(&tried, "its template is not there"))
                };
                let frozen: Option<Record> = spec.template.as_ref().map(frozen).transpose()?;
                let has_place = |nic: &Plug| {
                    let segments = core.networks.get(&nic.network).map(|(_, spec)| spec.segments.as_slice()).unwrap_or_default();
                    segments.iter().any(|segment| segment.name == nic.segment && segment.nics.iter().any(|one| one.name == nic.nic))
                };
                if !spec.nics.iter().filter_map(|nic| nic.at.as_ref()).all(has_place) {
                    return Err(refused(&tried, "it is to be on a network that is not open, or has no place for it"));
                }
                let cell = spec.tag.cell.as_str();
                let nth = core.next_clone(cell).map_err(|e| disk(&tried, &e))?;
                let role = spec.nics.iter().find_map(|nic| nic.at.as_ref()).map_or("", |plug| plug.nic.as_str());
                let mut machine = Machine::new(cell, role, nth, spec.hardware.clone());
                machine.record.macs = spec.nics.iter().map(|nic| nic.mac.to_string()).collect();
                if let Some(frozen) = frozen {
                    machine.lie_on(frozen);
                }
                refuse(machine.refusal(&Moment::Create, &core.scenario), &tried)?;
                core.create(&spec.name, spec.tag.clone(), machine).map_err(|e| disk(&tried, &e))?;
                Ok(format!(
                    "<domain type='sim'>\n  <name>{}</name>\n  <memory unit='bytes'>{}</memory>\n  <vcpu>{}</vcpu>\n</domain>\n",
                    spec.name,
                    spec.hardware.memory.0,
                    spec.hardware.processors()
                ))
            })
            .await
    }

    fn freezes(&self) -> bool {
        self.world.scenario().templates.freeze
    }

    fn unfreezable(&self, _hardware: &Hardware) -> Option<String> {
        (!self.freezes()).then(|| "the scenario's machines can't be frozen".to_owned())
    }

    async fn freeze(&self, machine: &str, into: &Path) -> Result<(), HypervisorError> {
        let takes = self.world.scenario().pace.freeze.0;
        self.on(machine, "freeze", takes, |machine, fx| {
            refuse(machine.refusal(&Moment::Freeze, fx.scenario), "freeze")?;
            running(machine, "freeze")?;
            let frozen = serde_json::to_vec(&machine.record).map_err(|error| refused("freeze", &error.to_string()))?;
            std::fs::write(into.join(FROZEN), frozen).map_err(|error| disk("freeze", &error))?;
            machine.go_off(MachineEventKind::Stopped, fx);
            Ok(())
        })
        .await
    }

    async fn thaw(&self, machine: &str) -> Result<(), HypervisorError> {
        let takes = self.world.scenario().pace.thaw.0;
        self.on(machine, "thaw", takes, |machine, fx| {
            refuse(machine.refusal(&Moment::Thaw, fx.scenario), "thaw")?;
            match machine.state {
                State::Off if machine.record.on_template && machine.record.boots == 0 => {
                    machine.thaw(fx);
                    Ok(())
                }
                State::Off => Err(no_machine("thaw", "it was not made on a template, or ran already")),
                State::Booting { .. } | State::Up { .. } | State::Hung { .. } => Err(no_machine("thaw", "it is running already")),
            }
        })
        .await
    }

    async fn start(&self, machine: &str) -> Result<(), HypervisorError> {
        let takes = self.world.scenario().pace.start.0;
        self.on(machine, "start", takes, |machine, fx| {
            refuse(machine.refusal(&Moment::Start, fx.scenario), "start")?;
            match machine.state {
                State::Off => {
                    machine.start(fx);
                    Ok(())
                }
                State::Booting { .. } | State::Up { .. } | State::Hung { .. } => Err(no_machine("start", "it is running already")),
            }
        })
        .await
    }

    async fn shutdown(&self, machine: &str) -> Result<(), HypervisorError> {
        self.on(machine, "shut down", DOING, |machine, fx| {
            running(machine, "shut down")?;
            machine.go_down(false, fx);
            Ok(())
        })
        .await
    }

    async fn power_off(&self, machine: &str) -> Result<(), HypervisorError> {
        self.on(machine, "switch off", DOING, |machine, fx| {
            refuse(machine.refusal(&Moment::PowerOff, fx.scenario), "switch off")?;
            if running(machine, "switch off").is_ok() && machine.strike(&Moment::PowerOff, fx) {
                machine.go_off(MachineEventKind::Stopped, fx);
            }
            Ok(())
        })
        .await
    }

    async fn reset(&self, machine: &str) -> Result<(), HypervisorError> {
        self.on(machine, "reset", DOING, |machine, fx| {
            running(machine, "reset")?;
            machine.restart(fx);
            Ok(())
        })
        .await
    }

    async fn destroy(&self, machine: &str) -> Result<(), HypervisorError> {
        let tried = format!("destroy {machine}");
        self.world
            .operate(DOING, |core, now| {
                connected(core, now, &tried)?;
                if !is_file_name(machine) {
                    return Ok(());
                }
                if let Some((tag, _)) = core.networks.get(machine) {
                    if tag.lab != self.lab {
                        return Err(refused(&tried, "it bears another lab's tag"));
                    }
                    core.networks.remove(machine);
                    return Ok(());
                }
                if core.tag(machine).is_some_and(|tag| tag.lab != self.lab) {
                    return Err(refused(&tried, "it bears another lab's tag"));
                }
                let off = core.machine(machine, now, |machine, fx| {
                    refuse(machine.refusal(&Moment::Destroy, fx.scenario), &tried)?;
                    if running(machine, &tried).is_ok() {
                        machine.go_off(MachineEventKind::Stopped, fx);
                    }
                    Ok(())
                });
                off.unwrap_or(Ok(()))?;
                core.destroy(machine).map_err(|e| disk(&tried, &e))
            })
            .await
    }

    async fn vitals(&self, machine: &str) -> Result<Vitals, HypervisorError> {
        self.on(machine, "look at", ASKING, |machine, _| Ok(machine.vitals())).await
    }

    async fn console(&self, machine: &str, offset: u64) -> Result<Vec<u8>, HypervisorError> {
        self.on(machine, "read the console of", ASKING, |machine, _| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = machine.console.as_bytes().get(from..).unwrap_or_default();
            Ok(rest[..rest.len().min(CONSOLE_CAP)].to_vec())
        })
        .await
    }

    async fn screenshot(&self, machine: &str) -> Result<Option<Vec<u8>>, HypervisorError> {
        self.on(machine, "picture", ASKING, |machine, _| {
            let grey = match machine.state {
                State::Off => return Ok(None),
                State::Booting { .. } => 40,
                State::Up { .. } => 80,
                State::Hung { .. } => 160,
            };
            let mut picture = b"P6\n2 2\n255\n".to_vec();
            picture.extend([grey; 12]);
            Ok(png(picture))
        })
        .await
    }

    /// Knows `guest-ping` alone: [`crate::guest::sim`] speaks to the world itself.
    async fn agent(&self, machine: &str, command: &str, _within: Duration) -> Result<String, AgentError> {
        let found = self
            .on(machine, "ask the agent of", ASKING, |machine, _| {
                Ok(match &machine.state {
                    State::Off => Err(AgentError::NotRunning("it is off".to_owned())),
                    State::Up { mood, .. } if mood.agent == Agent::Well => Ok(()),
                    State::Up { .. } | State::Booting { .. } | State::Hung { .. } => Err(AgentError::Unresponsive("no answer".to_owned())),
                })
            })
            .await?;
        found?;
        let command: Option<serde_json::Value> = serde_json::from_str(command).ok();
        match command.as_ref().and_then(|command| command.get("execute")?.as_str()) {
            Some("guest-ping") => Ok("{\"return\":{}}".to_owned()),
            Some(other) => Err(AgentError::Refused(format!("the command {other} has not been found"))),
            None => Err(AgentError::Refused("invalid JSON".to_owned())),
        }
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.world.events()
    }

    fn events_of(&self, machine: &str) -> broadcast::Receiver<MachineEvent> {
        self.world.events_of(machine)
    }

    async fn owned(&self) -> Result<Vec<Owned>, HypervisorError> {
        self.world
            .operate(ASKING, |core, now| {
                connected(core, now, "list the lab's machines")?;
                core.owned(&self.lab).map_err(|e| disk("list the lab's machines", &e))
            })
            .await
    }
}

/// Refuses while the connection is gone.
pub(crate) fn connected(core: &Core, now: Duration, tried: &str) -> Result<(), HypervisorError> {
    refuse(core.is_out(now).then_some(Refusal::Gone), tried)
}

fn running(machine: &Machine, tried: &str) -> Result<(), HypervisorError> {
    match machine.state {
        State::Off => Err(no_machine(tried, "it is off")),
        State::Booting { .. } | State::Up { .. } | State::Hung { .. } => Ok(()),
    }
}

fn refuse(refusal: Option<Refusal>, tried: &str) -> Result<(), HypervisorError> {
    let (kind, found) = match refusal {
        None => return Ok(()),
        Some(Refusal::Gone) => (HypervisorErrorKind::Gone, "the connection to the hypervisor is gone"),
        Some(Refusal::NoSpace) => (HypervisorErrorKind::NoSpace, "no space left on the host"),
        Some(Refusal::TimedOut) => (HypervisorErrorKind::TimedOut, "the call outlived its deadline"),
        Some(Refusal::Refused) => (HypervisorErrorKind::Refused, "the hypervisor refused"),
    };
    Err(error(kind, tried, found, "the scenario says so"))
}

pub(crate) fn no_machine(tried: &str, found: &str) -> HypervisorError {
    error(HypervisorErrorKind::NoMachine, tried, found, "")
}

fn refused(tried: &str, found: &str) -> HypervisorError {
    error(HypervisorErrorKind::Refused, tried, found, "")
}

fn disk(tried: &str, found: &std::io::Error) -> HypervisorError {
    let full = found.kind() == std::io::ErrorKind::StorageFull;
    error(if full { HypervisorErrorKind::NoSpace } else { HypervisorErrorKind::Refused }, tried, &found.to_string(), "")
}

fn error(kind: HypervisorErrorKind, tried: &str, found: &str, hint: &str) -> HypervisorError {
    HypervisorError { kind, tried: tried.to_owned(), found: found.to_owned(), hint: hint.to_owned() }
}

fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    (1..=60).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}
