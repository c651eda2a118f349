//! Which orders of patching an environment's machines are safe: those whose every step was tried and passed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::id::Name;
use crate::verdict::Verdict;

use super::Source;
use super::view::CellView;

/// Roles beyond which orders are no longer enumerated: 5! are enough to read.
const MOST_ROLES: usize = 5;

/// One order of patching.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollout {
    /// `customer.environment`.
    pub environment: String,
    /// The hardware of its machines.
    pub hardware: String,
    /// The roles in the order in which they are patched.
    pub order: Vec<Name>,
    pub safety: Safety,
    /// The patched roles at the first step that did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stops_at: Option<String>,
}

/// Whether an order of patching can be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Safety {
    /// Every step passed.
    Safe,
    /// A step failed.
    Unsafe,
    /// No step failed, and one was not judged or not tried.
    Unknown,
}

impl Rollout {
    /// `server first, then client`.
    pub fn told_order(&self) -> String {
        let names: Vec<_> = self.order.iter().map(Name::as_str).collect();
        match names.as_slice() {
            [] => String::new(),
            [first] => format!("{first} alone"),
            [first, rest @ ..] => format!("{first} first, then {}", rest.join(", then ")),
        }
    }

    /// What is to be said of it.
    pub fn told(&self) -> String {
        let at = self.stops_at.as_deref().unwrap_or_default();
        match self.safety {
            Safety::Safe => "safe: every step passed".to_owned(),
            Safety::Unsafe => format!("not safe: it breaks with {at} patched"),
            Safety::Unknown => format!("unknown: {at} patched was not judged"),
        }
    }
}

/// What is known of an environment on one choice of hardware.
#[derive(Default)]
struct Known<'a> {
    roles: BTreeSet<&'a Name>,
    levels: BTreeMap<BTreeSet<&'a Name>, Verdict>,
}

/// Every order of patching of every environment in the plan, those that are safe first.
pub fn rollouts(source: &Source<'_>) -> Vec<Rollout> {
    let cells = source.cells();
    let mut known: BTreeMap<(String, String), Known<'_>> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.planned.is_environment()) {
        let place = (format!("{}.{}", cell.planned.customer, cell.planned.subject_name()), cell.planned.hardware_label());
        let entry = known.entry(place).or_default();
        let patched: BTreeSet<&Name> = patched(cell);
        entry.roles.extend(&patched);
        entry.levels.insert(patched, cell.verdict());
    }
    let mut rollouts = Vec::new();
    for ((environment, hardware), known) in &known {
        // Of a single level there is no order to speak of.
        if known.roles.len() > MOST_ROLES || known.levels.len() < 2 {
            continue;
        }
        for order in orders(&known.roles.iter().copied().collect::<Vec<_>>()) {
            let (safety, stops_at) = walk(&order, &known.levels);
            let order = order.into_iter().cloned().collect();
            rollouts.push(Rollout { environment: environment.clone(), hardware: hardware.clone(), order, safety, stops_at });
        }
    }
    rollouts.sort_by_key(|rollout| {
        (rollout.environment.clone(), rollout.hardware.clone(), rollout.safety != Safety::Safe, rollout.order.clone())
    });
    rollouts
}

fn patched<'a>(cell: &CellView<'a>) -> BTreeSet<&'a Name> {
    cell.planned.machines.iter().filter(|machine| machine.patched).map(|machine| &machine.role).collect()
}

/// The worst of an order's steps: a failure anywhere outweighs what is not known.
fn walk(order: &[&Name], levels: &BTreeMap<BTreeSet<&Name>, Verdict>) -> (Safety, Option<String>) {
    let steps = (1..=order.len()).map(|count| order.iter().take(count).copied().collect::<BTreeSet<&Name>>());
    let told = |level: &BTreeSet<&Name>| level.iter().map(|role| role.as_str()).collect::<Vec<_>>().join("+");
    let mut unknown = None;
    for level in steps {
        match levels.get(&level) {
            Some(Verdict::Pass) => {}
            Some(Verdict::Fail) => return (Safety::Unsafe, Some(told(&level))),
            Some(Verdict::Inconclusive) | None => unknown = unknown.or_else(|| Some(told(&level))),
        }
    }
    if unknown.is_some() { (Safety::Unknown, unknown) } else { (Safety::Safe, None) }
}

/// Every order of some roles.
fn orders<'a>(roles: &[&'a Name]) -> Vec<Vec<&'a Name>> {
    let Some((first, rest)) = roles.split_first() else { return vec![Vec::new()] };
    let with = |order: Vec<&'a Name>| {
        (0..=order.len()).map(move |at| {
            let (before, after) = order.split_at(at);
            before.iter().chain([first]).chain(after).copied().collect::<Vec<_>>()
        })
    };
    orders(rest).into_iter().flat_map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn an_order_is_as_good_as_its_worst_step() {
        let (client, server) = (name("client"), name("server"));
        let judge = |alone_client, alone_server, all: Option<Verdict>| {
            let levels = [(vec![&client], Some(alone_client)), (vec![&server], Some(alone_server)), (vec![&client, &server], all)];
            let levels = levels.into_iter().filter_map(|(level, verdict)| Some((level.into_iter().collect(), verdict?))).collect();
            let walk = |order: [&Name; 2]| walk(&order, &levels);
            (walk([&server, &client]), walk([&client, &server]))
        };
        use Verdict::{Fail, Inconclusive, Pass};
        let safe = || (Safety::Safe, None);
        let at = |safety, level: &str| (safety, Some(level.to_owned()));
        assert_eq!(judge(Pass, Pass, Some(Pass)), (safe(), safe()));
        assert_eq!(judge(Fail, Pass, Some(Pass)), (safe(), at(Safety::Unsafe, "client")));
        assert_eq!(judge(Pass, Inconclusive, Some(Pass)), (at(Safety::Unknown, "server"), safe()));
        assert_eq!(judge(Pass, Inconclusive, Some(Fail)).0, at(Safety::Unsafe, "client+server"), "a failure outweighs what is not known");
        assert_eq!(judge(Pass, Pass, None).0, at(Safety::Unknown, "client+server"), "what was not tried is not safe");
    }

    #[test]
    fn there_are_as_many_orders_as_there_are() {
        let roles: Vec<Name> = ["a", "b", "c", "d"].map(name).to_vec();
        let all: BTreeSet<_> = orders(&roles.iter().collect::<Vec<_>>()).into_iter().collect();
        assert_eq!(all.len(), 24);
    }
}
