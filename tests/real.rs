//! Whole runs on real virtual machines through the command line: the verdicts that a careful engineer would give, and what is left
//! behind (nothing). Needs golden images: `scripts/test` builds them, says in `PATCHLAB_TEST_STATE` where, and runs these too.

#[path = "common/command.rs"]
mod command;
#[path = "real/daemons.rs"]
mod daemons;
#[path = "real/pool.rs"]
mod pool;
#[path = "common/shared_state.rs"]
mod shared_state;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};

use serde_json::Value;
use shared_state::shared_state;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Machines at once: more than cores would slow all of them down.
static SLOTS: (Mutex<u32>, Condvar) = (Mutex::new(2), Condvar::new());

struct Slot;

impl Slot {
    fn take() -> Self {
        let mut free = SLOTS.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while *free == 0 {
            free = SLOTS.1.wait(free).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *free -= 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *SLOTS.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        SLOTS.1.notify_one();
    }
}

/// A lab with a state of its own that shares the golden images and the templates made of them.
struct Lab {
    state: tempfile::TempDir,
    _slot: Slot,
}

impl Lab {
    fn new() -> Self {
        let slot = Slot::take();
        Self { state: shared_state(), _slot: slot }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command::patchlab(REPOSITORY, self.state.path());
        command.args(arguments);
        command
    }

    /// Runs a command line; its exit code and standard output.
    fn patchlab(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).stderr(Stdio::inherit()).output().expect("patchlab starts");
        (output.status.code().expect("an exit code"), String::from_utf8(output.stdout).expect("UTF-8"))
    }

    fn run(&self, patch: &str, more: &[&str]) -> (i32, Value) {
        let patch = if patch.contains('/') { patch.to_owned() } else { format!("{REPOSITORY}/tests/patches/{patch}") };
        // One machine at a time for each slot.
        let arguments = [&["run", patch.as_str(), "--format", "json", "--customer", "acme", "--workers", "1"], more].concat();
        let (code, text) = self.patchlab(&arguments);
        (code, serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{bad}: {text}")))
    }

    /// Nothing that the lab made is left.
    fn is_clean(&self) {
        let (exit, leftovers) = self.patchlab(&["gc"]);
        assert!(exit == 0 && !leftovers.contains("patchlab-"), "{leftovers}");
        let machines = self.state.path().join("machines");
        let left: Vec<PathBuf> = std::fs::read_dir(machines).map(|all| all.flatten().map(|one| one.path()).collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
        self.has_no_emulators();
    }

    fn has_no_emulators(&self) {
        let processes = Command::new("pgrep").args(["-f", &format!("qemu.*{}", self.state.path().display())]).output().expect("pgrep");
        assert!(processes.stdout.is_empty(), "emulators are left: {}", String::from_utf8_lossy(&processes.stdout));
    }
}

fn codes(report: &Value, list: &str) -> Vec<String> {
    let cells = report["cells"].as_array().expect("cells");
    let all = cells.iter().flat_map(|cell| cell[list].as_array().expect("a list").clone());
    all.filter(|one| one["recovered"] != true).map(|one| one["code"].as_str().expect("a code").to_owned()).collect()
}

/// One misbehaving patch on one machine: refused for each of the reasons that its `expected.txt` gives, and nothing left. Where no case
/// has to notice it, one suite will do.
fn refused(patch: &str, suites: &[&str]) {
    let lab = Lab::new();
    let suites: Vec<&str> = suites.iter().flat_map(|suite| ["--suite", suite]).collect();
    let (exit, report) = lab.run(patch, &[&["--build", "web", "--hardware", "virtio-bios"], suites.as_slice()].concat());
    assert_eq!((exit, report["verdict"].as_str()), (1, Some("fail")), "{patch}: {report:#}");
    let found = codes(&report, "findings");
    let expected = std::fs::read_to_string(format!("{REPOSITORY}/tests/patches/{patch}/expected.txt")).expect("an expectation");
    for line in expected.lines().filter_map(|line| line.strip_prefix("fail ")) {
        let code = line.split(' ').next().expect("a code");
        assert!(code.split('|').any(|code| found.iter().any(|found| found == code)), "{patch}: expected {line}, found {found:?}");
    }
    lab.is_clean();
}

#[test]
#[ignore = "needs golden images: scripts/test"]
fn a_harmless_patch_passes_on_bios_and_uefi_and_leaves_nothing() {
    let lab = Lab::new();
    let (exit, report) = lab.run("good-motd", &["--build", "web", "--hardware", "virtio-bios", "--hardware", "virtio-uefi"]);
    assert_eq!((exit, report["verdict"].as_str()), (0, Some("pass")), "{report:#}");
    assert_eq!(report["cells"].as_array().map(Vec::len), Some(2));
    lab.is_clean();
    let (exit, junit) = lab.patchlab(&["report", "last", "--format", "junit"]);
    assert!(exit == 0 && junit.contains("<testsuite "), "{junit}");
}

#[test]
#[ignore = "needs golden images: scripts/test"]
fn a_patch_that_breaks_a_service_is_refused() {
    refused("broken-hardening", &[]);
}

#[test]
#[ignore = "needs golden images: scripts/test"]
fn a_patch_that_asks_a_question_is_refused() {
    refused("asks-question", &["ssh"]);
}

#[test]
#[ignore = "needs golden images: scripts/test"]
fn a_patch_that_breaks_the_boot_is_refused() {
    refused("breaks-boot", &["ssh"]);
}

#[test]
#[ignore = "needs golden images: scripts/test"]
fn a_patch_that_restarts_the_machine_unasked_is_refused() {
    refused("self-reboots", &["ssh"]);
}

#[test]
#[ignore = "needs golden images: scripts/test"]
fn a_controller_killed_in_the_middle_loses_and_leaves_nothing() {
    let lab = Lab::new();
    let patch = format!("{REPOSITORY}/tests/patches/good-motd");
    let only = ["--customer", "acme", "--build", "web", "--hardware", "virtio-bios", "--suite", "ssh"];
    let arguments = [&["run", &patch, "--format", "json"], &only[..]].concat();
    let mut first = lab.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("patchlab starts");
    let stderr = std::io::BufReader::new(first.stderr.take().expect("standard error"));
    // Killed while the baseline runs: the boot that is done must not be lost sight of.
    let booted = std::io::BufRead::lines(stderr).map_while(Result::ok).any(|line| line.contains("boot done"));
    assert!(booted, "the machine came up");
    first.kill().expect("killed");
    first.wait().expect("reaped");
    let (exit, text) = lab.patchlab(&arguments);
    let report: Value = serde_json::from_str(&text).expect("json");
    assert_eq!((exit, report["verdict"].as_str()), (0, Some("pass")), "{report:#}");
    let faults = report["cells"][0]["faults"].as_array().expect("faults").clone();
    assert!(faults.iter().any(|fault| fault["code"] == "controller-ended"), "{faults:?}");
    lab.is_clean();
}
