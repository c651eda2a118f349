//! The desk: everything between a request and the machines, for whoever asks. Command line and server use the same.
//!
//! It reads the catalog, finds the candidate, makes the plan, finds the run that is to be taken up or begins one, gets the files
//! behind the plan's digests, opens the machines, and cleans up. It prints nothing: what a person should know meanwhile goes to
//! [`Desk::tell`].

mod bundle;
mod error;
pub mod queue;
mod room;
mod sites;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

pub use self::bundle::Joined;
pub use self::error::DeskError;
pub use self::work::new_run;
use super::baselines::Baselines;
use super::clock::Clock;
use super::evidence::EvidenceStore;
use super::gate::{Gate, GateError, Question};
use super::history::History;
use super::images;
use super::patches::{PatchStore, StoredPatch};
use super::scheduler::host::Hosts;
use super::sites::Site;
use super::state::State;
use super::{Lab, Settings, prepared};
use crate::catalog::suite::SuiteKind;
use crate::catalog::{Catalog, load::load, settings};
use crate::guest::Guests;
use crate::hypervisor::Hypervisor;
use crate::id::{Digest, Name, RunId};
use crate::journal::projection::RunFilter;
use crate::journal::{Controller, Journal, Placed, RunState};
use crate::plan::{NoPlan, Plan, PlannedPatch, PreparedSuite, Request, SealedImage, plan, unknown};
use crate::verdict::baselines::Expected;

/// Runs from which the usual times and the baselines are learnt.
const REMEMBERED: u32 = 50;

/// What opens the machines: who puts the parts together knows the adapters, the desk does not.
#[async_trait]
pub trait Workshop: Send + Sync {
    /// What machines run on at this uri, or where there is none on what was asked for, as the journal keeps it.
    fn name(&self, uri: Option<&str>) -> String;

    /// # Errors
    /// When a host at this uri can't be among those that machines run on here.
    fn admit(&self, uri: &str) -> Result<(), DeskError>;

    /// Whether machines are only pretended, and have no files.
    fn is_simulated(&self) -> bool;

    /// # Errors
    /// When the host's hypervisor can't be opened.
    async fn open(&self, state: &State, host: &settings::Host) -> Result<Machines, DeskError>;

    /// Does work with machines where their time goes by, which need not be the caller's.
    async fn perform(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        work.await;
    }
}

/// An open hypervisor, the way into its guests, and the time that goes by there.
#[derive(Clone)]
pub struct Machines {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub guests: Arc<dyn Guests>,
    pub clock: Clock,
}

/// The folders of one lab, and what its machines run on.
pub struct Desk {
    /// The lab's folder: builds/, images/, test-suites/.
    pub folder: PathBuf,
    pub state: State,
    pub workshop: Arc<dyn Workshop>,
    /// Says what people should know meanwhile.
    tell: fn(&str),
    /// What was wrong with the catalog when it was read last: a server reads it again and again.
    told: Mutex<Vec<String>>,
    shared: sites::Shared,
}

/// A plan and what it was made from.
pub struct Planned {
    pub plan: Plan,
    pub patch: StoredPatch,
    pub catalog: Catalog,
}

fn no_plan(problems: &[NoPlan]) -> DeskError {
    DeskError::asked(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Whether a PATCH is a folder; else it is the id or digest of a candidate in the store.
pub fn is_folder(patch: &str) -> bool {
    let folder = Path::new(patch);
    folder.join("patch.toml").exists() || (patch.contains('/') && folder.is_dir())
}

impl Desk {
    pub fn new(folder: PathBuf, state: State, workshop: Arc<dyn Workshop>, tell: fn(&str)) -> Self {
        Self { folder, state, workshop, tell, told: Mutex::default(), shared: sites::Shared::default() }
    }

    /// The catalog; what is wrong with it is told, once for as long as it stays so.
    pub fn catalog(&self) -> Result<Catalog, DeskError> {
        let loading = load(&self.folder);
        let wrong: Vec<_> = loading.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.iter().filter(|one| !told.contains(one)).for_each(|one| (self.tell)(one));
        *told = wrong;
        loading.catalog.ok_or_else(|| DeskError::asked("the catalog has mistakes; nothing was done"))
    }

    /// The catalog as it is now, for whoever has heard of its warnings.
    pub fn catalog_again(&self) -> Result<Catalog, DeskError> {
        let loading = load(&self.folder);
        let errors = || loading.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let told = || errors().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        loading.catalog.ok_or_else(|| DeskError::Asked(format!("the catalog has mistakes; nothing was done\n{}", told())))
    }

    pub async fn journal(&self) -> Result<Journal, DeskError> {
        Ok(Journal::open(&self.state.journal()).await?)
    }

    /// The gate, which tells the lab's webhooks of final decisions.
    pub fn gate(&self, journal: Journal) -> Result<Gate, DeskError> {
        Ok(Gate::telling(journal, settings::read(&self.folder)?.webhooks))
    }

    /// Holds a candidate to what a customer's policy, the builds and the images ask of it: the catalog, and what the store has of its images.
    pub async fn require(
        &self,
        gate: &Gate,
        patch: &PlannedPatch,
        customer: &Name,
        (catalog, images): (&Catalog, &BTreeMap<Name, SealedImage>),
        by: &str,
    ) -> Result<(), GateError> {
        let simulated = self.workshop.is_simulated();
        gate.require(&Question { patch, customer, catalog, images, simulated, by }, Timestamp::now()).await
    }

    pub fn evidence(&self) -> Result<EvidenceStore, DeskError> {
        Ok(EvidenceStore::open(&self.state.folder)?)
    }

    pub fn images(&self) -> Result<images::Store, DeskError> {
        Ok(images::Store::open(&self.state.folder)?)
    }

    pub fn patches(&self) -> Result<PatchStore, DeskError> {
        Ok(PatchStore::open(&self.state.folder)?)
    }

    /// The candidate that PATCH names: a folder (which is added to the store), an id or a digest.
    pub fn patch(&self, patch: &str) -> Result<StoredPatch, DeskError> {
        if !is_folder(patch) {
            return self.stored(patch);
        }
        let store = self.patches()?;
        let added = store.add(Path::new(patch))?;
        for warning in &added.warnings {
            (self.tell)(&format!("{warning}\n"));
        }
        store.verify(&added)?;
        Ok(added)
    }

    /// The candidate in the store with this id or digest, its bytes checked.
    pub fn stored(&self, patch: &str) -> Result<StoredPatch, DeskError> {
        let store = self.patches()?;
        let stored = store.get(patch)?;
        store.verify(&stored)?;
        Ok(stored)
    }

    /// The plan for the candidate that PATCH names. A folder is added to the store only if the catalog knows what is asked for.
    pub fn plan_for(&self, patch: &str, request: &Request) -> Result<Planned, DeskError> {
        let catalog = self.catalog()?;
        match unknown(request, &catalog).as_slice() {
            [] => self.plan_by(catalog, self.patch(patch)?, request),
            problems => Err(no_plan(problems)),
        }
    }

    /// The plan for a candidate.
    pub fn plan(&self, patch: StoredPatch, request: &Request) -> Result<Planned, DeskError> {
        self.plan_by(self.catalog()?, patch, request)
    }

    /// The plan for a candidate by this catalog.
    pub fn plan_by(&self, catalog: Catalog, patch: StoredPatch, request: &Request) -> Result<Planned, DeskError> {
        let plan = plan(request, &catalog, &self.sealed(&catalog)?, &patch.planned()).map_err(|problems| no_plan(&problems))?;
        self.bear(&plan)?;
        Ok(Planned { plan, patch, catalog })
    }

    /// What the store has of the catalog's images. Simulated ones have no files.
    pub fn sealed(&self, catalog: &Catalog) -> Result<BTreeMap<Name, SealedImage>, DeskError> {
        if self.workshop.is_simulated() {
            let nothing = |suite: Digest| PreparedSuite { suite, packages: Vec::new(), lacking: BTreeMap::new() };
            let prepared: BTreeMap<_, _> = catalog.suites.iter().map(|(name, suite)| (name.clone(), nothing(suite.sha256))).collect();
            let sealed = |name: &Name| SealedImage { sha256: Digest::of(name.as_str()), packages: None, prepared: prepared.clone() };
            return Ok(catalog.images.keys().map(|name| (name.clone(), sealed(name))).collect());
        }
        let store = self.images()?;
        let mut sealed = BTreeMap::new();
        for name in catalog.images.keys() {
            if let Some(record) = store.record(name)? {
                let mut fetched = BTreeMap::new();
                for suite in catalog.suites.iter().filter(|(_, entry)| entry.suite.kind == SuiteKind::Autopkgtest).map(|(suite, _)| suite) {
                    let list = prepared::read(&self.state.folder, suite, name, record.image).map_err(DeskError::asked)?;
                    fetched.extend(list.map(|list| (suite.clone(), list)));
                }
                let packages = record.packages();
                sealed.insert(name.clone(), SealedImage { sha256: record.image, packages, prepared: fetched });
            }
        }
        Ok(sealed)
    }

    /// Where the runs' payload disks are.
    pub fn media(&self) -> PathBuf {
        self.state.folder.join("media")
    }

    /// The state of every run, the newest first.
    pub async fn runs(&self, journal: &Journal) -> Result<Vec<RunState>, DeskError> {
        let mut runs = Vec::new();
        for row in journal.page(&RunFilter::ALL, None, u32::MAX).await? {
            runs.extend(journal.state(row.run).await?);
        }
        Ok(runs)
    }

    /// The run that a text names: an id, the start or end of one, or `last`.
    pub async fn run(&self, journal: &Journal, text: &str) -> Result<RunState, DeskError> {
        let rows = journal.page(&RunFilter::ALL, None, if text == "last" { 1 } else { u32::MAX }).await?;
        let named: Vec<RunId> = rows.iter().map(|row| row.run).filter(|run| text == "last" || matches(*run, text)).collect();
        match named.as_slice() {
            [run] => journal.state(*run).await?.ok_or_else(|| DeskError::Asked(format!("run {run} has no plan"))),
            [] if rows.is_empty() => Err(DeskError::asked("there is no run yet; start one: patchlab run PATCH")),
            [] => Err(DeskError::Asked(format!("there is no run {text:?}; list them: patchlab runs"))),
            several => Err(DeskError::Asked(format!("{text:?} names {} runs; give more of the id", several.len()))),
        }
    }

    /// What a plan will take, from every run and with so many machines at once, and where its baselines will come from if it runs on the host
    /// of the newest run.
    pub async fn foresee(&self, journal: &Journal, plan: &Plan, at_once: usize) -> Result<(Duration, Vec<Expected>), DeskError> {
        let runs = self.runs(journal).await?;
        let mut history = History::default();
        runs.iter().for_each(|run| history.learn(run));
        let uris: Vec<_> = self.settled_hosts()?.into_iter().map(|host| host.uri).collect();
        let like =
            |known: &&Controller| uris.iter().any(|uri| sites::controller(&*self.workshop, uri.as_deref(), known.host.clone()) == **known);
        let newest = runs.iter().find_map(|run| run.controllers.last().filter(like));
        let expected = newest.map_or_else(Vec::new, |controller| {
            let baselines = Baselines::new(controller);
            runs.iter().take(REMEMBERED as usize).for_each(|run| baselines.learn(run));
            let cells = plan.cells.iter().filter(|cell| !cell.baseline_valid_for.0.is_zero());
            cells.map(|cell| baselines.expected(cell, Timestamp::now())).collect()
        });
        Ok((history.plan(&plan.cells, &expected, at_once), expected))
    }

    /// Everything that working with machines needs, with a journal of its own. The caller holds the state lock.
    pub async fn lab(&self, settings: Settings, hosts: Hosts) -> Result<(Lab, watch::Sender<bool>), DeskError> {
        let (cancel, cancelled) = watch::channel(false);
        let lab = self.lab_with(self.journal().await?, settings, hosts, broadcast::channel(1024).0, cancelled).await?;
        Ok((lab, cancel))
    }

    /// The same with an open journal, and with somebody who is told what is being done. The caller holds the state lock.
    pub async fn lab_with(
        &self,
        journal: Journal,
        settings: Settings,
        hosts: Hosts,
        activity: broadcast::Sender<super::Activity>,
        cancelled: watch::Receiver<bool>,
    ) -> Result<Lab, DeskError> {
        let sites = self.sites(journal.clone())?;
        let (host, site) = sites.any().await?;
        let Site { hypervisor, guests, clock, controller, history, baselines, templates, emulated, .. } = site;
        let placed = (sites.names.len() > 1).then(|| Arc::new(Placed { host, controller }));
        Ok(Lab {
            emulated,
            hypervisor,
            guests,
            journal,
            clock,
            evidence: self.evidence()?,
            history,
            baselines,
            templates,
            id: self.state.lab.clone(),
            settings,
            hosts,
            sites: Arc::new(sites),
            placed,
            lanes: Arc::default(),
            activity,
            cancelled,
        })
    }
}

fn matches(run: RunId, text: &str) -> bool {
    let id = run.to_string();
    text.len() >= 4 && (id.starts_with(text) || id.ends_with(text))
}
