//! An environment on its way into the plan: which hardware for whom, and the patch levels that a rollout passes through.

use std::collections::{BTreeMap, BTreeSet};

use super::build::{NoPlan, Profiles, Request, SealedImage, Spared, host_labels, machine, no_image, spared, wanted};
use super::{Exclusion, Plan, PlannedCell, PlannedMachine, PlannedNic, PlannedSegment, PlannedSuite, Shared, Subject, pairwise};
use crate::catalog::build::Levels;
use crate::catalog::environment::{Environment, Member, start_order};
use crate::catalog::{Catalog, CustomerEntry};
use crate::id::{CellId, Name};

/// One environment of one customer, and what it is planned from.
pub(super) struct Surroundings<'a> {
    pub catalog: &'a Catalog,
    pub request: &'a Request,
    pub images: &'a BTreeMap<Name, SealedImage>,
    pub hardware: &'a Profiles,
    pub customer: &'a Name,
    pub entry: &'a CustomerEntry,
    pub name: &'a Name,
    pub environment: &'a Environment,
}

/// A role's machine with the profiles that it is tried on.
struct Player {
    machine: PlannedMachine,
    hardware: Vec<Name>,
    /// Whether the patch has anything to do on it.
    concerned: Result<Vec<Spared>, String>,
}

impl Surroundings<'_> {
    pub fn plan(&self, plan: &mut Plan, problems: &mut Vec<NoPlan>) {
        let what = format!("{}.{}", self.customer, self.name);
        let after = self.environment.roles.iter().map(|(role, member)| (role.clone(), member.after.clone())).collect();
        // The catalog is valid as a whole, so there is an order.
        let order = start_order(&after).unwrap_or_default();
        let mut players = Vec::new();
        for role in &order {
            let Some(member) = self.environment.roles.get(role) else { continue };
            match self.player(role, member, plan, problems) {
                Some(player) => players.push(player),
                None => return,
            }
        }
        let mut leave = |what: String, reason: String| plan.excluded.push(Exclusion { what, reason });
        let suites = self.suites(&what, &mut leave);
        if suites.is_empty() {
            leave(what, "none of its suites was asked for".to_owned());
            return;
        }
        let roles: Vec<Name> = players.iter().filter(|player| player.concerned.is_ok()).map(|player| player.machine.role.clone()).collect();
        for player in &players {
            let role = &player.machine.role;
            match &player.concerned {
                Err(reason) => leave(format!("{what}: {role} patched"), reason.clone()),
                Ok(spared) => spared.iter().for_each(|((_, id), reason)| leave(format!("{what}: {role}: {id}"), reason.clone())),
            }
        }
        let mut fitting = Vec::new();
        for choice in choices(&players) {
            if choice.iter().any(|hardware| !wanted(&self.request.hardware, hardware)) {
                leave(format!("{what}@{}", label(&choice)), "this hardware was not asked for".to_owned());
            } else if let Some(machines) = self.equipped(&players, &choice) {
                fitting.push((label(&choice), machines));
            } else {
                leave(format!("{what}@{}", label(&choice)), "an image does not boot on a profile's firmware".to_owned());
            }
        }
        let kinds = || fitting.iter().map(|(label, machines)| (label.clone(), attributes(machines))).collect();
        let (chosen, left) = pairwise::limit(fitting.len(), kinds, &what, self.entry.customer.most_hardware);
        left.into_iter().for_each(|one| leave(one.what, one.reason));
        for (_, machines) in fitting.into_iter().enumerate().filter(|(at, _)| chosen.contains(at)).map(|(_, fits)| fits) {
            for level in levels(&roles, self.entry.customer.levels) {
                let cell = self.cell(&machines, &level, &suites);
                if self.request.levels.is_empty() || self.request.levels.iter().any(|asked| is_level(asked, &cell.level(), &level)) {
                    plan.cells.push(cell);
                } else {
                    leave(cell.id.to_string(), "this level was not asked for".to_owned());
                }
            }
        }
    }

    fn player(&self, role: &Name, member: &Member, plan: &Plan, problems: &mut Vec<NoPlan>) -> Option<Player> {
        let build = self.entry.builds.get(&member.build)?;
        let Some(sealed) = self.images.get(&build.image) else {
            let problem = no_image(self.catalog, self.customer, &member.build, build);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
            return None;
        };
        let image = self.catalog.images.get(&build.image)?;
        let hardware = if member.hardware.is_empty() { build.hardware.clone() } else { member.hardware.clone() };
        let first = self.hardware.get(hardware.first()?)?.clone();
        let nics = member.address.iter().map(|(segment, address)| PlannedNic { segment: segment.clone(), address: *address });
        let concerned = spared(plan, sealed);
        let machine = PlannedMachine {
            spared: concerned.iter().flatten().map(|((patch, _), _)| *patch).collect(),
            nics: nics.collect(),
            names: member.names.clone(),
            ready: member.ready.clone(),
            ready_within: member.ready_within,
            patched: false,
            ..machine(role.clone(), &member.build, build, image.image.os, sealed, first)
        };
        Some(Player { machine, hardware, concerned })
    }

    /// The machines on this choice of hardware, one profile a player; `None` where an image does not boot on its profile.
    fn equipped(&self, players: &[Player], choice: &[Name]) -> Option<Vec<PlannedMachine>> {
        let equip = |(player, hardware): (&Player, &Name)| {
            let hardware = self.hardware.get(hardware)?.clone();
            let image = self.catalog.images.get(&player.machine.image.name)?;
            let boots = image.image.firmware.contains(&hardware.profile.firmware);
            boots.then(|| PlannedMachine { hardware, ..player.machine.clone() })
        };
        players.iter().zip(choice).map(equip).collect()
    }

    fn cell(&self, machines: &[PlannedMachine], level: &BTreeSet<Name>, suites: &[Shared<PlannedSuite>]) -> PlannedCell {
        let machines: Vec<_> =
            machines.iter().map(|machine| PlannedMachine { patched: level.contains(&machine.role), ..machine.clone() }).collect();
        let mut cell = PlannedCell {
            id: CellId::new(self.customer, self.name, self.name),
            customer: self.customer.clone(),
            subject: Subject::Environment(self.name.clone()),
            host_labels: host_labels(self.entry, &machines),
            machines,
            segments: self
                .environment
                .segments
                .iter()
                .map(|(name, segment)| PlannedSegment { name: name.clone(), subnet: segment.subnet })
                .collect(),
            suites: suites.to_vec(),
            confirmations: self.entry.customer.confirmations,
            attempts: self.entry.customer.attempts,
            baseline_valid_for: self.entry.customer.baseline_valid_for(),
        };
        cell.id = CellId::of_level(self.customer, self.name, &cell.hardware_label(), &cell.level());
        cell
    }

    fn suites(&self, what: &str, leave: &mut impl FnMut(String, String)) -> Vec<Shared<PlannedSuite>> {
        let mut planned = Vec::new();
        for name in &self.environment.suites {
            if !wanted(&self.request.suites, name) {
                leave(format!("{what}: {name}"), "this suite was not asked for".to_owned());
                continue;
            }
            let Some(entry) = self.catalog.suites.get(name) else { continue };
            let cast = self.environment.cast.get(name);
            let player = |role: &Name| cast.and_then(|cast| cast.get(role)).unwrap_or(role).clone();
            let cast = entry.suite.roles.iter().map(|role| (role.clone(), player(role))).collect();
            let (name, cases) = (name.clone(), entry.suite.cases.clone());
            planned.push(PlannedSuite { name, sha256: entry.sha256, cast, cases, packages: Vec::new() }.into());
        }
        planned
    }
}

/// The attributes of all machines together, each told apart by its role.
fn attributes(machines: &[PlannedMachine]) -> pairwise::Attributes {
    let of = |machine: &PlannedMachine| {
        let role = machine.role.clone();
        pairwise::attributes(&machine.hardware.profile).into_iter().map(move |(name, value)| (format!("{role} {name}"), value))
    };
    machines.iter().flat_map(of).collect()
}

/// Every choice of one profile a player.
fn choices(players: &[Player]) -> Vec<Vec<Name>> {
    players.iter().fold(vec![Vec::new()], |choices, player| {
        let with = |choice: Vec<Name>| {
            player.hardware.iter().map(move |hardware| choice.iter().cloned().chain([hardware.clone()]).collect::<Vec<_>>())
        };
        choices.into_iter().flat_map(with).collect()
    })
}

/// The asked levels that no wanted environment is tried at.
pub(super) fn unknown_levels(request: &Request, catalog: &Catalog) -> Vec<NoPlan> {
    let mut known = BTreeSet::new();
    for (customer, entry) in &catalog.customers {
        let environments = entry.environments.iter().filter(|(name, _)| wanted(&request.environments, name));
        for (_, environment) in environments.filter(|_| wanted(&request.customers, customer)) {
            let roles: Vec<Name> = environment.roles.keys().cloned().collect();
            for level in levels(&roles, entry.customer.levels) {
                let label = level.iter().map(Name::as_str).collect::<Vec<_>>().join("+");
                known.insert((if level.len() == roles.len() { "all".to_owned() } else { label }, level));
            }
        }
    }
    let known_as = || known.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>().join(", ");
    let unknown = request.levels.iter().filter(|asked| !known.iter().any(|(label, level)| is_level(asked, label, level)));
    unknown.map(|name| NoPlan::Unknown { kind: "patch level", name: name.clone(), known: known_as() }).collect()
}

/// Whether someone means this level, in whichever order the roles were said.
fn is_level(asked: &str, label: &str, level: &BTreeSet<Name>) -> bool {
    let roles: BTreeSet<&str> = asked.split('+').collect();
    asked == label || roles == level.iter().map(Name::as_str).collect()
}

fn label(choice: &[Name]) -> String {
    choice.iter().map(Name::as_str).collect::<Vec<_>>().join("+")
}

/// The sets of roles that are patched together on the way from none to all, the smaller before the larger.
fn levels(roles: &[Name], policy: Levels) -> Vec<BTreeSet<Name>> {
    let sizes = |size: usize| match policy {
        Levels::Each => size == 1,
        Levels::Pairs => size <= 2,
        Levels::Every => true,
    };
    let subsets = roles.iter().fold(vec![BTreeSet::new()], |subsets: Vec<BTreeSet<Name>>, role| {
        let with = subsets.iter().filter(|set| sizes(set.len() + 1) || set.is_empty()).map(|set| {
            let mut set = set.clone();
            set.insert(role.clone());
            set
        });
        let with: Vec<_> = with.collect();
        subsets.into_iter().chain(with).collect()
    });
    let all: BTreeSet<Name> = roles.iter().cloned().collect();
    let mut levels: Vec<_> = subsets.into_iter().filter(|set| !set.is_empty() && *set != all && sizes(set.len())).collect();
    if !all.is_empty() {
        levels.push(all);
    }
    levels.sort_by_key(|level| (level.len(), level.clone()));
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_passes_through_these_levels() {
        let roles: Vec<Name> = ["client", "db", "server"].iter().map(|role| role.parse().expect("a name")).collect();
        let told = |policy, count: usize| -> Vec<String> {
            let join = |level: BTreeSet<Name>| level.iter().map(Name::as_str).collect::<Vec<_>>().join("+");
            levels(&roles[..count], policy).into_iter().map(join).collect()
        };
        assert_eq!(told(Levels::Each, 2), ["client", "db", "client+db"]);
        assert_eq!(told(Levels::Each, 3), ["client", "db", "server", "client+db+server"]);
        assert_eq!(told(Levels::Pairs, 3), ["client", "db", "server", "client+db", "client+server", "db+server", "client+db+server"]);
        assert_eq!(told(Levels::Every, 3).len(), 7);
        assert_eq!(told(Levels::Each, 1), ["client"]);
        assert_eq!(told(Levels::Each, 0), Vec::<String>::new());
    }
}
