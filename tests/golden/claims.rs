//! Whether a guest that is up sees what its hardware profile claims, asked as the lab asks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use patchlab::catalog::hardware::Hardware;
use patchlab::catalog::image::Os;
use patchlab::cell::{CaseOutcome, Point};
use patchlab::guest::agent::AgentGuests;
use patchlab::guest::linux::apply::facts_step;
use patchlab::guest::{Guests, Job, JobState};
use patchlab::hypervisor::Hypervisor;
use patchlab::lab::media::LABEL;
use patchlab::plan::PlannedPatch;
use patchlab::verdict::health::{self, Facts, HealthContext};

/// An empty payload disk as the guest side knows it.
pub fn media(state: &Path) -> PathBuf {
    let (folder, media) = (state.join("payload"), state.join("media.iso"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let made = Command::new("xorrisofs").args(["-quiet", "-V", LABEL, "-R", "-o"]).args([&media, &folder]).status();
    assert!(made.expect("xorrisofs starts").success());
    media
}

/// Takes the guest's facts and holds them to the profile.
pub async fn are_met(on: Arc<dyn Hypervisor>, machine: &str, hardware: &Hardware) {
    let guest = AgentGuests { hypervisor: on }.connect(machine, Os::Debian);
    guest.prepare().await.expect("prepared");
    guest.start(&Job { id: "facts".to_owned(), steps: vec![facts_step()] }).await.expect("a job");
    let ended = async {
        loop {
            match guest.poll("facts").await.expect("a job") {
                JobState::Ended { mut steps } => return steps.pop().expect("one step"),
                JobState::Running { .. } => tokio::time::sleep(Duration::from_millis(500)).await,
                JobState::Unknown => panic!("{machine}: the job is gone"),
            }
        }
    };
    let report = tokio::time::timeout(Duration::from_secs(600), ended).await.expect("facts in time");
    let facts = Facts::parse(report.result.as_deref().unwrap_or(&report.output)).expect("facts");
    println!("{machine}: {:#?} {:#?}", facts.lines("devices"), facts.lines("hardware"));
    let results = health::baseline(&facts, &context(hardware));
    if let Some(claim) = health::unmet(&results) {
        panic!("{machine}: {}\n{}", claim.message, claim.detail);
    }
    let measured = results.iter().filter(|seen| seen.check.as_str().starts_with("profile-") && seen.outcome == CaseOutcome::Pass);
    assert_eq!(measured.count(), 3, "{machine}");
}

fn context(hardware: &Hardware) -> HealthContext {
    let patch = serde_json::json!({
        "sha256": format!("sha256:{}", "0".repeat(64)),
        "manifest": { "id": "none", "title": "none", "kind": "script", "payload": ["x"], "reboot": "never", "install": "true" },
        "facts": { "packages": [], "paths": [], "bytes": 0 },
    });
    let patch: PlannedPatch = serde_json::from_value(patch).expect("a patch");
    let (patches, hardware) = (vec![patch], hardware.clone());
    HealthContext { point: Point::Baseline, reboot_pending: false, patches, hardware, services: Vec::new(), volatile: Vec::new() }
}
