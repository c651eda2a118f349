//! Appending to the journal, each event on disk before its caller goes on, by as many callers at once as a large lab has; against what the
//! file system itself takes to put one write on disk.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use patchlab::cell::{CaseObservation, CaseOutcome, Point};
use patchlab::id::RunId;
use patchlab::journal::{Event, Journal};

/// Events a second.
const LEAST: f64 = 20_000.0;
const ROUNDS: usize = 5;
const CALLERS: u32 = 256;
/// What each caller appends in one round, one after the other.
const EACH: u32 = 120;
const SYNCS: u32 = 100;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure())
}

async fn measure() -> ExitCode {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a real disk");
    let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
    let (mut rates, mut alone, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        floors.push(floor(&folder.path().join("plain")));
        alone.push(append(&journal, 1, SYNCS, round).await);
        rates.push(append(&journal, CALLERS, EACH, round).await);
    }
    let [rate, alone, floor] = [rates, alone, floors].map(median);
    let entries = journal.verify().await.expect("a sound chain").entries;
    assert_eq!(entries, ROUNDS as u64 * u64::from(CALLERS * EACH + SYNCS));
    eprintln!("{rate:.0} events a second by {CALLERS} callers, {alone:.0} by one; {floor:.0} plain fsyncs a second; medians of {ROUNDS}");
    let good = rate >= LEAST;
    let word = if good { "ok" } else { "short" };
    println!("journal {rate:.0} events a second, {:.1} for each fsync that the disk can do, at least {LEAST:.0}: {word}", rate / floor);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn rate(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

/// How many pages a second the file system puts on disk one by one.
fn floor(path: &std::path::Path) -> f64 {
    let mut file = File::create(path).expect("a file");
    let started = Instant::now();
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096]).expect("written");
        file.sync_data().expect("synced");
    }
    rate(SYNCS, started.elapsed())
}

/// How many events a second go to disk.
async fn append(journal: &Journal, callers: u32, each: u32, round: usize) -> f64 {
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let journal = journal.clone();
            let run = RunId::from_parts(u64::from(caller), [round as u8; 10]);
            tokio::spawn(async move {
                for _ in 0..each {
                    journal.append(run, Timestamp::now(), event()).await.expect("appended");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no caller panicked");
    }
    rate(callers * each, started.elapsed())
}

/// The event that a run has most of.
fn event() -> Event {
    let observation = CaseObservation {
        suite: "web-server".parse().expect("a name"),
        case: "front-page".parse().expect("a name"),
        point: Point::Rebooted,
        outcome: CaseOutcome::Pass,
        elapsed_ms: 125,
        message: "the front page is served and names the build".to_owned(),
        detail: String::new(),
        fingerprint: None,
        skipped: Vec::new(),
        notes: Vec::new(),
        evidence: Vec::new(),
        origin: None,
    };
    Event::CaseObserved { cell: "acme.web@virtio-bios".parse().expect("a cell"), observation: Box::new(observation) }
}
