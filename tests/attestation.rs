//! Signed evidence as auditors and pipelines meet it: written by the command line, checked by it, by openssl and by hand.

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PATCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/patches/good-motd");
const BREAKS: &str = "[[step]]\non = { case = 'storage/*' }\nwhen = { side = 'after' }\nends = { exit = 1 }";
const REFUSES: &str = "[[fault]]\non = 'create'\ndoes = { refuse = 'no-space' }";

/// A lab on the simulator with one ended run.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn after(scenario: &str) -> Self {
        let lab = Self { folder: tempfile::tempdir().expect("a folder") };
        let sim = lab.path("scenario.toml");
        fs::write(&sim, scenario).expect("written");
        let sim = format!("sim:{}", sim.display());
        lab.patchlab(&["--hypervisor", &sim, "run", PATCH, "--build", "web", "--hardware", "virtio-bios"]);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn patchlab(&self, arguments: &[&str]) -> Output {
        let mut command = command::patchlab(env!("CARGO_MANIFEST_DIR"), self.path("state"));
        command.args(arguments).current_dir(self.folder.path()).output().expect("patchlab starts")
    }

    /// Writes attestation and public key into the folder.
    fn attest(&self) -> (String, String) {
        assert_eq!(code(&self.patchlab(&["attest", "last", "--output", "run.intoto.jsonl"])), 0);
        let key = self.patchlab(&["key", "show"]);
        assert_eq!(code(&key), 0);
        fs::write(self.path("key.pem"), &key.stdout).expect("written");
        (fs::read_to_string(self.path("run.intoto.jsonl")).expect("written"), said(&key))
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// What is said of a file by a patchlab that knows no lab.
fn verify(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchlab"));
    command.env_clear().current_dir(folder).args(["--lab", "/nonexistent", "verify"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().expect("patchlab starts");
    (code(&output), said(&output) + &String::from_utf8_lossy(&output.stderr))
}

fn json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, text) = verify(folder, &[arguments, &["--format", "json"]].concat());
    (code, serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{bad}: {text}")))
}

/// openssl or a shell, in a folder.
fn tool(folder: &Path, name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(name).current_dir(folder).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn works(folder: &Path, name: &str, arguments: &[&str]) -> String {
    let output = tool(folder, name, arguments);
    assert_eq!(code(&output), 0, "{name} {arguments:?}: {}{}", said(&output), String::from_utf8_lossy(&output.stderr));
    said(&output)
}

const GOOD: [&str; 4] = ["run.intoto.jsonl", "--key", "key.pem", "--simulated"];

#[test]
fn exit_codes_tell_what_was_verified() {
    for (scenario, exit, verdict) in [("", 0, "pass"), (BREAKS, 1, "fail"), (REFUSES, 3, "inconclusive")] {
        let lab = Lab::after(scenario);
        lab.attest();
        let (code, told) = json(lab.folder.path(), &GOOD);
        assert_eq!((code, told["verified"].as_bool(), told["verdict"].as_str()), (exit, Some(true), Some(verdict)), "{told:#}");
        let (_, human) = verify(lab.folder.path(), &GOOD);
        assert!(human.starts_with(&format!("VERIFIED  {}", verdict.to_uppercase())) && human.contains("SIMULATED"), "{human}");
        let (code, told) = json(lab.folder.path(), &GOOD[..3]);
        assert_eq!((code, &told["verified"], &told["reason"]), (1, &false.into(), &"simulated".into()));
        assert!(!lab.path(".patchlab").exists(), "verify leaves nothing behind");
    }
}

#[test]
fn what_is_asked_for_has_to_be_what_is_found() {
    let lab = Lab::after("");
    let (text, _) = lab.attest();
    let folder = lab.folder.path();
    let (_, told) = json(folder, &GOOD);
    let patch = told["patch"]["sha256"].as_str().expect("a digest");
    let plan = told["plan"].as_str().expect("a digest");
    let all = ["--patch", patch, "--policy", plan, "--plan", plan, "--max-age", "1d"];
    assert_eq!(verify(folder, &[&GOOD[..], &all[..]].concat()).0, 0);
    let other = format!("sha256:{}", "0".repeat(64));
    // How old a run may be is tried where the clock can be set: a simulated one ends in the future.
    for (option, reason) in [("--patch", "subject"), ("--policy", "policy"), ("--plan", "plan")] {
        let (code, told) = json(folder, &[&GOOD[..], &[option, &other]].concat());
        assert_eq!((code, told["reason"].as_str()), (1, Some(reason)), "{told:#}");
    }
    fs::write(lab.path("cut"), &text[..text.len() - 7]).expect("written");
    let (code, human) = verify(folder, &["cut", "--key", "key.pem"]);
    assert!(code == 1 && human.starts_with("NOT VERIFIED  truncated\n"), "{human}");
    // What is not given or not there is no result but a usage error.
    for arguments in [
        vec!["nowhere", "--key", "key.pem"],
        vec![".", "--key", "key.pem"],
        vec!["/dev/zero", "--key", "key.pem"],
        vec!["run.intoto.jsonl"],
        vec!["run.intoto.jsonl", "--key", "nowhere"],
        vec!["run.intoto.jsonl", "--key", "run.intoto.jsonl"],
        vec!["run.intoto.jsonl", "--key", "state/signing-key.pem"],
        vec!["run.intoto.jsonl", "--key", "key.pem", "--patch", "motd"],
    ] {
        assert_eq!(verify(folder, &arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn a_key_is_made_once_and_others_may_not_read_it() {
    let lab = Lab::after("");
    let (text, key) = lab.attest();
    let (again, same) = lab.attest();
    assert_eq!((text, key), (again, same), "the same run and key, the same bytes");
    let file = lab.path("state/signing-key.pem");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("opened");
    for arguments in [["attest", "last"].as_slice(), &["key", "show"], &["evidence", "last", "--output", "e.tar.gz"]] {
        let output = lab.patchlab(arguments);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(code(&output) == 2 && why.contains("mode 0640") && output.stdout.is_empty(), "{arguments:?}: {why}");
    }
    assert!(!lab.path("e.tar.gz").exists());
}

#[test]
fn openssl_makes_keys_for_patchlab_and_reads_its_own() {
    let lab = Lab::after("");
    let folder = lab.folder.path();
    let (_, own) = lab.attest();
    assert_eq!(works(folder, "openssl", &["pkey", "-in", "state/signing-key.pem", "-pubout"]), own);
    works(folder, "openssl", &["genpkey", "-algorithm", "ed25519", "-out", "given.pem"]);
    fs::set_permissions(lab.path("given.pem"), fs::Permissions::from_mode(0o600)).expect("closed");
    works(folder, "openssl", &["pkey", "-in", "given.pem", "-pubout", "-out", "given.pub"]);
    let given = ["--signing-key", "given.pem"];
    assert_eq!(said(&lab.patchlab(&[&["key", "show"], &given[..]].concat())), fs::read_to_string(lab.path("given.pub")).expect("a key"));
    assert_eq!(code(&lab.patchlab(&[&["attest", "last", "--output", "given.jsonl"], &given[..]].concat())), 0);
    assert_eq!(verify(folder, &["given.jsonl", "--key", "given.pub", "--simulated"]).0, 0);
    let (code, told) = json(folder, &["given.jsonl", "--key", "key.pem", "--simulated"]);
    assert_eq!((code, told["reason"].as_str()), (1, Some("unknown-key")));
    works(folder, "openssl", &["genpkey", "-algorithm", "x25519", "-out", "other.pem"]);
    assert_eq!(lab.patchlab(&["key", "show", "--signing-key", "other.pem"]).status.code(), Some(2), "another kind of key");
}

/// The `sh` blocks of a Markdown text.
fn scripts(markdown: &str) -> Vec<String> {
    markdown.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(script, _)| script.to_owned()).collect()
}

#[test]
fn an_archive_can_be_checked_with_openssl_and_a_shell() {
    let lab = Lab::after(BREAKS);
    let folder = lab.folder.path();
    let (attestation, key) = lab.attest();
    for name in ["one.tar.gz", "two.tar.gz"] {
        assert_eq!(code(&lab.patchlab(&["evidence", "last", "--output", name])), 0);
    }
    let packed = fs::read(lab.path("one.tar.gz")).expect("written");
    assert_eq!(packed, fs::read(lab.path("two.tar.gz")).expect("written"), "the same run, the same bytes");
    works(folder, "tar", &["-xzf", "one.tar.gz"]);
    let run = fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path());
    let run =
        run.into_iter().find(|path| path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("patchlab-")));
    let run = run.expect("a folder with the run's name");
    let read = |name: &str| fs::read_to_string(run.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((read("attestation.intoto.jsonl"), read("public-key.pem")), (attestation, key));
    for name in ["report.json", "report.html", "report.md", "junit.xml", "summary.txt"] {
        assert!(!read(name).is_empty());
    }
    assert!(run.join("evidence/acme.web@virtio-bios/main/facts.baseline.txt").is_file());
    let report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!(report["verdict"], "fail");
    for line in read("journal.jsonl").lines() {
        let entry: patchlab::journal::Entry = serde_json::from_str(line).expect("an entry");
        let hashed = (entry.seq, entry.version, &entry.at, &entry.run, &entry.event, &entry.previous);
        assert_eq!(patchlab::id::Digest::of_json(&hashed), entry.hash, "as the README says");
    }
    let secret = fs::read_to_string(lab.path("state/signing-key.pem")).expect("the key");
    let secret = secret.lines().nth(1).expect("its contents");
    for word in ["PRIVATE KEY", secret] {
        let found = works(folder, "sh", &["-c", r#"zcat one.tar.gz | { grep -caF -- "$1" || true; }"#, "sh", word]);
        assert_eq!(found, "0\n", "the private key stays in the lab");
    }
    // What the README tells the auditor to do.
    let steps = scripts(&read("README.md"));
    assert_eq!(steps.len(), 2);
    for step in &steps {
        let told = works(&run, "sh", &["-euc", step]);
        assert!(told.contains("Signature Verified Successfully"), "{told}");
    }
    assert!(works(&run, "sh", &["-euc", &steps[1]]).contains("\"verificationResult\":\"FAILED\""));
    let id = works(&run, "sh", &["-c", "openssl pkey -pubin -in public-key.pem -outform DER | sha256sum"]);
    assert!(read("README.md").contains(&format!("sha256:{}", &id[..64])));
    // One who altered it.
    let alter = |name: &str, from: &str, to: &str, step: usize| {
        let kept = read(name);
        fs::write(run.join(name), kept.replacen(from, to, 1)).expect("altered");
        assert_ne!(code(&tool(&run, "sh", &["-euc", &steps[step]])), 0, "{name}");
        fs::write(run.join(name), kept).expect("restored");
    };
    alter("report.json", "fail", "pass", 0);
    alter("SHA256SUMS", "report", "retort", 0);
    alter("attestation.intoto.jsonl", "\"sig\":\"", "\"sig\":\"AAAA", 0);
    let summary = read("attestation.intoto.jsonl").lines().last().expect("a line").to_owned();
    let payload = summary.split("\"payload\":\"").nth(1).map(|rest| rest[..40].to_owned()).expect("a payload");
    let other = format!("{}{}", &payload[..39], if payload.ends_with('A') { 'B' } else { 'A' });
    let kept = read("attestation.intoto.jsonl");
    let at = kept.rfind(&payload).expect("the summary's payload");
    fs::write(run.join("attestation.intoto.jsonl"), format!("{}{other}{}", &kept[..at], &kept[at + 40..])).expect("altered");
    assert_ne!(code(&tool(&run, "sh", &["-euc", &steps[1]])), 0);
}

#[test]
fn an_archive_says_what_is_not_in_it() {
    let lab = Lab::after("");
    let kept = fs::read_dir(lab.path("state/evidence")).expect("evidence").flatten().next().expect("a file").path();
    fs::write(&kept, "altered").expect("altered");
    let output = lab.patchlab(&["evidence", "last", "--output", "e.tar.gz"]);
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(code(&output) == 3 && why.contains("gone from the store or altered"), "{why}");
    let listed = works(lab.folder.path(), "tar", &["-tzf", "e.tar.gz"]);
    assert!(listed.contains("/MISSING.txt\n") && listed.contains("/report.json\n"), "{listed}");
}

#[tokio::test]
async fn a_run_that_has_not_ended_has_nothing_to_show() {
    use patchlab::journal::Journal;
    let lab = Lab::after("");
    let journal = Journal::open(&lab.path("state/journal.sqlite")).await.expect("a journal");
    let run = journal.runs().await.expect("runs")[0];
    let entries = journal.entries(run).await.expect("entries");
    let cut = Lab { folder: tempfile::tempdir().expect("a folder") };
    assert_eq!(code(&cut.patchlab(&["runs"])), 0);
    let other = Journal::open(&cut.path("state/journal.sqlite")).await.expect("a journal");
    for entry in &entries[..entries.len() - 1] {
        other.append(run, entry.at, entry.event.clone()).await.expect("appended");
    }
    for arguments in [["attest", "last", "--output", "a"].as_slice(), &["attest", "last"], &["evidence", "last", "--output", "a"]] {
        let output = cut.patchlab(arguments);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(code(&output) == 4 && why.contains("has not ended") && output.stdout.is_empty(), "{arguments:?}: {why}");
    }
    assert!(!cut.path("a").exists());
}
