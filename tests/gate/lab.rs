//! A lab with policies of its own, and the command line on it.

use crate::command;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use jiff::Timestamp;
use patchlab::catalog::policy::Role;
use patchlab::id::{Digest, Name};
use patchlab::journal::{Event, Journal, Record};
use patchlab::lab::gate::{Gate, GateError, Yes};
use patchlab::verdict::gate::Decision;

pub const PATCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/patches/good-motd");
pub const WEB: [&str; 4] = ["--build", "web", "--hardware", "virtio-bios"];
pub const RED: &str = "[[step]]\non = { case = 'storage/*' }\nwhen = { side = 'after' }\nends = { exit = 1 }";

/// One cell is required, and nobody's approval.
pub const PLAIN: &str = r#"
[policy]
valid-for = "14d"
[policy.require]
builds = ["web"]
environments = []
hardware = ["virtio-bios"]
[policy.waiver]
cases = ["storage/*"]
longest = "30d"
"#;

pub const APPROVED: &str = "[[policy.approval]]\nrole = \"approver\"\ncount = 1\n";

pub struct Lab {
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new(policy: &str) -> Self {
        let lab = Self { folder: tempfile::tempdir().expect("a folder") };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for shared in ["images", "test-suites"] {
            symlink(repository.join(shared), lab.path(shared)).expect("a link");
        }
        fs::create_dir_all(lab.path("builds/acme")).expect("a folder");
        symlink(repository.join("builds/hardware"), lab.path("builds/hardware")).expect("a link");
        for build in ["web.toml", "desktop.toml"] {
            fs::copy(repository.join("builds/acme").join(build), lab.path("builds/acme").join(build)).expect("copied");
        }
        lab.policy(policy);
        lab
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub fn policy(&self, policy: &str) {
        fs::write(self.path("builds/acme/customer.toml"), format!("title = \"Acme\"\n{policy}")).expect("written");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command::patchlab(self.folder.path(), self.path("state"));
        if !arguments.contains(&"--hypervisor") {
            command.args(["--hypervisor", "sim"]);
        }
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn patchlab(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("patchlab starts")
    }

    pub fn code(&self, arguments: &[&str]) -> i32 {
        self.patchlab(arguments).status.code().expect("an exit code")
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("patchlab starts")
    }

    /// A run of the one cell.
    pub fn run(&self, scenario: &str, more: &[&str]) -> i32 {
        let file = self.path("scenario.toml");
        fs::write(&file, scenario).expect("written");
        let sim = format!("sim:{}", file.display());
        self.code(&[&["--hypervisor", &sim, "run", PATCH, "--customer", "acme"], &WEB[..], more].concat())
    }

    pub fn gate(&self) -> (i32, Decision) {
        self.gate_for(PATCH, &[])
    }

    pub fn gate_for(&self, patch: &str, more: &[&str]) -> (i32, Decision) {
        let output = self.patchlab(&[&["gate", patch, "--customer", "acme", "--format", "json"], more].concat());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().expect("an exit code"), serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{bad}: {text}{said}")))
    }

    pub fn journal_file(&self) -> PathBuf {
        self.path("state/journal.sqlite")
    }

    /// What people do by other means than this user's command line.
    pub fn people<T>(&self, act: impl AsyncFnOnce(Gate, Journal) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let journal = Journal::open(&self.journal_file()).await.expect("a journal");
            act(Gate::new(journal.clone()), journal).await
        })
    }

    pub fn approve(&self, decision: &Decision, by: &str) -> Result<Decision, GateError> {
        let yes = Yes { revision: Some(decision.revision), role: Role::Approver, by, comment: "" };
        self.people(async |gate, _| gate.approve(uuid::Uuid::now_v7(), decision.patch.sha256, &acme(), &yes, Timestamp::now()).await)
    }

    pub fn decisions(&self, patch: Digest) -> Vec<Decision> {
        self.people(async |_, journal| {
            let entries = journal.records(patch, &acme()).await.expect("records");
            let decided = entries.into_iter().filter_map(|entry| match entry.event {
                Event::Recorded { record } => match *record {
                    Record::Decided { decision } => Some(*decision),
                    _ => None,
                },
                _ => None,
            });
            decided.collect()
        })
    }

    pub fn alter(&self, sql: &'static str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let path = format!("sqlite:{}", self.journal_file().display());
            let pool = sqlx::SqlitePool::connect(&path).await.expect("the file");
            sqlx::raw_sql(sql).execute(&pool).await.expect("altered");
            pool.close().await;
        });
    }
}

pub fn acme() -> Name {
    "acme".parse().expect("a name")
}

pub fn reason(decision: &Decision) -> &str {
    decision.requirements[0].reason.as_str()
}
