//! The overlay that a clone's disk is, on a large image against a small one.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use patchlab::hypervisor::libvirt::overlay;

/// The longest that either may take, and how many times the small one's time the large one's may be.
const LONGEST: Duration = Duration::from_millis(10);
const MOST: f64 = 1.2;
const ROUNDS: usize = 41;
/// GiB.
const SIZES: [u64; 2] = [1, 20];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(measure())
}

async fn measure() -> ExitCode {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a real disk");
    for size in SIZES {
        image(&folder.path().join(size.to_string()), size);
    }
    let mut times = SIZES.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for (size, times) in SIZES.iter().zip(&mut times) {
            let clone = folder.path().join(format!("clone-{size}-{round}"));
            let started = Instant::now();
            let made = overlay::make(&folder.path().join(size.to_string()), &clone, "clone", Duration::from_secs(60)).await;
            times.push(started.elapsed());
            made.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let [small, large] = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    });
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let ratio = millis(large) / millis(small);
    eprintln!("{:.1} ms on {} GiB, {:.1} ms on {} GiB, medians of {ROUNDS}", millis(small), SIZES[0], millis(large), SIZES[1]);
    let mut good = true;
    let mut say = |text: String, ok: bool| {
        good &= ok;
        println!("{text}: {}", if ok { "ok" } else { "short" });
    };
    let [of, to] = SIZES;
    say(format!("clone-size {ratio:.2} of the time on {of} GiB for a clone of {to} GiB, at most {MOST:.2}"), ratio <= MOST);
    say(format!("clone {:.1} ms on {to} GiB, less than {:.0} ms", millis(large), millis(LONGEST)), large < LONGEST);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An image of so many GiB with all of its clusters in its tables, as if it were full.
fn image(path: &Path, size: u64) {
    let create = ["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata"];
    let status = Command::new("qemu-img").args(create).arg(path).arg(format!("{size}G")).status().expect("qemu-img starts");
    assert!(status.success());
}
