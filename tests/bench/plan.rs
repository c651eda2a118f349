//! The plan of 100,000 cells, from a catalog of many customers: the time that it takes, and the most memory that the process has meanwhile,
//! catalog included. And how many trials it takes to find the one patch of a bundle that is to blame.

mod fleet;
mod memory;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fleet::Fleet;
use patchlab::catalog::patch::PatchKind;
use patchlab::plan::{Request, plan};
use patchlab::verdict::bisect::{Next, Outcome, Set, next};

const LONGEST: Duration = Duration::from_secs(1);
/// MB.
const MOST: f64 = 200.0;
const ROUNDS: usize = 5;

const PATCHES: usize = 16;
const TRIALS: usize = 7;

const FLEET: Fleet = Fleet { customers: 250, builds: 20, hardware: 20, suites: (60, 3), cases: 12, images: 500, packages: 40 };
const CELLS: usize = FLEET.cells();

/// How many trials it takes to find this one, and to clear all others.
fn trials(culprit: usize) -> usize {
    let mut results = BTreeMap::new();
    while let Next::Test(set) = next(&vec![Set::new(); PATCHES], &results) {
        let outcome = if set.contains(&culprit) { Outcome::Fail } else { Outcome::Pass };
        results.insert(set, outcome);
    }
    results.len()
}

fn main() -> ExitCode {
    let (catalog, images, patch) = (FLEET.catalog(), FLEET.sealed(), fleet::patch(PatchKind::Deb));
    let before = memory::of("VmHWM:");
    let mut times = Vec::new();
    let mut peak = 0.0;
    let mut digest = None;
    for round in 0..ROUNDS {
        let started = Instant::now();
        let made = plan(&Request::default(), &catalog, &images, &patch).unwrap_or_else(|problems| panic!("{problems:?}"));
        times.push(started.elapsed());
        assert_eq!(made.cells.len(), CELLS);
        if round == 0 {
            let digested = Instant::now();
            digest = Some(made.digest());
            eprintln!("the digest took {:.2} s", digested.elapsed().as_secs_f64());
            peak = memory::of("VmHWM:");
        }
    }
    times.sort();
    let time = times[ROUNDS / 2];
    eprintln!("catalog and process {before:.0} MB before; {}; median of {ROUNDS}", digest.expect("a digest"));
    let mut good = true;
    let mut say = |text: String, ok: bool| {
        good &= ok;
        println!("{text}: {}", if ok { "ok" } else { "short" });
    };
    let (time, longest) = (time.as_secs_f64(), LONGEST.as_secs_f64());
    say(format!("plan {time:.2} s for {CELLS} cells, at most {longest:.0} s"), time <= longest);
    say(format!("plan-memory {peak:.0} MB with its digest, at most {MOST:.0} MB"), peak <= MOST);
    let trials = (0..PATCHES).map(trials).max().unwrap_or_default();
    say(format!("bundle {trials} group runs for {PATCHES} patches with one culprit, at most {TRIALS}"), trials <= TRIALS);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
