//! Several patches that are tested together: their plans, and the runs of them in the journal.

use std::collections::BTreeMap;

use super::{Desk, DeskError, no_plan};
use crate::catalog::Catalog;
use crate::id::{Name, RunId};
use crate::journal::projection::RunFilter;
use crate::journal::{Journal, RunState};
use crate::lab::patches::StoredPatch;
use crate::plan::{Bundle, Plan, Request, SealedImage, plan_together, unknown};
use crate::verdict::bisect::{Next, Set};
use crate::verdict::trials::Trials;

/// Patches that were put together, and all that plans of some of them are made from: every trial by the same catalog and images.
pub struct Joined {
    pub bundle: Bundle,
    pub stored: Vec<StoredPatch>,
    pub catalog: Catalog,
    images: BTreeMap<Name, SealedImage>,
    request: Request,
}

impl Joined {
    /// The plan for all of them.
    pub fn whole(&self) -> Result<Plan, DeskError> {
        self.plan(&(0..self.bundle.patches.len()).collect())
    }

    /// The plan for some of them, by their places.
    pub fn plan(&self, patches: &Set) -> Result<Plan, DeskError> {
        let some = self.bundle.some(patches);
        let (first, beside) = some.split_first().ok_or_else(|| DeskError::asked("there is no patch to plan a trial for"))?;
        let planned = plan_together(&self.request, &self.catalog, &self.images, (first, beside));
        let mut plan = planned.map_err(|problems| no_plan(&problems))?;
        if some.len() == self.bundle.patches.len() {
            plan.lint.extend(self.bundle.lint.iter().cloned());
        }
        Ok(plan)
    }
}

impl Desk {
    /// Puts the candidates together that these texts name. Folders are added to the store only if the catalog knows what is asked for.
    pub fn bundle_for(&self, patches: &[String], request: &Request) -> Result<Joined, DeskError> {
        let catalog = self.catalog()?;
        let problems = unknown(request, &catalog);
        if !problems.is_empty() {
            return Err(no_plan(&problems));
        }
        let stored: Vec<StoredPatch> = patches.iter().map(|patch| self.patch(patch)).collect::<Result<_, _>>()?;
        let bundle = Bundle::new(stored.iter().map(StoredPatch::planned).collect()).map_err(DeskError::asked)?;
        if let [only] = bundle.patches.as_slice() {
            let id = &only.manifest.id;
            return Err(DeskError::Asked(format!("{id} replaces all the others; test it by itself: patchlab run {id}")));
        }
        let images = self.sealed(&catalog)?;
        Ok(Joined { bundle, stored, catalog, images, request: request.clone() })
    }

    /// The bundle that a run belongs to, with what all of its runs gave.
    pub async fn trials(&self, journal: &Journal, run: &RunState) -> Result<Trials, DeskError> {
        let gone = |run: RunId| DeskError::Fault(format!("run {run} is not in the journal"));
        let whole = match run.bundle {
            Some(bundle) => journal.state(bundle).await?.ok_or_else(|| gone(bundle))?,
            None => run.clone(),
        };
        if !whole.plan.is_together() {
            return Err(DeskError::Asked(format!("run {} tested one patch, and belongs to no bundle", run.run)));
        }
        let mut trials = Trials::new(Bundle::new(whole.plan.patches().cloned().collect()).map_err(DeskError::asked)?);
        self.fill(journal, &whole, &mut trials).await?;
        Ok(trials)
    }

    /// The newest bundle of this very plan, if something of it is left to be tested: the run that began it, and what its runs gave.
    pub async fn unanswered(&self, journal: &Journal, joined: &Joined, whole: &Plan) -> Result<Option<(RunId, Trials)>, DeskError> {
        let filter = RunFilter { plan: Some(whole.digest()), ..RunFilter::ALL };
        for row in journal.page(&filter, None, u32::MAX).await? {
            let Some(state) = journal.state(row.run).await?.filter(|state| state.bundle.is_none()) else { continue };
            let mut trials = Trials::new(joined.bundle.clone());
            self.fill(journal, &state, &mut trials).await?;
            return Ok(matches!(trials.next(), Next::Test(_)).then_some((state.run, trials)));
        }
        Ok(None)
    }

    /// Takes what the runs of a bundle gave, in the order in which they were begun.
    async fn fill(&self, journal: &Journal, whole: &RunState, trials: &mut Trials) -> Result<(), DeskError> {
        let filter = RunFilter { patch: Some(whole.plan.patch.sha256), ..RunFilter::ALL };
        for row in journal.page(&filter, None, u32::MAX).await?.iter().rev() {
            let state = journal.state(row.run).await?;
            if let Some(state) = state.filter(|state| state.run == whole.run || state.bundle == Some(whole.run)) {
                trials.take(&state);
            }
        }
        Ok(())
    }

    /// The unfinished run of this very plan in the bundle that a run began.
    pub async fn unfinished_trial(&self, journal: &Journal, bundle: RunId, plan: &Plan) -> Result<Option<RunState>, DeskError> {
        let filter = RunFilter { plan: Some(plan.digest()), ..RunFilter::OPEN };
        for row in journal.page(&filter, None, u32::MAX).await? {
            let state = journal.state(row.run).await?;
            let of_bundle = |state: &RunState| state.run == bundle || state.bundle == Some(bundle);
            if let Some(state) = state.filter(|state| !state.is_finished() && of_bundle(state)) {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }
}
