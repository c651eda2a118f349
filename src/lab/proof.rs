//! A host's proof, asked for before its first work and after a fault, where there are several: what was left there is removed, and a clone of a
//! golden image boots until its agent answers.

use std::collections::{BTreeMap, BTreeSet};

use super::reaper;
use super::session::{Budget, Session, lab_trouble};
use super::{Lab, RunFiles};
use crate::cell::Trouble;
use crate::hypervisor::{MachineSpec, Tag};
use crate::id::{CellId, Digest, Name, RunId};
use crate::plan::{Plan, PlannedCell, PlannedMachine};

/// What the proof is made with: of the machines of a plan that may run on a host of these labels, the one whose image is the smallest.
fn smallest<'a>(plan: &'a Plan, labels: &BTreeSet<Name>, disks: &BTreeMap<Digest, u64>) -> Option<(&'a PlannedCell, &'a PlannedMachine)> {
    let fitting = plan.cells.iter().filter(|cell| cell.host_labels.is_subset(labels));
    let machines = fitting.flat_map(|cell| cell.machines.iter().map(move |machine| (cell, machine)));
    machines.min_by_key(|(_, machine)| (disks.get(&machine.image.sha256), machine.hardware.profile.memory.0))
}

/// Proves the host that this lab is on, with what a run brings.
///
/// # Errors
/// In words, why it is not fit for work.
pub async fn prove(lab: &Lab, run: RunId, labels: &BTreeSet<Name>, plan: &Plan, files: &RunFiles) -> Result<(), String> {
    let trouble = |trouble: Trouble| trouble.message;
    lab.hypervisor.host().await.map_err(lab_trouble).map_err(trouble)?;
    reaper::reap_idle(lab).await.map_err(|error| error.to_string())?;
    let Some((cell, machine)) = smallest(plan, labels, &files.disks) else { return Ok(()) };
    let spec = spec(lab, (run, &cell.id), machine, files)?;
    let booted = boot(lab, &spec, machine).await;
    let gone = lab.hypervisor.destroy(&spec.name).await.map_err(lab_trouble);
    booted.and(gone).map_err(|found| format!("a known-good machine of image {} failed there: {}", machine.image.name, found.message))
}

/// Removes what a proof that was given up has left.
pub async fn undo(lab: &Lab, run: RunId) {
    let name = name(lab, run);
    if let Err(error) = lab.hypervisor.destroy(&name).await {
        tracing::warn!(machine = name, %error, "the machine of a proof could not be removed; it is removed when its host proves itself");
    }
}

async fn boot(lab: &Lab, spec: &MachineSpec, machine: &PlannedMachine) -> Result<(), Trouble> {
    lab.hypervisor.create(spec).await.map_err(lab_trouble)?;
    let mut session = Session::new(lab, &spec.name, machine.os);
    session.start_bare(Budget::from_usual(None), |_| {}).await
}

fn name(lab: &Lab, run: RunId) -> String {
    let last = |text: &str| text.get(text.len().saturating_sub(8)..).unwrap_or_default().to_owned();
    // Each host has its own, also where two of them turn out to be the same libvirt.
    let host = Digest::of(lab.placed.as_ref().map_or("", |placed| placed.host.as_str())).short();
    format!("patchlab-{}-{}-proof-{}", last(&lab.id), last(&run.to_string()), last(&host))
}

fn spec(lab: &Lab, (run, cell): (RunId, &CellId), machine: &PlannedMachine, files: &RunFiles) -> Result<MachineSpec, String> {
    let lacking = || format!("image {} ({}) is not in the store", machine.image.name, machine.image.sha256);
    let name = name(lab, run);
    Ok(MachineSpec {
        tag: Tag { lab: lab.id.clone(), run, cell: cell.clone(), lease: name.clone() },
        name,
        hardware: machine.hardware.profile.clone(),
        image: files.images.get(&machine.image.sha256).cloned().ok_or_else(lacking)?,
        image_digest: machine.image.sha256,
        template: None,
        media: None,
        nics: Vec::new(),
    })
}
