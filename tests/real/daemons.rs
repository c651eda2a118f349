//! A lab of two real libvirt daemons on this machine, each with a socket, a user, a network and a state of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Lab, REPOSITORY, Slot, command};

/// A daemon, until it is dropped; see `daemon.sh`.
pub struct Daemon {
    folder: TempDir,
    process: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Daemon {
    pub fn start(user: &str, hidden: &[&Path]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!("{REPOSITORY}/tests/real/daemon.sh");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", &script]).arg(folder.path()).arg(user).args(hidden);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts");
        let answers = BufReader::new(process.stdout.take().expect("its answers")).lines();
        let mut daemon = Self { folder, commands: process.stdin.take(), process, answers };
        daemon.is_ready();
        daemon
    }

    fn is_ready(&mut self) {
        let answer = self.answers.next().transpose().expect("an answer");
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert_eq!(answer.as_deref(), Some("ready"), "{}", log());
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.commands.as_mut().expect("it listens"), "{command}").expect("told");
    }

    /// The folder of its storage pool `lab`.
    pub fn pool(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    /// What is in that.
    pub fn volumes(&self) -> Vec<String> {
        let pool = std::fs::read_dir(self.pool()).expect("a pool");
        let mut names: Vec<String> = pool.map(|one| one.expect("a file").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.folder.path().join("libvirt-sock").display())
    }

    /// As `patchlab.toml` has it. It has room for one machine.
    fn host(&self, name: &str) -> String {
        format!("[[host]]\nname = \"{name}\"\nuri = \"{}\"\ncores = 1\nmemory = \"6GiB\"\ndisk = \"20GiB\"\n", self.uri())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.commands = None;
        if let Err(error) = self.process.wait() {
            eprintln!("a daemon can't be waited for: {error}");
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("{key}: {value:#}"))
}

#[test]
#[ignore = "needs golden images, root, and two libvirt daemons for some minutes: cargo test --test real distant -- --ignored"]
fn distant_hosts_share_a_run_and_one_that_dies_in_the_middle_spoils_nothing() {
    let (lab, _other) = (Lab::new(), Slot::take());
    // One has the lab's files at the same paths, the other has none of them.
    let golden = std::env::var_os("PATCHLAB_TEST_STATE").expect("a folder with golden images");
    let (alpha, mut beta) = (Daemon::start("libvirt-qemu", &[]), Daemon::start("nobody", &[golden.as_ref()]));
    let folder = tempfile::tempdir().expect("a folder");
    for shared in ["images", "builds", "test-suites"] {
        symlink(format!("{REPOSITORY}/{shared}"), folder.path().join(shared)).expect("a link");
    }
    std::fs::write(folder.path().join("patchlab.toml"), alpha.host("alpha") + &beta.host("beta") + "pool = \"lab\"\n").expect("written");

    let report = folder.path().join("report.json");
    let mut run = command::patchlab(folder.path(), lab.state.path());
    run.args(["run", &format!("{REPOSITORY}/tests/patches/good-motd"), "--customer", "acme", "--build", "web", "--build", "desktop"]);
    run.args(["--hardware", "virtio-bios", "--suite", "ssh", "--format", "json"]).stderr(Stdio::piped());
    let mut run = run.stdout(File::create(&report).expect("a file")).spawn().expect("patchlab starts");
    let mut told =
        BufReader::new(run.stderr.take().expect("standard error")).lines().map_while(Result::ok).inspect(|line| eprintln!("{line}"));
    // With room for one cell on each, both are at work then.
    assert_eq!(told.by_ref().filter(|line| line.ends_with("boot done")).take(2).count(), 2);
    beta.tell("kill");
    assert!(told.any(|line| line.contains(" fault hypervisor: ")), "the cell there is lost");
    beta.tell("start");
    beta.is_ready();
    assert!(told.any(|line| line.contains("(2 of 2)")), "both cells have ended");
    let exit = run.wait().expect("an exit code").code();

    let report: Value = serde_json::from_reader(File::open(&report).expect("a report")).expect("JSON");
    assert_eq!((exit, report["verdict"].as_str()), (Some(0), Some("pass")), "{report:#}");
    // A pass begins with a clone.
    let passes = |cell: &Value| {
        let clones = list(cell, "stages").iter().filter(|stage| stage["stage"] == "clone");
        clones.map(|stage| stage["host"].as_str().expect("a host").to_owned()).collect()
    };
    let hosts: Vec<Vec<String>> = list(&report, "cells").iter().map(passes).collect();
    assert!(hosts.contains(&vec!["alpha".to_owned()]), "one was never on the host that died: {hosts:?}");
    assert!(hosts.iter().any(|hosts| hosts.len() == 2 && hosts[0] == "beta"), "the other began there: {hosts:?}");
    let faults: Vec<_> = list(&report, "cells").iter().flat_map(|cell| list(cell, "faults")).collect();
    assert!(!faults.is_empty() && faults.iter().all(|fault| fault["recovered"] == true), "{faults:#?}");
    let left = command::patchlab(folder.path(), lab.state.path()).arg("gc").output().expect("patchlab starts");
    let left = String::from_utf8_lossy(&left.stdout);
    assert!(left.starts_with("nothing is left over\n"), "{left}");
    lab.has_no_emulators();
    // Only images and the template's two files stay where they were sent, each with the mark that says that it is whole.
    let sent = beta.volumes();
    let with = |end: &str| sent.iter().filter_map(|name| Some(format!("{}.whole", name.strip_suffix(end)?))).collect::<Vec<_>>();
    let (images, frozen) = (with(".qcow2"), with(".frozen"));
    assert!(!images.is_empty() && frozen.len() % 2 == 0 && sent.iter().all(|name| name.starts_with("patchlab-")), "{sent:?}");
    let mut marks = [images, frozen].concat();
    marks.sort();
    assert_eq!(with(".whole"), marks, "{sent:?}");
    assert_eq!(sent.len(), 2 * marks.len(), "{sent:?}");
}
