//! Checkpoints: a build frozen behind its patch, for all the cell's destructive cases. None of them waits for the patch or a restart again.
//!
//! ```text
//! twin pass, patched   clone - boot - apply - [reboot] --> freeze --> checkpoint --> thaw - suites (one destructive case) - teardown
//! the next one's       clone on the checkpoint ----------------------------------> thaw - suites (another) - teardown
//! ```
//! Invariants: a checkpoint is one cell's and one process's, and goes with them; only clones that were prepared for the same suites share
//! it; what goes wrong with it costs time, never a verdict: the patch is applied again. What tries bad news again never begins on one: what
//! applying the patch did by chance must have the chance not to happen.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::foreign::to_prepare;
use super::runner::{CellRunner, Stop};
use super::session::lab_trouble;
use super::templates::{Record, Template};
use super::warm::blocking;
use crate::cell::identity::unfit_as_template;
use crate::cell::next::patched_clones_to_come;
use crate::cell::{Cause, Pass, Phase, Stage, Trouble};
use crate::id::Name;

/// What a cell has of checkpoints.
#[derive(Default)]
pub(super) enum Checkpoint {
    #[default]
    None,
    Kept {
        /// Held for its end.
        _folder: Folder,
        template: Box<Template>,
        /// The suites whose clones are prepared like this one.
        prepared: Vec<Name>,
    },
    /// No other is tried.
    GivenUp,
}

/// A folder that goes with its owner.
pub(super) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "checkpoint not removed");
        }
    }
}

impl CellRunner {
    /// The checkpoint that the pass under way begins on.
    pub(super) fn checkpoint(&self) -> Option<&Template> {
        match &self.checkpoint {
            Checkpoint::Kept { template, prepared, .. } if self.may_share() && *prepared == self.prepared() => Some(template),
            _ => None,
        }
    }

    /// Whether the pass under way is one that a checkpoint is for.
    fn may_share(&self) -> bool {
        matches!(self.pass.as_ref().map(|pass| &pass.pass), Some(Pass::Twin { phase: Phase::Patched, round: 0, .. }))
            && !self.cell.is_environment()
    }

    fn prepared(&self) -> Vec<Name> {
        let cases = self.pass.as_ref().map(|pass| pass.work.cases.as_slice()).unwrap_or_default();
        to_prepare(&self.cell, cases).map(|suite| suite.name.clone()).collect()
    }

    /// Freezes the patched clone where others of its kind are still to come, and goes on from there as they will.
    pub(super) async fn keep_checkpoint(&mut self) -> Result<(), Stop> {
        let prepared = self.prepared();
        let alike = |key| to_prepare(&self.cell, &[key]).map(|suite| &suite.name).eq(&prepared);
        let wanted = matches!(self.checkpoint, Checkpoint::None)
            && self.may_share()
            && patched_clones_to_come(&self.cell, &self.record).into_iter().any(alike);
        let (Some(templates), true) = (self.lab.templates.clone().filter(|_| !self.lab.settings.cold), wanted) else { return Ok(()) };
        let hypervisor = &self.lab.hypervisor;
        if hypervisor.pool().is_some() || hypervisor.unfreezable(&self.planned(0)?.hardware.profile).is_some() {
            return Ok(());
        }
        // Until there is one.
        self.checkpoint = Checkpoint::GivenUp;
        self.tell(Stage::Reboot, "making a checkpoint");
        let (guest, job, name) = (self.session(0)?.guest.clone(), self.session(0)?.job.clone(), self.session(0)?.machine.clone());
        let about = self.session(0)?.patiently(|| async {
            // A later clone's job may have its name.
            guest.kill(&job).await?;
            guest.identity().await
        });
        let identity = match about.await {
            Ok(identity) => unfit_as_template(&identity).map_or(Ok(identity), Err),
            // The cases will show what that means.
            Err(trouble) if matches!(trouble.cause, Cause::ProbeFailed | Cause::AgentNonsense) => Err(trouble.message),
            Err(lost) => return Err(lost.into()),
        };
        let (draft, memory) = (name.clone(), self.planned(0)?.hardware.profile.memory.0);
        let begun = match identity {
            Ok(identity) => {
                let room = blocking(&templates, move |templates| templates.draft(&draft, memory)).await;
                room.map(|folder| (identity, Folder(folder)))
            }
            Err(why) => Err(why),
        };
        let (identity, folder) = match begun {
            Ok(begun) => begun,
            Err(why) => {
                tracing::info!(run = %self.run, cell = %self.cell.id, why, "no checkpoint is made");
                return Ok(());
            }
        };
        let macs = self.spec(0, &name)?.nics.iter().map(|nic| nic.mac).collect();
        let boot = self.session(0)?.boot_took.unwrap_or_default();
        let boot_ms = u64::try_from(boot.as_millis()).unwrap_or(u64::MAX);
        let record = Record { key: self.key(0).await?, frozen: self.lab.clock.now(), boot_ms, identity, macs, files: BTreeMap::new() };

        self.lab.hypervisor.freeze(&name, &folder.0).await.map_err(lab_trouble)?;
        self.session(0)?.cut_power().await?;
        self.lab.hypervisor.destroy(&name).await.map_err(lab_trouble)?;
        let (frozen, point) = (folder.0.clone(), self.point());
        let made = blocking(&templates, move |_| Template::behind(&frozen, record, point)).await;
        let template = made.map_err(|why| Trouble::new(Cause::Hypervisor, format!("the checkpoint cannot be used: {why}")))?;
        self.make(0, &name, Some(&template)).await?;
        if let Err(why) = self.thaw(0, &template).await? {
            let message = format!("the patched clone did not go on from its checkpoint: {why}");
            return Err(Trouble::new(Cause::Hypervisor, message).into());
        }
        self.checkpoint = Checkpoint::Kept { _folder: folder, template: Box::new(template), prepared };
        Ok(())
    }
}
