//! The plan of 100,000 cells, from a catalog of many customers: the time that it takes, and the most memory that the process has meanwhile,
//! catalog included.

mod fleet;
mod memory;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fleet::Fleet;
use patchlab::catalog::patch::PatchKind;
use patchlab::plan::{Request, plan};

const LONGEST: Duration = Duration::from_secs(1);
/// MB.
const MOST: f64 = 200.0;
const ROUNDS: usize = 5;

const FLEET: Fleet = Fleet { customers: 250, builds: 20, hardware: 20, suites: (60, 3), cases: 12, images: 500, packages: 40 };
const CELLS: usize = FLEET.cells();

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
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
