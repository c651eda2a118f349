//! The patch applied a second time, and taken back.

use super::jobs::JobEnd;
use super::runner::{CellRunner, Stop};
use super::stages::{Laid, unasked};
use crate::catalog::patch::Reboot;
use crate::cell::{Cause, Point, Stage, StageOutcome, Trouble};
use crate::guest::linux::judge;

impl CellRunner {
    /// The same patch again: it must change nothing.
    pub(super) async fn reapply(&mut self) -> Result<StageOutcome, Stop> {
        let before = match self.memory(0)?.after_cases.take() {
            Some(facts) => facts,
            None => self.take_facts(Stage::Reapply, self.point()).await?,
        };
        for patch in self.laid(0) {
            self.reapply_one(&patch).await.map_err(|stop| self.about(&patch, stop))?;
        }
        let after = self.take_facts(Stage::Reapply, Point::Reapplied).await?;
        if let Some((message, detail)) = self.news(&before, &after, Point::Reapplied)? {
            let message = format!("applying the patch a second time changed the machine: {message}");
            return Err(Trouble::new(Cause::NotIdempotent, message).with_detail(detail).into());
        }
        Ok(StageOutcome::Passed)
    }

    async fn reapply_one(&mut self, patch: &Laid) -> Result<(), Stop> {
        match self.patch_job(Stage::Reapply, 0, "reapply", patch.steps.reapply.clone()).await? {
            JobEnd::Done(reports) => judge::reapply(&reports)?,
            JobEnd::Restarted(_) if patch.reboot == Reboot::Never => return Err(unasked("applying the patch again").into()),
            JobEnd::Restarted(finished) => {
                if let Some(reports) = self.come_back_from(Stage::Reapply, 0, finished).await? {
                    judge::reapply(&reports)?;
                }
            }
        }
        Ok(())
    }

    /// Taken back, where every patch can be.
    pub(super) async fn rollback(&mut self) -> Result<StageOutcome, Stop> {
        let laid = self.laid(0);
        if let Some(stays) = laid.iter().find(|patch| patch.steps.rollback.is_none()) {
            let which = if self.plan.is_together() { stays.id.as_str() } else { "this patch" };
            let reason =
                format!("{which} cannot be taken back from inside; the way back is the image, whose digest was checked before the run");
            return Ok(StageOutcome::Skipped { reason });
        }
        // The last one applied lies on top.
        for patch in laid.iter().rev() {
            self.roll_back_one(patch).await.map_err(|stop| self.about(patch, stop))?;
        }
        let before = self.memory(0)?.baseline.clone();
        let after = self.take_facts(Stage::Rollback, Point::RolledBack).await?;
        if let Some(before) = before
            && let Some((message, detail)) = self.news(&before, &after, Point::RolledBack)?
        {
            let message = format!("taking the patch back left the machine different from before: {message}");
            return Err(Trouble::new(Cause::RollbackFailed, message).with_detail(detail).into());
        }
        Ok(StageOutcome::Passed)
    }

    async fn roll_back_one(&mut self, patch: &Laid) -> Result<(), Stop> {
        match self.patch_job(Stage::Rollback, 0, "rollback", patch.steps.rollback.clone().unwrap_or_default()).await? {
            JobEnd::Done(reports) => judge::rollback(&reports)?,
            JobEnd::Restarted(_) if patch.reboot == Reboot::Never => return Err(unasked("taking the patch back").into()),
            JobEnd::Restarted(finished) => {
                if let Some(reports) = self.come_back_from(Stage::Rollback, 0, finished).await? {
                    judge::rollback(&reports)?;
                }
            }
        }
        Ok(())
    }
}
