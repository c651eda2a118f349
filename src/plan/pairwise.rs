//! Fewer hardware profiles that still show every two attributes together: what breaks on one kind of hardware only mostly needs one attribute
//! (NVMe) or two (NVMe under UEFI).
//!
//! Invariants: pure, and the same candidates in the same order give the same choice. Every pair that a candidate has is had by a chosen
//! one, or is said to be left out. No chosen one could be spared.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Exclusion;
use crate::catalog::hardware::{ClockBase, Hardware, cpu};

/// What is told of a profile, by attribute.
pub type Attributes = BTreeMap<String, String>;

/// Two attributes and their values, the lesser name first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pair {
    pub one: (String, String),
    pub other: (String, String),
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} with {} {}", self.one.0, self.one.1, self.other.0, self.other.1)
    }
}

/// Which candidates stand for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// By their places among the candidates, in their order.
    pub chosen: Vec<usize>,
    /// Pairs that some candidate has and no chosen one. Empty unless fewer were allowed than are needed.
    pub left_out: Vec<Pair>,
    /// Pairs of values that candidates have, which no candidate has together: nothing here can show them, and some can't exist.
    pub nowhere: Vec<Pair>,
}

/// Chooses a few candidates that have all pairs between them: at each step the one with most pairs that are still wanted, the earliest of
/// equals; then whoever turned out to be needless goes. `most` bounds how many are chosen.
pub fn choose(candidates: &[Attributes], most: Option<usize>) -> Choice {
    let pairs: Vec<BTreeSet<Pair>> = candidates.iter().map(pairs).collect();
    let all: BTreeSet<&Pair> = pairs.iter().flatten().collect();
    let mut wanted = all.clone();
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < most.unwrap_or(usize::MAX) {
        let gain = |at: usize| pairs[at].iter().filter(|pair| wanted.contains(pair)).count();
        // `max_by_key` takes the last of equals.
        let Some((best, gained)) = (0..pairs.len()).rev().map(|at| (at, gain(at))).max_by_key(|(_, gain)| *gain) else { break };
        // Where nothing has two attributes, one stands for all.
        if gained == 0 && !chosen.is_empty() {
            break;
        }
        pairs[best].iter().for_each(|pair| {
            wanted.remove(pair);
        });
        chosen.push(best);
        if gained == 0 {
            break;
        }
    }
    for at in chosen.clone() {
        let others = |pair: &Pair| chosen.iter().any(|other| *other != at && pairs[*other].contains(pair));
        if chosen.len() > 1 && pairs[at].iter().all(others) {
            chosen.retain(|other| *other != at);
        }
    }
    chosen.sort_unstable();
    Choice { chosen, left_out: wanted.into_iter().cloned().collect(), nowhere: nowhere(candidates, &all) }
}

fn pair(one: (&str, &str), other: (&str, &str)) -> Pair {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Pair { one: own(one), other: own(other) }
}

/// All pairs that a candidate has.
fn pairs(candidate: &Attributes) -> BTreeSet<Pair> {
    let each: Vec<(&str, &str)> = candidate.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let after = |at: usize| each.iter().skip(at + 1);
    each.iter().enumerate().flat_map(|(at, one)| after(at).map(move |other| pair(*one, *other))).collect()
}

/// Pairs of known values that are not among `all`.
fn nowhere(candidates: &[Attributes], all: &BTreeSet<&Pair>) -> Vec<Pair> {
    let values: BTreeSet<(&str, &str)> = candidates.iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut found = Vec::new();
    for one in &values {
        let others = values.range((std::ops::Bound::Excluded(one), std::ops::Bound::Unbounded)).filter(|other| other.0 != one.0);
        found.extend(others.map(|other| pair(*one, *other)).filter(|pair| !all.contains(pair)));
    }
    found
}

/// The attributes of a profile that a patch could care about.
pub fn attributes(hardware: &Hardware) -> Attributes {
    let word = |choice: serde_json::Value| choice.as_str().unwrap_or_default().to_owned();
    let named = |choice: Result<serde_json::Value, serde_json::Error>| choice.map(word).unwrap_or_default();
    let vendor = cpu::vendor(&hardware.cpu).map_or("any", cpu::Vendor::id);
    [
        ("chipset", named(serde_json::to_value(hardware.chipset))),
        ("firmware", hardware.firmware.as_str().to_owned()),
        ("tpm", named(serde_json::to_value(hardware.tpm))),
        ("cpu-vendor", vendor.to_owned()),
        ("processors", if hardware.processors() == 1 { "one" } else { "several" }.to_owned()),
        ("disk", named(serde_json::to_value(hardware.disk))),
        ("nic", named(serde_json::to_value(hardware.nic))),
        ("clock", if hardware.clock == ClockBase::Utc { "utc" } else { "localtime" }.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What a policy of so many at the most leaves of so many candidates: the places of those that are tried, and what is left out and why,
/// about `subject`. `kinds` are the candidates' names and attributes, asked for only where there are too many.
pub fn limit(
    count: usize,
    kinds: impl FnOnce() -> Vec<(String, Attributes)>,
    subject: &str,
    most: Option<u32>,
) -> (Vec<usize>, Vec<Exclusion>) {
    let Some(most) = most.map(|most| most as usize).filter(|most| *most < count) else {
        return ((0..count).collect(), Vec::new());
    };
    let (labels, candidates): (Vec<String>, Vec<Attributes>) = kinds().into_iter().unzip();
    let choice = choose(&candidates, Some(most));
    let spared = labels.iter().enumerate().filter(|(at, _)| !choice.chosen.contains(at)).map(|(_, label)| Exclusion {
        what: format!("{subject}@{label}"),
        reason: format!("the customer's policy is most-hardware = {most}, and the others show more pairs of attributes"),
    });
    let pairs = choice
        .left_out
        .iter()
        .map(|pair| Exclusion { what: format!("{subject}: {pair}"), reason: "no hardware that is tried has the two together".to_owned() });
    (choice.chosen.clone(), spared.chain(pairs).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::hardware::{Chipset, DiskBus, Firmware, NicModel};

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn candidates(most: usize) -> impl Strategy<Value = Vec<Attributes>> {
        let one = prop::collection::vec(0..4_u8, NAMES.len()).prop_map(|values| {
            NAMES
                .into_iter()
                .zip(values)
                .filter(|(_, value)| *value < 3)
                .map(|(name, value)| (name.to_owned(), value.to_string()))
                .collect()
        });
        prop::collection::vec(one, 0..most)
    }

    fn covered(candidates: &[Attributes], chosen: &[usize]) -> BTreeSet<Pair> {
        chosen.iter().flat_map(|at| pairs(&candidates[*at])).collect()
    }

    fn every(candidates: &[Attributes]) -> BTreeSet<Pair> {
        candidates.iter().flat_map(pairs).collect()
    }

    #[test]
    fn the_full_product_needs_few() {
        let product: Vec<Attributes> = (0..81_u32)
            .map(|at| {
                NAMES
                    .iter()
                    .take(4)
                    .enumerate()
                    .map(|(place, name)| ((*name).to_owned(), (at / 3_u32.pow(place as u32) % 3).to_string()))
                    .collect()
            })
            .collect();
        let choice = choose(&product, None);
        // Nine is the least that can be: three values of each of two.
        assert!((9..=12).contains(&choice.chosen.len()), "{}", choice.chosen.len());
        assert_eq!((choice.left_out, choice.nowhere), (vec![], vec![]));
    }

    #[test]
    fn a_policy_of_few_says_what_it_leaves_out() {
        let candidates = [
            Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Ide, NicModel::Rtl8139),
            Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Ide, NicModel::Rtl8139),
            Hardware::plain(Chipset::Q35, Firmware::Uefi, DiskBus::Nvme, NicModel::E1000e),
        ];
        let kinds = || ["old", "twin", "new"].map(str::to_owned).into_iter().zip(candidates.each_ref().map(attributes)).collect();
        assert_eq!(limit(3, kinds, "acme.web", None).0, [0, 1, 2]);
        let (chosen, left) = limit(3, kinds, "acme.web", Some(2));
        assert_eq!((chosen, left.len(), left[0].what.as_str()), (vec![0, 2], 1, "acme.web@twin"));
        let (chosen, left) = limit(3, kinds, "acme.web", Some(1));
        assert_eq!(chosen, [0]);
        assert!(left.iter().any(|one| one.what == "acme.web: disk nvme with firmware uefi"), "{left:?}");
    }

    #[test]
    fn what_no_candidate_has_together_is_said() {
        let ide = Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Ide, NicModel::Rtl8139);
        let nvme = Hardware::plain(Chipset::Q35, Firmware::Uefi, DiskBus::Nvme, NicModel::E1000e);
        let choice = choose(&[attributes(&ide), attributes(&nvme), attributes(&ide)], None);
        assert_eq!((choice.chosen, choice.left_out), (vec![0, 1], vec![]));
        let said: Vec<String> = choice.nowhere.iter().map(ToString::to_string).collect();
        assert!(
            said.contains(&"chipset q35 with disk ide".to_owned()) && said.contains(&"disk ide with firmware uefi".to_owned()),
            "{said:?}"
        );
        assert_eq!(choose(&[], None), Choice::default());
        assert_eq!(choose(&[Attributes::new(), Attributes::new()], None).chosen, [0], "one stands for all");
    }

    proptest! {
        #[test]
        fn all_pairs_are_had_and_nobody_is_needless(candidates in candidates(30)) {
            let choice = choose(&candidates, None);
            prop_assert_eq!(covered(&candidates, &choice.chosen), every(&candidates));
            prop_assert_eq!(&choice.left_out, &vec![]);
            prop_assert_eq!(choice.chosen.is_empty(), candidates.is_empty());
            for spared in choice.chosen.iter().filter(|_| choice.chosen.len() > 1) {
                let rest: Vec<usize> = choice.chosen.iter().copied().filter(|at| at != spared).collect();
                prop_assert_ne!(covered(&candidates, &rest), every(&candidates));
            }
            prop_assert_eq!(&choose(&candidates, None), &choice);
            prop_assert!(choice.nowhere.iter().all(|pair| pair.one < pair.other && !every(&candidates).contains(pair)));
        }

        #[test]
        fn fewer_leave_out_what_they_say(candidates in candidates(20), most in 0..6_usize) {
            let choice = choose(&candidates, Some(most));
            prop_assert!(choice.chosen.len() <= most);
            let had = covered(&candidates, &choice.chosen);
            let left: BTreeSet<Pair> = choice.left_out.iter().cloned().collect();
            prop_assert!(had.is_disjoint(&left));
            prop_assert_eq!(had.union(&left).cloned().collect::<BTreeSet<_>>(), every(&candidates));
        }

        #[test]
        fn few_are_not_far_from_fewest(candidates in candidates(9)) {
            let fewest = (0..1_u32 << candidates.len())
                .map(|mask| (0..candidates.len()).filter(|at| mask >> at & 1 == 1).collect::<Vec<_>>())
                .filter(|chosen| covered(&candidates, chosen) == every(&candidates))
                .map(|chosen| chosen.len())
                .min()
                .unwrap_or(0);
            // A candidate has ten pairs at the most; greed costs no more than their harmonic sum.
            prop_assert!(choose(&candidates, None).chosen.len() <= (fewest * 3).max(1));
        }
    }
}
