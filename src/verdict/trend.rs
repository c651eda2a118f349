//! Whether a patch makes a machine slower or larger: warnings, with the statistics that justify them. They decide nothing.
//!
//! Samples are compared on one host, one image, one hardware profile, one QEMU and accelerator and, for cases, one suite: unpatched
//! ones of this run and of earlier ones, patched ones of this run and of earlier ones of the same patch. What earlier runs gave is drawn
//! once, when a run is taken, and journaled with it, so that the same journal always gives the same warnings.
//!
//! Invariant: nothing is said unless a rank test says that it is no chance, and the medians differ by so much that it matters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence::is_clean;
use super::health::Facts;
use super::rank::chance_of_higher;
use crate::cell::identity::Start;
use crate::cell::{CaseOutcome, Phase, Point};
use crate::id::{CellId, Digest, Name};
use crate::journal::{CellRecord, HostReport, PassRecord, Placed, RunState};
use crate::plan::PlannedCell;

/// The highest chance at which a difference is believed. Many are looked at in every run, so it is low.
const CHANCE: f64 = 0.005;

/// What is measured of a guest as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gauge {
    /// Milliseconds from the kernel's start until all services had started.
    Boot,
    /// KiB in use.
    Memory,
    /// KiB in use on all disks.
    Disk,
}

/// What samples are of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    Guest(Gauge),
    /// Milliseconds that a case took when it passed. The digest is the suite's.
    Case {
        suite: Name,
        sha256: Digest,
        case: Name,
    },
}

/// Which of several hosts samples are from, and what it was when they were taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Place {
    pub host: Name,
    pub accelerator: String,
    pub qemu: String,
}

impl Place {
    fn of(placed: &Placed) -> Self {
        let HostReport { accelerator, qemu, .. } = &placed.controller.host;
        Self { host: placed.host.clone(), accelerator: accelerator.clone(), qemu: qemu.clone() }
    }
}

/// What earlier runs gave, the newest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Past {
    /// `None` where there is but one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Place>,
    pub image: Digest,
    pub hardware: Digest,
    pub of: Measured,
    pub unpatched: Vec<u64>,
    /// With the same patch.
    pub patched: Vec<u64>,
}

/// What a guest's state says of the guest as a whole, as far as it can be read.
pub fn gauges(facts: &Facts) -> BTreeMap<Gauge, u64> {
    let number = |section: &str, key: &str| -> Option<u64> {
        let line = facts.lines(section).iter().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let boot = number("boot-time", "FinishTimestampMonotonic=").filter(|micros| *micros > 0).map(|micros| micros / 1000);
    let total = number("memory", "MemTotal:");
    let memory = total.zip(number("memory", "MemAvailable:")).and_then(|(total, available)| total.checked_sub(available));
    let used = |line: &String| -> Option<(String, u64)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, _total, used, ..] = words[..] else { return None };
        device.starts_with('/').then_some(())?;
        Some((device.to_owned(), used.parse().ok()?))
    };
    // A device may be mounted in several places.
    let disks: BTreeMap<String, u64> = facts.lines("disk").iter().filter_map(used).collect();
    let disk = (!disks.is_empty()).then(|| disks.values().fold(0, |sum: u64, used| sum.saturating_add(*used)));
    [(Gauge::Boot, boot), (Gauge::Memory, memory), (Gauge::Disk, disk)]
        .into_iter()
        .filter_map(|(gauge, value)| Some((gauge, value?)))
        .collect()
}

/// The samples that a build's cell gave, and where. Machines among each other wait for each other: what they take is not looked at.
pub fn samples(cell: &PlannedCell, record: &CellRecord) -> Vec<(Option<Place>, Measured, Phase, u64)> {
    let passes = record.passes.iter().filter(|pass| is_clean(pass) && !cell.is_environment());
    passes
        .flat_map(|pass| {
            let on = pass.placed.as_deref().map(Place::of);
            of_cases(cell, pass).chain(of_guest(pass)).map(move |(of, phase, value)| (on.clone(), of, phase, value))
        })
        .collect()
}

fn of_cases<'a>(cell: &'a PlannedCell, pass: &'a PassRecord) -> impl Iterator<Item = (Measured, Phase, u64)> + use<'a> {
    // What was taken over is another run's sample.
    pass.cases.iter().filter(|seen| seen.outcome == CaseOutcome::Pass && seen.origin.is_none()).filter_map(|seen| {
        let suite = cell.suites.iter().find(|suite| suite.name == seen.suite)?;
        let of = Measured::Case { suite: seen.suite.clone(), sha256: suite.sha256, case: seen.case.clone() };
        Some((of, seen.point.phase(), seen.elapsed_ms))
    })
}

/// One sample of each side: what is looked at several times on one machine is no several samples.
fn of_guest(pass: &PassRecord) -> impl Iterator<Item = (Measured, Phase, u64)> + use<> {
    let warm = pass.starts.values().any(|start| matches!(start, Start::Warm { .. }));
    let latest = |points: &[Point]| points.iter().find_map(|point| pass.gauges.get(point).map(|gauges| (*point, gauges.clone())));
    // A machine that was spared some of its cases has done less than others at this point.
    let spared = pass.cases.iter().any(|seen| seen.origin.is_some());
    let sides = [latest(&[Point::Baseline]).filter(|_| !spared), latest(&[Point::ColdBooted, Point::Rebooted, Point::Applied])];
    sides.into_iter().flatten().flat_map(move |(point, gauges)| {
        // A thawed machine's boot is its template's, and an applied patch has not been booted with.
        let booted = match point {
            Point::Baseline => !warm,
            Point::Rebooted | Point::ColdBooted => true,
            Point::Applied | Point::Reapplied | Point::RolledBack => false,
        };
        let fair = gauges.into_iter().filter(move |(gauge, _)| booted || *gauge != Gauge::Boot);
        fair.map(move |(gauge, value)| (Measured::Guest(gauge), point.phase(), value))
    })
}

#[derive(Default)]
struct Sides<'a> {
    unpatched: Vec<u64>,
    patched: Vec<u64>,
    cells: Vec<&'a CellId>,
}

/// What got worse, by the cells that it concerns.
pub fn warnings(state: &RunState) -> BTreeMap<&CellId, Vec<String>> {
    let mut all: BTreeMap<(Option<Place>, Digest, Digest, Measured), Sides<'_>> = BTreeMap::new();
    for past in &state.past {
        let sides = all.entry((past.on.clone(), past.image, past.hardware, past.of.clone())).or_default();
        sides.unpatched.extend(&past.unpatched);
        sides.patched.extend(&past.patched);
    }
    for cell in &state.plan.cells {
        let (Some(record), [machine]) = (state.cells.get(&cell.id), cell.machines.as_slice()) else { continue };
        for (on, of, phase, value) in samples(cell, record) {
            let sides = all.entry((on, machine.image.sha256, machine.hardware.sha256, of)).or_default();
            match phase {
                Phase::Baseline => sides.unpatched.push(value),
                Phase::Patched => sides.patched.push(value),
            }
            if sides.cells.last() != Some(&&cell.id) {
                sides.cells.push(&cell.id);
            }
        }
    }
    let mut found: BTreeMap<&CellId, Vec<String>> = BTreeMap::new();
    for ((on, _, _, of), sides) in all {
        if let Some(warning) = warning(on.as_ref(), &of, &sides.unpatched, &sides.patched) {
            for cell in sides.cells {
                found.entry(cell).or_default().push(warning.clone());
            }
        }
    }
    found
}

/// What is to be said of these samples, if anything: too few of them never say anything, because chance could always explain them.
pub fn warning(on: Option<&Place>, of: &Measured, unpatched: &[u64], patched: &[u64]) -> Option<String> {
    let (before, after) = (median(unpatched)?, median(patched)?);
    if !matters(of, before, after) {
        return None;
    }
    let chance = chance_of_higher(unpatched, patched);
    if chance > CHANCE {
        return None;
    }
    let mib = |kib: u64| format!("{} MiB", kib / 1024);
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    let said = match of {
        Measured::Guest(Gauge::Boot) => format!("the machine boots in {} instead of {}", seconds(after), seconds(before)),
        Measured::Guest(Gauge::Memory) => format!("the machine uses {} of memory instead of {}", mib(after), mib(before)),
        Measured::Guest(Gauge::Disk) => format!("the machine uses {} of its disks instead of {}", mib(after), mib(before)),
        Measured::Case { suite, case, .. } => format!("{suite}/{case} takes {} instead of {}", seconds(after), seconds(before)),
    };
    let (few, many, odds) = (patched.len(), unpatched.len(), (1.0 / chance).floor());
    let at = on.map(|place| format!("on {} ", place.host)).unwrap_or_default();
    Some(format!("warning: {at}{said} (medians of {few} samples with the patch and {many} without; by chance less than once in {odds:.0})"))
}

/// Whether a difference is worth a person's time: by so much of what it was, and by so much.
fn matters(of: &Measured, before: u64, after: u64) -> bool {
    let (percent, least) = match of {
        Measured::Guest(Gauge::Boot) => (20, 2000),
        Measured::Guest(Gauge::Memory) => (10, 32 * 1024),
        Measured::Guest(Gauge::Disk) => (10, 100 * 1024),
        Measured::Case { .. } => (50, 500),
    };
    let grown = after.saturating_sub(before);
    grown >= least && u128::from(grown) * 100 >= u128::from(before) * percent
}

/// The middle one, the later of two.
pub fn median<T: Copy + Ord>(samples: &[T]) -> Option<T> {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Measured {
        let name = |text: &str| text.parse().expect("a name");
        Measured::Case { suite: name("web"), sha256: Digest::of("web"), case: name("tls") }
    }

    #[test]
    fn what_is_worse_by_chance_or_by_little_is_not_said() {
        let usual = [1000, 1010, 1020, 990, 1005, 995, 1015, 1001, 1002, 1003];
        let said = warning(None, &case(), &usual, &[2000, 2100, 1900]).expect("a warning");
        assert_eq!(
            said,
            "warning: web/tls takes 2.0 s instead of 1.0 s (medians of 3 samples with the patch and 10 without; by chance less than once in 286)"
        );
        for (patched, why) in [
            (&[2000, 2100][..], "too few samples"),
            (&[1400, 1410, 1420], "too little of what it was"),
            (&[2000, 2100, 900], "one of them was as fast as ever"),
            (&[500, 510, 520], "it got faster"),
            (&[], "nothing was measured"),
        ] {
            assert_eq!(warning(None, &case(), &usual, patched), None, "{why}");
        }
        let short = usual.map(|ms| ms / 10);
        assert_eq!(warning(None, &case(), &short, &[300, 310, 320]), None, "three times as long, and nobody waits for it");
        assert_eq!(warning(None, &case(), &usual[..3], &[2000, 2100, 1900]), None, "too few to compare with");
        let kib = |mib: [u64; 10]| mib.map(|mib| mib * 1024);
        let memory = kib([300, 301, 302, 303, 304, 305, 306, 307, 308, 309]);
        let said = warning(None, &Measured::Guest(Gauge::Memory), &memory, &[400, 401, 402].map(|mib| mib * 1024)).expect("a warning");
        assert!(said.starts_with("warning: the machine uses 401 MiB of memory instead of 305 MiB"), "{said}");
    }

    #[test]
    fn a_guest_says_what_it_uses_and_nonsense_is_nothing() {
        let text = "== disk\nFilesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 1000 400 600 40% /\n\
                    /dev/vda1 1000 400 600 40% /srv\n/dev/vda2 100 7 93 7% /boot\n== boot-time\nUserspaceTimestampMonotonic=5\n\
                    FinishTimestampMonotonic=21500999\n== memory\nMemTotal: 2000 kB\nMemAvailable: 1500 kB\n== end\n";
        let found = gauges(&Facts::from_text(text));
        assert_eq!(found, [(Gauge::Boot, 21500), (Gauge::Memory, 500), (Gauge::Disk, 407)].into());
        for nonsense in [
            "== end\n",
            "== disk\n/dev/vda1 x y z\n== boot-time\nFinishTimestampMonotonic=0\n== memory\nMemTotal: 1 kB\nMemAvailable: 2 kB\n",
            "== boot-time\nFinishTimestampMonotonic=99999999999999999999999\n== memory\nMemTotal:\n",
        ] {
            assert_eq!(gauges(&Facts::from_text(nonsense)), BTreeMap::new(), "{nonsense}");
        }
    }
}
