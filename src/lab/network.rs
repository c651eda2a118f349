//! A cell's machines among each other: the network of a pass, each machine's addresses on it, and when a machine is ready for its peers.

use std::collections::BTreeSet;

use super::runner::{CellRunner, Stop};
use super::session::lab_trouble;
use super::stages::named;
use super::timeline::Names;
use crate::catalog::environment::Ready;
use crate::catalog::step::{Disturbance, Site};
use crate::cell::{Cause, Stage, Trouble};
use crate::guest::linux::judge;
use crate::guest::linux::peers::{network_step, ready_step};
use crate::hypervisor::segments::{Chance, Fault, Mac, NetworkSpec, NicSpec, SegmentSpec, Verb};
use crate::hypervisor::{MachineNic, Plug, Tag};
use crate::id::{Digest, Name};
use crate::plan::{PlannedCell, PlannedMachine};

/// The most bytes that the capture of one segment takes.
const CAPTURE: u64 = 256 << 20;

impl CellRunner {
    /// Opens the pass's network, where the plan has one.
    pub(super) async fn open_network(&mut self, name: &str) -> Result<(), Stop> {
        if self.cell.segments.is_empty() {
            return Ok(());
        }
        let tag = Tag { lab: self.lab.id.clone(), run: self.run, cell: self.cell.id.clone(), lease: name.to_owned() };
        self.lab.hypervisor.open_network(name, &tag, &spec(&self.cell)).await.map_err(lab_trouble)?;
        Ok(())
    }

    /// Gives a machine its addresses and its peers' names, once on each clone.
    pub(super) async fn join_network(&mut self, stage: Stage, at: usize) -> Result<(), Stop> {
        let Some(machine) = self.cell.machines.get(at).filter(|machine| !machine.nics.is_empty()) else { return Ok(()) };
        let nic = |nic: &crate::plan::PlannedNic| (mac(&self.cell, machine, &nic.segment).to_string(), with_prefix(&self.cell, nic));
        let nics: Vec<_> = machine.nics.iter().map(nic).collect();
        let step = network_step(&nics, &hosts(&self.cell, machine));
        self.tell(stage, "joining the network");
        let reports = self.engine_job(stage, at, "network", vec![step]).await?;
        Ok(judge::network(&reports)?)
    }

    /// Waits until a machine has its addresses and is what its peers wait for.
    pub(super) async fn become_ready(&mut self, stage: Stage, at: usize) -> Result<(), Stop> {
        let Some(machine) = self.cell.machines.get(at).filter(|machine| !machine.nics.is_empty()) else { return Ok(()) };
        let addresses = machine.nics.iter().map(|nic| format!("address {}", with_prefix(&self.cell, nic)));
        let conditions: Vec<String> = addresses.chain(machine.ready.iter().map(Ready::to_string)).collect();
        let within = machine.ready_within.0;
        self.tell(stage, "getting ready for its peers");
        let reports = self.engine_job(stage, at, "ready", vec![named(ready_step(&conditions, within), "ready")]).await?;
        Ok(judge::ready(&reports, within.as_secs())?)
    }

    /// A machine's NICs: on the pass's network, or one that leads nowhere.
    pub(super) fn nics(&self, pass: &str, machine: &PlannedMachine) -> Vec<MachineNic> {
        let nic = |planned: &crate::plan::PlannedNic| MachineNic {
            mac: mac(&self.cell, machine, &planned.segment),
            at: Some(Plug { network: pass.to_owned(), segment: planned.segment.clone(), nic: machine.role.clone() }),
        };
        let nics: Vec<MachineNic> = machine.nics.iter().map(nic).collect();
        if nics.is_empty() { vec![MachineNic { mac: nowhere(machine, 0), at: None }] } else { nics }
    }

    /// Does something to the pass's network.
    pub(super) async fn disturb(&mut self, what: &Disturbance, player: impl Fn(&Name) -> Name) -> Result<(), Stop> {
        let Some(pass) = self.pass.as_ref().map(|pass| pass.name.clone()) else { return Ok(()) };
        for fault in faults(&self.cell, what, player) {
            self.lab.hypervisor.disturb(&pass, &fault).await.map_err(lab_trouble)?;
        }
        Ok(())
    }

    /// Whether the network carried every frame it should have: what its end explains is no finding.
    pub(super) async fn network_holds(&self) -> Result<(), Stop> {
        let Some(pass) = self.pass.as_ref().filter(|_| !self.cell.segments.is_empty()) else { return Ok(()) };
        match self.lab.hypervisor.wire(&pass.name).await.map_err(lab_trouble)?.broken {
            None => Ok(()),
            Some(why) => Err(Trouble::new(Cause::Hypervisor, format!("the cell's network stopped carrying frames: {why}")).into()),
        }
    }
}

/// The address of a NIC whose wire leads nowhere: nobody else sees it, so all machines of a kind have the same, and clones keep it.
pub(super) fn nowhere(machine: &PlannedMachine, number: usize) -> Mac {
    Mac::of(&format!("{}/{}/{number}", machine.image.sha256, machine.hardware.sha256))
}

/// The network that a cell's plan describes. The same cell always has the same addresses and the same chance.
fn spec(cell: &PlannedCell) -> NetworkSpec {
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(cell.id.as_str()).bytes();
    let on = |segment: &Name| {
        let members = cell.machines.iter().filter(|machine| machine.nics.iter().any(|nic| nic.segment == *segment));
        members.map(|machine| NicSpec { name: machine.role.clone(), mac: mac(cell, machine, segment) }).collect()
    };
    NetworkSpec {
        seed: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        capture_cap: CAPTURE,
        segments: cell.segments.iter().map(|segment| SegmentSpec { name: segment.name.clone(), nics: on(&segment.name) }).collect(),
    }
}

/// A machine's address on a segment: of QEMU's range, told apart by environment, role and segment.
pub(super) fn mac(cell: &PlannedCell, machine: &PlannedMachine, segment: &Name) -> Mac {
    Mac::of(&format!("{}.{}/{}/{segment}", cell.customer, cell.subject_name(), machine.role))
}

/// Who is behind the addresses of a segment.
pub(super) fn names(cell: &PlannedCell, segment: &Name) -> Names {
    let mut names = Names::default();
    for machine in &cell.machines {
        if let Some(nic) = machine.nics.iter().find(|nic| nic.segment == *segment) {
            names.add(machine.role.as_str(), mac(cell, machine, segment), Some(nic.address));
        }
    }
    names
}

fn with_prefix(cell: &PlannedCell, nic: &crate::plan::PlannedNic) -> String {
    let prefix = cell.segments.iter().find(|segment| segment.name == nic.segment).map_or(24, |segment| segment.subnet.prefix());
    format!("{}/{prefix}", nic.address)
}

/// How this machine finds the others: by an address on a segment that both are on.
fn hosts(cell: &PlannedCell, machine: &PlannedMachine) -> Vec<String> {
    let line = |peer: &PlannedMachine| {
        let address = address_for(machine, peer)?;
        Some(format!("{address} {} {}", peer.role, peer.names.join(" ")).trim().to_owned())
    };
    cell.machines.iter().filter_map(line).collect()
}

/// The address by which a machine reaches a peer, or itself.
pub(super) fn address_for(machine: &PlannedMachine, peer: &PlannedMachine) -> Option<std::net::Ipv4Addr> {
    peer.nics.iter().find(|nic| machine.nics.iter().any(|own| own.segment == nic.segment)).map(|nic| nic.address)
}

/// A disturbance as faults on the cell's segments.
fn faults(cell: &PlannedCell, what: &Disturbance, player: impl Fn(&Name) -> Name) -> Vec<Fault> {
    let everywhere = || cell.segments.iter().map(|segment| (segment.name.clone(), None)).collect::<Vec<_>>();
    let places = |site: &Site| match site {
        Site::Nic { role, segment } => vec![(segment.clone(), Some(player(role)))],
        Site::Whole(name) if cell.segments.iter().any(|segment| segment.name == *name) => vec![(name.clone(), None)],
        Site::Whole(role) => {
            let role = player(role);
            let machine = cell.machines.iter().find(|machine| machine.role == role);
            machine.iter().flat_map(|machine| &machine.nics).map(|nic| (nic.segment.clone(), Some(role.clone()))).collect()
        }
    };
    let chance = |thousandths: &u16| Chance::percent(f64::from(*thousandths) / 10.0).unwrap_or(Chance::ALWAYS);
    let (places, verb) = match what {
        Disturbance::Down(at) => (places(at), Verb::LinkDown),
        Disturbance::Up(at) => (places(at), Verb::LinkUp),
        Disturbance::Delay(at, by) => (places(at), Verb::Delay { by: *by }),
        Disturbance::Jitter(at, up_to) => (places(at), Verb::Jitter { up_to: *up_to }),
        Disturbance::Loss(at, share) => (places(at), Verb::Loss { chance: chance(share) }),
        Disturbance::Duplicate(at, share) => (places(at), Verb::Duplicate { chance: chance(share) }),
        Disturbance::Partition(roles) => return partition(cell, &roles.iter().map(player).collect()),
        Disturbance::Heal => (everywhere(), Verb::Clear),
    };
    places.into_iter().map(|(segment, nic)| Fault { segment, nic, verb: verb.clone() }).collect()
}

/// On every segment: those of these roles that are on it see each other, and nobody else does.
fn partition(cell: &PlannedCell, roles: &BTreeSet<Name>) -> Vec<Fault> {
    let fault = |segment: &crate::plan::PlannedSegment| {
        let is_on = |machine: &&PlannedMachine| machine.nics.iter().any(|nic| nic.segment == segment.name);
        let group: BTreeSet<Name> =
            cell.machines.iter().filter(is_on).map(|machine| machine.role.clone()).filter(|role| roles.contains(role)).collect();
        let verb = Verb::Partition { groups: vec![group.clone()] };
        (!group.is_empty()).then(|| Fault { segment: segment.name.clone(), nic: None, verb })
    };
    cell.segments.iter().filter_map(fault).collect()
}
