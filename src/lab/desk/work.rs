//! From a plan to the end of its run.

use jiff::Timestamp;
use tokio::sync::watch;

use super::{Desk, DeskError, sites};
use crate::catalog::Catalog;
use crate::id::RunId;
use crate::journal::projection::RunFilter;
use crate::journal::{Event, Journal, JournalError, RunState};
use crate::lab::gate::Gate;
use crate::lab::media::{self, Sources};
use crate::lab::patches::StoredPatch;
use crate::lab::{Lab, RunFiles, prepared, reaper, scheduler};
use crate::plan::{Plan, PlannedPatch};
use crate::verdict::judge::judge;
use crate::verdict::{Fault, Verdict};

impl Desk {
    /// The files behind the plan's digests: images verified, suites and payload on one disk.
    pub async fn files(&self, plan: &Plan, patches: &[StoredPatch], catalog: &Catalog) -> Result<RunFiles, DeskError> {
        let mut files = RunFiles { disks: self.disks(plan)?, ..RunFiles::default() };
        if self.workshop.is_simulated() {
            for machine in plan.machines() {
                files.images.insert(machine.image.sha256, "/nonexistent".into());
            }
            return Ok(files);
        }
        let store = self.images()?;
        for machine in plan.machines() {
            if !files.images.contains_key(&machine.image.sha256) {
                let sealed = store.sealed(machine.image.sha256).await?;
                files.images.insert(sealed.image, sealed.path);
            }
        }
        let (mut suites, mut packages) = (Vec::new(), Vec::new());
        for suite in plan.cells.iter().flat_map(|cell| &cell.suites) {
            if !suites.iter().any(|(name, _, _)| *name == suite.name) {
                let entry = catalog.suites.get(&suite.name).ok_or_else(|| DeskError::suite_gone(&suite.name, &self.folder))?;
                suites.push((suite.name.clone(), entry.folder.clone(), suite.sha256));
            }
            for package in &suite.packages {
                let path = prepared::package(&self.state.folder, &package.sha256);
                if !path.exists() {
                    let mend = format!("fetch it again: scripts/fetch-autopkgtest --dependencies {} BUILD", suite.name);
                    let lacking = format!("{} of suite {} is not in {}; {mend}", package.file, suite.name, path.display());
                    return Err(DeskError::Asked(lacking));
                }
                let entry = (suite.name.clone(), package.file.clone(), path, package.sha256);
                if !packages.contains(&entry) {
                    packages.push(entry);
                }
            }
        }
        let folder =
            |patch: &PlannedPatch| patches.iter().find(|stored| stored.sha256 == patch.sha256).map(|stored| stored.folder.as_path());
        let patches = plan.patches().map(folder).collect::<Option<Vec<_>>>();
        let patches = patches.ok_or_else(|| DeskError::Fault("not every patch of the plan was brought for its run".to_owned()))?;
        let sources = Sources { patches, suites, packages };
        files.media = Some(media::make(&self.media(), plan, &sources).await?);
        Ok(files)
    }

    /// Ends what earlier controllers left: their stages as faults, their machines removed. The caller holds the state lock.
    pub async fn clean_up(&self, lab: &Lab) -> Result<(), DeskError> {
        for row in lab.journal.page(&RunFilter::OPEN, None, u32::MAX).await? {
            if let Some(state) = lab.journal.state(row.run).await? {
                reaper::take_over(lab, &state).await?;
            }
        }
        for one in reaper::reap(lab).await? {
            (self.tell)(&format!("removed {} that an earlier run had left", one.machine));
        }
        self.sweep(lab).await
    }

    /// Removes files that nothing needs once no machine is left but kept ones. The caller holds the state lock, and no run is worked on.
    pub async fn sweep(&self, lab: &Lab) -> Result<(), DeskError> {
        lab.evidence.sweep()?;
        for templates in lab.sites.known().await.into_values().filter_map(|site| site.templates) {
            templates.sweep()?;
        }
        if reaper::kept(lab).await?.is_empty() {
            media::clear(&self.media())?;
        }
        Ok(())
    }

    /// The same after a run, whose verdict does not depend on it.
    pub async fn tidy(&self, lab: &Lab) {
        if let Err(failure) = self.sweep(lab).await {
            (self.tell)(&failure.to_string());
        }
    }

    /// Lets the machines go that a run keeps, and returns them.
    pub async fn release(&self, lab: &Lab, run: RunId, by: &str) -> Result<Vec<String>, DeskError> {
        let kept = lab.journal.state(run).await?.map(|state| state.kept).unwrap_or_default();
        for machine in &kept {
            self.lab_of(lab, run, machine).await?.hypervisor.destroy(machine).await?;
            let event = Event::MachineReleased { machine: machine.clone(), by: Some(by.to_owned()) };
            lab.journal.append(run, lab.clock.now(), event).await?;
        }
        Ok(kept)
    }

    /// The lab on the host that a run's machine is on.
    pub async fn lab_of(&self, lab: &Lab, run: RunId, machine: &str) -> Result<Lab, DeskError> {
        let state = lab.journal.state(run).await?;
        match state.as_ref().and_then(|state| state.host_of(machine)) {
            None => Ok(lab.clone()),
            Some(host) => lab.on(host).await.map_err(|why| DeskError::Fault(format!("{machine} is on host {host}: {why}"))),
        }
    }

    /// The newest ended run of this very plan with a verdict that speaks for or against the patch, if no newer one leaves that in doubt.
    pub async fn earlier(&self, journal: &Journal, plan: &Plan) -> Result<Option<RunState>, DeskError> {
        // Another patchlab may check more, and another hypervisor give other machines.
        let names: Vec<_> = self.settled_hosts()?.iter().map(|host| self.workshop.name(host.uri.as_deref())).collect();
        let alike = |state: &RunState| state.on().all(|one| one.patchlab == env!("CARGO_PKG_VERSION") && names.contains(&one.hypervisor));
        let filter = RunFilter { plan: Some(plan.digest()), ended: Some(true), ..RunFilter::ALL };
        for row in journal.page(&filter, None, u32::MAX).await? {
            let Some(state) = journal.state(row.run).await?.filter(|state| state.is_finished() && alike(state)) else { continue };
            let judgement = judge(&state);
            if judgement.verdict != Verdict::Inconclusive {
                return Ok(Some(state));
            }
            // Bad news that was not the same on every clone is not answered with older good news.
            if judgement.cells.iter().flat_map(|cell| &cell.faults).any(Fault::is_bad_news) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The unfinished run of this very plan.
    pub async fn unfinished(&self, journal: &Journal, plan: &Plan) -> Result<Option<RunState>, DeskError> {
        let filter = RunFilter { plan: Some(plan.digest()), ..RunFilter::OPEN };
        match journal.page(&filter, None, 1).await?.first() {
            Some(row) => Ok(journal.state(row.run).await?.filter(|state| !state.is_finished())),
            None => Ok(None),
        }
    }

    /// Begins a run; it waits for a controller. Where it tests some of a bundle, the run that tested the whole is named.
    pub async fn begin(
        &self,
        journal: &Journal,
        (run, bundle): (RunId, Option<RunId>),
        plan: Plan,
        by: String,
        now: Timestamp,
    ) -> Result<(), DeskError> {
        for patch in plan.patches() {
            Gate::new(journal.clone()).announce(patch, false, &by, now).await?;
        }
        let plan_digest = plan.digest();
        journal.append(run, now, Event::RunPlanned { plan: Box::new(plan), plan_digest, by, bundle }).await?;
        Ok(())
    }

    /// Takes a run as its controller.
    pub async fn take(&self, lab: &Lab, run: RunId) -> Result<RunState, DeskError> {
        let controller = match &lab.placed {
            Some(placed) => placed.controller.clone(),
            None => {
                let uri = self.settled_hosts()?.into_iter().next().and_then(|host| host.uri);
                sites::controller(&*self.workshop, uri.as_deref(), lab.hypervisor.host().await?)
            }
        };
        let host = &controller.host;
        let at = lab.placed.as_ref().map_or_else(String::new, |placed| format!(" at {}, and elsewhere as found there", placed.host));
        (self.tell)(&format!("machines run on {}{at}: {}", host.accelerator, host.accelerator_reason));
        lab.journal.append(run, Timestamp::max(lab.clock.now(), Timestamp::UNIX_EPOCH), Event::RunTaken { controller }).await?;
        let gone = || DeskError::Fault(format!("run {run} is not in the journal"));
        let mut state = lab.journal.state(run).await?.ok_or_else(gone)?;
        let past = lab.history.past(&state.plan);
        // A controller that takes a run up goes by what the first one drew.
        if state.past.is_empty() && !past.is_empty() {
            let drawn = lab.journal.append(run, lab.clock.now(), Event::HistoryDrawn { past }).await?;
            state.apply(&drawn).map_err(JournalError::from)?;
        }
        Ok(state)
    }

    /// Works on a run that was taken, and ends it; removes machines that its cells left behind. A run that is given up because the controller is
    /// `stopping` is not ended: the next controller takes it up.
    pub async fn work(
        &self,
        lab: &Lab,
        state: &RunState,
        files: RunFiles,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Option<Verdict>, DeskError> {
        let worked = self.cells(lab, state, files, stopping).await;
        let left = reaper::reap_run(lab, state.run).await;
        let verdict = worked?;
        for one in &left? {
            (self.tell)(&format!("removed {} that its cell had left", one.machine));
        }
        Ok(verdict)
    }

    async fn cells(
        &self,
        lab: &Lab,
        state: &RunState,
        files: RunFiles,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Option<Verdict>, JournalError> {
        let verdict = scheduler::cells(lab, state, files).await?;
        if *stopping.borrow() {
            let now = lab.journal.state(state.run).await?;
            if now.is_some_and(|now| now.called_off.is_none() && !now.cells.values().all(|cell| cell.ended)) {
                return Ok(None);
            }
        }
        scheduler::conclude(&lab.journal, state.run, lab.clock.now(), verdict).await.map(Some)
    }
}

/// A new run's id.
pub fn new_run(now: Timestamp) -> RunId {
    let random = uuid::Uuid::now_v7().into_bytes();
    let mut ten = [0; 10];
    ten.copy_from_slice(&random[6..]);
    RunId::from_parts(now.as_millisecond().unsigned_abs(), ten)
}
