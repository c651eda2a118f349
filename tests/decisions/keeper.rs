//! The board by itself, on virtual time: what it does while nobody asks.

use std::sync::Arc;

use async_trait::async_trait;
use patchlab::api::decisions::Row;
use patchlab::api::decisions::board::{Board, Key};
use patchlab::catalog::settings::Host;
use patchlab::lab::desk::{Desk, DeskError, Machines, Workshop};
use patchlab::lab::state::State;
use patchlab::verdict::gate::Status;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::*;

/// What decides needs no machine.
struct Nothing;

#[async_trait]
impl Workshop for Nothing {
    fn name(&self, _: Option<&str>) -> String {
        "sim".to_owned()
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn admit(&self, _: &str) -> Result<(), DeskError> {
        Ok(())
    }

    async fn open(&self, _: &State, _: &Host) -> Result<Machines, DeskError> {
        Err(DeskError::Fault("there is no machine here".to_owned()))
    }
}

struct Kept {
    lab: Lab,
    board: Arc<Board>,
    key: Key,
}

impl Kept {
    fn policy(&self, policy: &str) {
        std::fs::write(self.lab.folder.join("builds/acme/customer.toml"), policy).expect("written");
    }

    /// The decision as lists show it.
    fn row(&self) -> Option<Row> {
        self.board.rows(jiff::Timestamp::MIN, |row| (row.sha256, &row.customer) == (self.key.0, &self.key.1)).pop()
    }

    /// Waits, on virtual time, until the decision is shown so. Nobody asks for it.
    async fn comes_to(&self, status: Option<Status>) -> Duration {
        let begun = Instant::now();
        let come = async {
            while self.row().map(|row| row.status) != status {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let late = timeout(Duration::from_secs(60), come).await.is_err();
        assert!(!late, "it does not come to {status:?}: {:?}", self.row());
        begun.elapsed()
    }
}

#[test]
fn a_catalog_that_changes_has_everything_decided_anew_though_nobody_asks() {
    let lab = lab(POLICY, "");
    let selected = ["--customer", "acme", "--build", "web", "--hardware", "virtio-bios", "--suite", "web-server"];
    assert!(lab.patchlab(&[&["run", "good-motd"], &selected[..]].concat(), None).status.success());
    let asked = lab.patchlab(&["gate", "good-motd", "--customer", "acme", "--format", "json"], None);
    let decision: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    assert_eq!(decision["status"], "pending", "{decision}");
    let key: Key = (decision["patch"]["sha256"].as_str().expect("text").parse().expect("a digest"), "acme".parse().expect("a name"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let real = std::time::Instant::now();
    runtime.block_on(async {
        let state = State::open(lab.state.path()).expect("the state");
        let desk = Arc::new(Desk::new(lab.folder.clone(), state, Arc::new(Nothing), |_| {}));
        let journal = desk.journal().await.expect("a journal");
        let board = Arc::new(Board::open(desk, journal.clone()).await.expect("a board"));
        let (stop, stopping) = watch::channel(false);
        let keeping = tokio::spawn(board.clone().keep(Arc::new(Notify::new()), stopping));
        let kept = Kept { lab, board, key };
        kept.comes_to(Some(Status::Pending)).await;
        let before = journal.head().await.expect("a head");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(journal.head().await.expect("a head"), before, "where nothing changes nothing is put on record");

        // No approval is needed any more; then a suite that was never run.
        kept.policy(&POLICY.replace(NO_APPROVAL, ""));
        let took = kept.comes_to(Some(Status::Approved)).await;
        assert!(took <= Duration::from_secs(12), "{took:?}");
        kept.policy(&POLICY.replace(NO_APPROVAL, "").replace("[\"web-server\"]", "[\"web-server\", \"storage\"]"));
        kept.comes_to(Some(Status::Pending)).await;

        // A policy that is gone leaves no decision to be shown, and brings it back with itself.
        kept.policy("title = \"Acme\"\n");
        kept.comes_to(None).await;
        kept.policy(&POLICY.replace(NO_APPROVAL, ""));
        kept.comes_to(Some(Status::Approved)).await;
        let chain = journal.verify().await.expect("sound");
        assert!(chain.entries > before, "{chain:?}");
        stop.send_replace(true);
        keeping.await.expect("it stops");
    });
    assert!(real.elapsed() < Duration::from_secs(60), "no real time goes by: {:?}", real.elapsed());
}
