//! A verdict on one update by patchlab against the same by `autopkgtest` with its QEMU backend: the same image, update, tests and virtual
//! hardware. autopkgtest gives no verdict: its part is a run without the update and one with it, which a script would compare.
//!
//! Both begin with an image that is built; patchlab with a template of it too, which it makes once per image and hardware. What patchlab does
//! besides (health before and after, applying twice) is in its time.
//!
//! Needs autopkgtest and the archive; the image is kept in cargo's folder for temporary files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/autopkgtest");
const PATCHLAB: &str = env!("CARGO_BIN_EXE_patchlab");
/// How many times faster, with a restart and without one: when both see the baseline, and when both have it.
const BOTH: [f64; 2] = [5.0, 10.0];
const PATCHED: [f64; 2] = [3.5, 8.0];
/// The time of a cell whose template and baseline are there, over that of its guest's own work.
const OVER: f64 = 1.15;

fn main() -> ExitCode {
    if Command::new("autopkgtest").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("bench: autopkgtest is missing: apt-get install autopkgtest");
        return ExitCode::from(2);
    }
    let bench = Bench::prepare();
    // Makes the template; what it finds out about the baseline is left aside where both are to see it.
    let (first, _) = bench.patchlab("quiet", &[]);
    let accelerator = first["controllers"][0]["host"]["accelerator"].as_str().expect("an accelerator").to_owned();
    let ours = ["restart", "quiet"].map(|patch| {
        let (_, anew) = bench.patchlab(patch, &["--fresh-baselines"]);
        let (seen, reused) = bench.patchlab(patch, &[]);
        (anew, reused, guest(&seen))
    });
    let theirs = [false, true].map(|patched| bench.autopkgtest(patched, &accelerator));
    let seconds = |time: Duration| format!("{:.0} s", time.as_secs_f64());
    eprintln!("autopkgtest: without the update {}, with it {}", seconds(theirs[0]), seconds(theirs[1]));
    let mut good = true;
    let mut say = |text: String, ok: bool| {
        good &= ok;
        println!("{text}: {}", if ok { "ok" } else { "short" });
    };
    for (at, how) in ["with a restart", "without a restart"].into_iter().enumerate() {
        let (anew, reused, guest) = ours[at];
        eprintln!(
            "patchlab {how}: {}, {} where the baseline was seen, {} of it the guest's own",
            seconds(anew),
            seconds(reused),
            seconds(guest)
        );
        let faster = (theirs[0] + theirs[1]).as_secs_f64() / anew.as_secs_f64();
        say(format!("verdict {how} {faster:.1} times faster, at least {:.1}", BOTH[at]), faster >= BOTH[at]);
        let faster = theirs[1].as_secs_f64() / reused.as_secs_f64();
        say(format!("patched part {how} {faster:.1} times faster, at least {:.1}", PATCHED[at]), faster >= PATCHED[at]);
        let over = reused.as_secs_f64() / guest.as_secs_f64();
        say(format!("cell {how} {over:.2} of its guest's own work, at most {OVER:.2}"), over <= OVER);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Bench {
    state: PathBuf,
    image: PathBuf,
}

impl Bench {
    /// The image, and its update as two patches: one that restarts the machine and one that does not.
    fn prepare() -> Self {
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("autopkgtest");
        fs::create_dir_all(&state).expect("a folder");
        let bench = Self { image: state.join("images"), state };
        done(bench.command(PATCHLAB).args(["image", "build", "bench-web"]));
        let record = fs::read_to_string(bench.image.join("bench-web.json")).expect("the image's record");
        let record: Value = serde_json::from_str(&record).expect("a record");
        let digest = record["image"].as_str().and_then(|image| image.strip_prefix("sha256:")).expect("a digest");
        let image = bench.image.join(format!("{digest}.qcow2"));
        let fetch = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/fetch-security-update");
        for (patch, reboot) in [("quiet", "never"), ("restart", "required")] {
            let folder = bench.state.join(patch);
            let _ = fs::remove_dir_all(&folder);
            done(bench.command(fetch).args(["bench/web", "--package", "nginx", "--output"]).arg(&folder));
            let manifest = fs::read_to_string(folder.join("patch.toml")).expect("a manifest");
            let manifest = manifest.replace("reboot = \"auto\"", &format!("reboot = \"{reboot}\""));
            fs::write(folder.join("patch.toml"), manifest).expect("written");
        }
        Self { image, ..bench }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PATCHLAB_LAB", LAB).env("PATCHLAB_STATE", &self.state).env("PATCHLAB", PATCHLAB);
        command
    }

    /// What a run found, and how long it took from the command to the verdict.
    fn patchlab(&self, patch: &str, options: &[&str]) -> (Value, Duration) {
        let began = Instant::now();
        done(self.command(PATCHLAB).arg("run").arg(self.state.join(patch)).args(options).args(["--build", "web"]));
        let took = began.elapsed();
        let shown = self.command(PATCHLAB).args(["show", "last", "--format", "json"]).output().expect("patchlab starts");
        (serde_json::from_slice(&shown.stdout).expect("what the run found"), took)
    }

    fn autopkgtest(&self, patched: bool, accelerator: &str) -> Duration {
        let mut command = self.command("autopkgtest");
        command.args(["--no-built-binaries", "--timeout-factor", "4"]);
        if patched {
            let files = fs::read_dir(self.state.join("quiet")).expect("the update").map(|entry| entry.expect("an entry").path());
            command.args(files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")));
        }
        command.arg(Path::new(LAB).join("test-suites/web/source")).args(["--", "qemu", "--timeout-reboot", "300"]);
        // It takes KVM wherever there is a device of that name.
        if accelerator == "tcg" {
            command.args(["--qemu-options", "-machine accel=tcg -cpu qemu64"]);
        }
        let began = Instant::now();
        done(command.arg(&self.image));
        began.elapsed()
    }
}

/// What only the guest can do, of the last pass: install the update, restart, run the cases.
fn guest(run: &Value) -> Duration {
    let cell = &run["cells"][0];
    let stages = cell["stages"].as_array().expect("stages").iter();
    let own = stages.filter(|stage| ["apply", "reboot"].iter().any(|own| stage["stage"] == *own));
    let time = |of: &Value| of.as_str().expect("a time").parse::<Timestamp>().expect("a time");
    let stages: Duration = own.map(|stage| time(&stage["ended"]).duration_since(time(&stage["started"])).unsigned_abs()).sum();
    let cases = cell["cases"].as_array().expect("cases").iter().filter_map(|case| case["patched-ms"].as_u64());
    stages + Duration::from_millis(cases.sum())
}

/// Runs a command that has to succeed, with its output to standard error.
fn done(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{command:?}: {status:?}");
}
