//! How much of the hosts there is for machines, and which plans it can never bear.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::{Desk, DeskError};
use crate::catalog::{Catalog, settings};
use crate::id::{Digest, Name};
use crate::journal::HostReport;
use crate::lab::scheduler::choice::Lane;
use crate::lab::scheduler::host::Hosts;
use crate::lab::scheduler::room::{Lack, Room};
use crate::lab::{memory, pause};
use crate::plan::{Plan, PlannedCell};

/// Memory that machines leave to the host.
const MEMORY_LEFT: u64 = 512 << 20;
/// Room on the state folder's disk that overlays leave to everything else.
const DISK_LEFT: u64 = 1 << 30;
/// Cells that are named where many can never run.
const NAMED: usize = 5;

impl Desk {
    /// What a host has for machines while none is at work there, with at most so many of them where somebody says so, by what it says of
    /// itself, if it was asked. One that nobody knows anything of has no room.
    pub(super) fn room_of(&self, host: &settings::Host, said: Option<Said<'_>>, workers: Option<u16>) -> Room {
        room_with(self.workshop.is_simulated(), &self.state.folder, host, said, workers, memory::available())
    }

    /// How many of a plan's machines the hosts bear at once, as far as is known of them.
    pub fn at_once(&self, hosts: &Hosts, plan: &Plan) -> Result<usize, DeskError> {
        let disks = self.disks(plan)?;
        let on = |room: Room| {
            let fits = |cell: &PlannedCell| {
                let needs = Room::of(cell, &disks);
                let machines = cell.machines.len().max(1) as u64;
                let bear = |all: u64, needs: u64| all.saturating_mul(machines).checked_div(needs).unwrap_or(u64::MAX);
                bear(room.memory, needs.memory).min(bear(room.disk, needs.disk)).max(machines)
            };
            let least = plan.cells.iter().map(fits).min().unwrap_or(1);
            usize::try_from(least.min(room.cores.into())).unwrap_or(usize::MAX)
        };
        let machines = plan.machines().count().max(1);
        let all = hosts.in_use().hosts.iter().map(|host| on(host.capacity)).fold(0, usize::saturating_add);
        Ok(all.clamp(1, machines))
    }

    /// How large the images' disks are for their guests. Simulated ones have none.
    pub(super) fn disks(&self, plan: &Plan) -> Result<BTreeMap<Digest, u64>, DeskError> {
        let mut disks = BTreeMap::new();
        if !self.workshop.is_simulated() {
            let store = self.images()?;
            for machine in plan.machines() {
                if let std::collections::btree_map::Entry::Vacant(place) = disks.entry(machine.image.sha256) {
                    place.insert(store.guest_size(machine.image.sha256)?);
                }
            }
        }
        Ok(disks)
    }

    /// Refuses a plan with cells that would wait for ever, because the host has too little for them even with nothing else at work.
    pub(super) fn bear(&self, plan: &Plan) -> Result<(), DeskError> {
        let hosts = self.settled_hosts()?;
        // What is left out for a host elsewhere is known only once it was asked.
        let all =
            |host: &settings::Host| match room_with(self.workshop.is_simulated(), &self.state.folder, host, None, None, memory::total()) {
                room if host.is_own() => room,
                room => Room {
                    memory: host.memory.map_or(u64::MAX, |_| room.memory),
                    disk: if host.pool.is_some() && host.disk.is_none() { u64::MAX } else { room.disk },
                    ..room
                },
            };
        let most: Vec<(&settings::Host, Room)> = hosts.iter().map(|host| (host, all(host))).collect();
        let disks = self.disks(plan)?;
        let never = |cell: &PlannedCell| {
            let needs = Room { cores: 0, boots: 0, ..Room::of(cell, &disks) };
            let labelled = most.iter().filter(|(host, _)| host.labels.is_superset(&cell.host_labels));
            let each: Vec<_> = labelled.map(|(_, most)| needs.lacks(*most, *most)).collect();
            let bears = each.iter().any(Vec::is_empty);
            (!bears).then(|| match each.into_iter().min_by_key(Vec::len) {
                Some(lacks) => refusal(cell, most.len(), &lacks),
                None => format!("{} can't run on any host: none has {}", cell.id, labels(&cell.host_labels)),
            })
        };
        let mut refused: Vec<String> = plan.cells.iter().filter_map(never).collect();
        if refused.is_empty() {
            return Ok(());
        }
        if let Some(more) = refused.len().checked_sub(NAMED).filter(|more| *more > 0) {
            refused.truncate(NAMED);
            refused.push(format!("and {more} more"));
        }
        refused
            .push("leave them out (--build, --environment, --hardware), or change what hosts have: [[host]] in patchlab.toml".to_owned());
        Err(DeskError::Asked(refused.join("\n")))
    }

    /// How soon the customers of a plan want an answer about its patch.
    pub fn lanes(catalog: &Catalog, plan: &Plan) -> Arc<BTreeMap<Name, Lane>> {
        let mut lanes = BTreeMap::new();
        for cell in &plan.cells {
            let policy = || catalog.customers.get(&cell.customer)?.customer.policy.as_ref();
            if !lanes.contains_key(&cell.customer)
                && let Some(deadline) = policy().and_then(|policy| policy.terms(&plan.patch.manifest).deadline)
            {
                lanes.insert(cell.customer.clone(), Lane(deadline.0));
            }
        }
        Arc::new(lanes)
    }

    /// The most urgent lane of a plan's cells, as far as the catalog can be read.
    pub fn lane(&self, plan: &Plan) -> Lane {
        let catalog = self.catalog_again();
        catalog.map_or(Lane::WHENEVER, |catalog| Self::lanes(&catalog, plan).values().min().copied().unwrap_or(Lane::WHENEVER))
    }

    /// Who paused all hosts, if somebody did.
    pub fn paused(&self) -> Result<Option<pause::Pause>, DeskError> {
        Ok(pause::read(&self.state.folder, None)?)
    }
}

/// What a host says of itself.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub report: &'a HostReport,
    /// Bytes that are free for machines' disks, where these are not in the state folder.
    pub disk: Option<u64>,
}

/// See [`Desk::room_of`]; `memory` is what this machine has of it.
pub(super) fn room_with(
    simulated: bool,
    state: &Path,
    host: &settings::Host,
    said: Option<Said<'_>>,
    workers: Option<u16>,
    memory: u64,
) -> Room {
    let own = std::thread::available_parallelism().map_or(1, usize::from);
    let (processors, memory) = match said {
        _ if host.is_own() => (u32::try_from(own).unwrap_or(u32::MAX), memory),
        Some(said) => (said.report.cpus, said.report.memory),
        None => (0, 0),
    };
    let known = host.is_own() || said.is_some();
    let disk = said.and_then(|said| said.disk).unwrap_or_else(|| if host.pool.is_some() { 0 } else { free(state) });
    let cores = workers.filter(|_| known).map(u32::from).or(host.cores).unwrap_or(processors).max(known.into());
    let measured = |found: u64, left: u64| if simulated { u64::MAX } else { found.saturating_sub(left) };
    Room {
        cores,
        boots: host.boots.unwrap_or(cores).clamp(known.into(), cores.max(known.into())),
        memory: host.memory.map_or_else(|| measured(memory, MEMORY_LEFT), |size| size.0),
        disk: host.disk.map_or_else(|| measured(disk, DISK_LEFT), |size| size.0),
    }
}

fn refusal(cell: &PlannedCell, hosts: usize, lacks: &[Lack]) -> String {
    let host = if hosts == 1 { "this host".to_owned() } else { format!("any of the {hosts} hosts") };
    let lacks = lacks.iter().map(Lack::never).collect::<Vec<_>>().join(" and ");
    let machines = cell.machines.len();
    let machines = if machines == 1 { "its machine needs".to_owned() } else { format!("its {machines} machines need") };
    format!("{} can't run on {host}: {machines} {lacks}", cell.id)
}

/// `the labels a and b`
fn labels(labels: &BTreeSet<Name>) -> String {
    let names = labels.iter().map(Name::as_str).collect::<Vec<_>>().join(" and ");
    if labels.len() == 1 { format!("the label {names}") } else { format!("the labels {names}") }
}

/// Bytes that are free on the disk of a folder; 0 where nobody says.
fn free(folder: &Path) -> u64 {
    nix::sys::statvfs::statvfs(folder).map_or(0, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::text::Size;

    #[test]
    fn a_pool_has_what_its_host_says_and_the_settings_have_the_last_word() {
        let report = HostReport {
            accelerator: "kvm".to_owned(),
            accelerator_reason: String::new(),
            qemu: String::new(),
            libvirt: String::new(),
            kernel: String::new(),
            cpus: 8,
            memory: 32 << 30,
        };
        let pooled = settings::Host {
            uri: Some("qemu+ssh://beta/system".to_owned()),
            pool: Some("lab".to_owned()),
            ..settings::Host::plain(Name::constant("beta"))
        };
        let disk = |host: &settings::Host, said| room_with(false, Path::new("/"), host, said, None, 0).disk;
        let said = |disk| Some(Said { report: &report, disk });
        let bounded = settings::Host { disk: Some(Size::mib(5 << 10)), ..pooled.clone() };
        for (host, said, room) in [
            (&pooled, said(Some(100 << 30)), 99 << 30),
            (&pooled, said(Some(1 << 20)), 0),
            (&pooled, None, 0),
            (&bounded, said(Some(100 << 30)), 5 << 30),
        ] {
            assert_eq!(disk(host, said), room, "{:?}", said.map(|said| said.disk));
        }
        let shared = settings::Host { pool: None, ..pooled };
        assert!(disk(&shared, said(None)) > 0, "the state folder's disk counts where the host sees it");
    }
}
