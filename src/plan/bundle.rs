//! Patches that are to be tested together: the order in which they are applied, which of them can't be tested without which, and which
//! of them another one replaces.
//!
//! Invariants: no two patches of a bundle have the same id; each comes behind those that it requires; the same patches in the same order
//! give the same bundle.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{Lint, PlannedPatch};
use crate::id::Name;

/// Patches that are to be tested together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// In the order in which they are applied: as they were named, but each behind those that it requires.
    pub patches: Vec<PlannedPatch>,
    /// For each patch the places of those that it requires directly.
    pub requires: Vec<BTreeSet<usize>>,
    /// Those that are left out because another patch of the bundle replaces them, and which.
    pub superseded: Vec<(PlannedPatch, Name)>,
    /// What a careful reader should know.
    pub lint: Vec<Lint>,
}

/// Why these patches can't be tested together.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoBundle {
    #[error("patch {id} is named twice; name it once")]
    Twice { id: Name },
    #[error("two candidates are called {id}, and only one of them can be applied: {one} and {other}")]
    SameId { id: Name, one: String, other: String },
    #[error("the patches {} each need the next to be there first, and the last needs the first", names(.chain))]
    Circle { chain: Vec<Name> },
    #[error("the patches {} each replace the next, and the last replaces the first", names(.chain))]
    Replacing { chain: Vec<Name> },
    #[error("{id} requires {other}, which it replaces or which a patch that it is needed for replaces; test them one by one")]
    Contrary { id: Name, other: Name },
}

fn names(chain: &[Name]) -> String {
    chain.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

impl Bundle {
    /// Puts patches together. A patch that another one of them supersedes is left out, and whoever requires it requires that other one.
    ///
    /// # Errors
    /// When two of them are the same or have the same id, or what they require or supersede leads in a circle.
    pub fn new(named: Vec<PlannedPatch>) -> Result<Self, NoBundle> {
        let mut places: BTreeMap<&Name, usize> = BTreeMap::new();
        for (place, patch) in named.iter().enumerate() {
            let id = &patch.manifest.id;
            if let Some(other) = places.insert(id, place).and_then(|place| named.get(place)) {
                return Err(match other.sha256 == patch.sha256 {
                    true => NoBundle::Twice { id: id.clone() },
                    false => NoBundle::SameId { id: id.clone(), one: other.sha256.to_string(), other: patch.sha256.to_string() },
                });
            }
        }
        // A patch that is not named may have a successor that is.
        let successor = |id: &Name| named.iter().rposition(|patch| patch.manifest.supersedes.contains(id));
        let there = |id: &Name| places.get(id).copied().or_else(|| successor(id));
        let among = |ids: &[Name]| -> Vec<usize> { ids.iter().filter_map(|id| places.get(id).copied()).collect() };
        let supersedes: Vec<Vec<usize>> = named.iter().map(|patch| among(&patch.manifest.supersedes)).collect();
        let chain =
            |places: Vec<usize>| places.into_iter().filter_map(|place| named.get(place)).map(|one| one.manifest.id.clone()).collect();
        in_order(&supersedes).map_err(|circle| NoBundle::Replacing { chain: chain(circle) })?;
        // Who replaces each in the end; the one that was named last where several would.
        let replaced_by = |place: usize| supersedes.iter().rposition(|replaced| replaced.contains(&place));
        let standing = |mut place: usize| {
            while let Some(by) = replaced_by(place) {
                place = by;
            }
            place
        };
        let mut requires: Vec<Vec<usize>> = vec![Vec::new(); named.len()];
        for (place, patch) in named.iter().enumerate().filter(|(place, _)| replaced_by(*place).is_none()) {
            for other in patch.manifest.requires.iter().filter_map(there) {
                if standing(other) == place {
                    let id = |place: usize| named.get(place).map_or_else(|| patch.manifest.id.clone(), |one| one.manifest.id.clone());
                    return Err(NoBundle::Contrary { id: id(place), other: id(other) });
                }
                requires.get_mut(place).into_iter().for_each(|all| all.push(standing(other)));
            }
        }
        let order = in_order(&requires).map_err(|circle| NoBundle::Circle { chain: chain(circle) })?;
        let order: Vec<usize> = order.into_iter().filter(|place| replaced_by(*place).is_none()).collect();
        let new_place = |old: &usize| order.iter().position(|place| place == old);
        let of = |place: &usize| named.get(*place).cloned();
        let superseded = (0..named.len()).filter(|place| replaced_by(*place).is_some());
        let superseded = superseded.filter_map(|place| Some((of(&place)?, of(&standing(place))?.manifest.id)));
        let elsewhere = |patch: &PlannedPatch| {
            let (id, requires) = (patch.manifest.id.clone(), patch.manifest.requires.clone());
            requires.into_iter().filter(|other| there(other).is_none()).map(move |other| Lint {
                code: "requires-elsewhere".to_owned(),
                message: format!("{id} requires {other}, which is not in this bundle: it has to be in the images"),
            })
        };
        Ok(Self {
            requires: order.iter().filter_map(|place| requires.get(*place)).map(|all| all.iter().filter_map(new_place).collect()).collect(),
            lint: order.iter().filter_map(of).flat_map(|patch| elsewhere(&patch).collect::<Vec<_>>()).collect(),
            superseded: superseded.collect(),
            patches: order.iter().filter_map(of).collect(),
        })
    }

    /// Some of its patches, by their places, in their order.
    pub fn some(&self, places: &BTreeSet<usize>) -> Vec<PlannedPatch> {
        places.iter().filter_map(|place| self.patches.get(*place)).cloned().collect()
    }
}

/// The places so that each comes behind those that it points to, and otherwise as they are.
///
/// # Errors
/// With a circle, where there is one.
fn in_order(points_to: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    let mut way: Vec<usize> = Vec::new();
    for start in 0..points_to.len() {
        way.push(start);
        while let Some(here) = way.last().copied() {
            if order.contains(&here) {
                way.pop();
                continue;
            }
            match points_to.get(here).into_iter().flatten().find(|next| !order.contains(next)) {
                Some(next) => match way.iter().position(|place| place == next) {
                    Some(from) => return Err(way.split_off(from)),
                    None => way.push(*next),
                },
                None => {
                    order.push(here);
                    way.pop();
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::plan::examples::planned;

    fn patch(id: &str, requires: &[&str], supersedes: &[&str]) -> PlannedPatch {
        let mut patch = planned("script");
        let names = |ids: &[&str]| ids.iter().map(|id| id.parse().expect("a name")).collect();
        patch.sha256 = Digest::of(id);
        patch.manifest.id = id.parse().expect("a name");
        (patch.manifest.requires, patch.manifest.supersedes) = (names(requires), names(supersedes));
        patch
    }

    fn told(named: &[(&str, &[&str], &[&str])]) -> Result<(String, Vec<Vec<usize>>, String), NoBundle> {
        let bundle = Bundle::new(named.iter().map(|(id, requires, supersedes)| patch(id, requires, supersedes)).collect())?;
        let order: Vec<_> = bundle.patches.iter().map(|one| one.manifest.id.as_str()).collect();
        let gone: Vec<_> = bundle.superseded.iter().map(|(one, by)| format!("{}<{by}", one.manifest.id)).collect();
        Ok((order.join(" "), bundle.requires.iter().map(|all| all.iter().copied().collect()).collect(), gone.join(" ")))
    }

    #[test]
    fn what_is_required_comes_first_and_all_else_as_it_was_named() {
        let plain = told(&[("b", &[], &[]), ("a", &[], &[])]).expect("a bundle");
        assert_eq!(plain, ("b a".to_owned(), vec![vec![], vec![]], String::new()));
        let needing = told(&[("c", &["b"], &[]), ("x", &[], &[]), ("b", &["a"], &[]), ("a", &["elsewhere"], &[])]).expect("a bundle");
        assert_eq!(needing, ("a b c x".to_owned(), vec![vec![], vec![0], vec![1], vec![]], String::new()));
    }

    #[test]
    fn what_is_replaced_is_left_out_and_its_successor_takes_its_place() {
        let named: [(&str, &[&str], &[&str]); 4] = [("a", &[], &[]), ("needs", &["a"], &[]), ("c", &[], &["b"]), ("b", &[], &["a"])];
        assert_eq!(told(&named).expect("a bundle"), ("c needs".to_owned(), vec![vec![], vec![0]], "a<c b<c".to_owned()));
        let without = told(&[("needs", &["a"], &[]), ("b", &[], &["a"])]).expect("a bundle");
        assert_eq!(without, ("b needs".to_owned(), vec![vec![], vec![0]], String::new()), "nobody has to name what is gone");
    }

    #[test]
    fn what_a_bundle_lacks_is_told() {
        let bundle = Bundle::new(vec![patch("a", &["elsewhere"], &[])]).expect("a bundle");
        let told: Vec<_> = bundle.lint.iter().map(|lint| lint.message.as_str()).collect();
        assert_eq!(told, ["a requires elsewhere, which is not in this bundle: it has to be in the images"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let name = |id: &str| -> Name { id.parse().expect("a name") };
        assert_eq!(told(&[("a", &[], &[]), ("a", &[], &[])]), Err(NoBundle::Twice { id: name("a") }));
        let circle = told(&[("x", &["a"], &[]), ("a", &["b"], &[]), ("b", &["a"], &[])]);
        assert_eq!(circle, Err(NoBundle::Circle { chain: vec![name("a"), name("b")] }));
        assert_eq!(told(&[("a", &["a"], &[])]), Err(NoBundle::Contrary { id: name("a"), other: name("a") }));
        let circle = told(&[("a", &[], &["b"]), ("b", &[], &["a"])]);
        assert_eq!(circle, Err(NoBundle::Replacing { chain: vec![name("a"), name("b")] }));
        assert_eq!(told(&[("a", &["b"], &["b"]), ("b", &[], &[])]), Err(NoBundle::Contrary { id: name("a"), other: name("b") }));
        let mut other = patch("a", &[], &[]);
        other.sha256 = Digest::of("other bytes");
        assert!(matches!(Bundle::new(vec![patch("a", &[], &[]), other]), Err(NoBundle::SameId { .. })));
    }
}
