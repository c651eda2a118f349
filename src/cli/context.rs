//! Puts the parts together: folders, stores, and the hypervisor that was asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use super::args::Cli;
use super::error::Failure;
use crate::catalog::suite::SuiteKind;
use crate::catalog::{Catalog, load::load};
use crate::guest::agent::AgentGuests;
use crate::hypervisor::libvirt::Libvirt;
use crate::id::{Digest, Name, RunId};
use crate::journal::{Journal, RunState};
use crate::lab::clock::Clock;
use crate::lab::evidence::EvidenceStore;
use crate::lab::history::History;
use crate::lab::images;
use crate::lab::patches::{PatchStore, StoredPatch};
use crate::lab::state::State;
use crate::lab::{Lab, Settings, media, prepared, reaper};
use crate::plan::{PreparedSuite, SealedImage};

/// libvirt's QEMU driver inside this process, with its root below the state folder.
pub const EMBEDDED: &str = "qemu:///embed";

/// The folders of one lab.
pub struct Context {
    pub lab: PathBuf,
    pub state: State,
    pub hypervisor: Target,
}

/// What the machines run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The simulator, with a scenario or without.
    Sim(Option<PathBuf>),
    /// libvirt; `None` for its QEMU driver inside this process.
    Libvirt(Option<String>),
}

impl Target {
    pub fn of(cli: &Cli) -> Self {
        match cli.hypervisor.as_deref() {
            Some("sim") => Self::Sim(None),
            Some(text) => match text.strip_prefix("sim:") {
                Some(scenario) => Self::Sim(Some(scenario.into())),
                None => Self::Libvirt(Some(text.to_owned())),
            },
            None => Self::Libvirt(None),
        }
    }

    /// As the journal keeps it.
    pub fn name(&self) -> String {
        match self {
            Self::Sim(None) => "sim".to_owned(),
            Self::Sim(Some(scenario)) => format!("sim:{}", scenario.display()),
            Self::Libvirt(uri) => uri.clone().unwrap_or_else(|| EMBEDDED.to_owned()),
        }
    }

    pub fn is_sim(&self) -> bool {
        matches!(self, Self::Sim(_))
    }
}

impl Context {
    pub fn open(cli: &Cli) -> Result<Self, Failure> {
        if !cli.lab.is_dir() {
            return Err(Failure::usage(format!("the lab's folder {} is not there; name it with --lab", cli.lab.display())));
        }
        Ok(Self { lab: cli.lab.clone(), state: State::open(&cli.state_folder())?, hypervisor: Target::of(cli) })
    }

    /// The catalog; its warnings go to standard error.
    pub fn catalog(&self) -> Result<Catalog, Failure> {
        let loading = load(&self.lab);
        for diagnostic in &loading.diagnostics {
            super::say(format_args!("{diagnostic}\n"));
        }
        loading.catalog.ok_or_else(|| Failure::usage("the catalog has mistakes; nothing was done"))
    }

    pub async fn journal(&self) -> Result<Journal, Failure> {
        Ok(Journal::open(&self.state.journal()).await?)
    }

    pub fn evidence(&self) -> Result<EvidenceStore, Failure> {
        Ok(EvidenceStore::open(&self.state.folder)?)
    }

    pub fn images(&self) -> Result<images::Store, Failure> {
        images::Store::open(&self.state.folder).map_err(image_failure)
    }

    pub fn patches(&self) -> Result<PatchStore, Failure> {
        Ok(PatchStore::open(&self.state.folder)?)
    }

    /// The candidate that PATCH names: a folder (which is added to the store), an id or a digest.
    pub fn patch(&self, patch: &str) -> Result<StoredPatch, Failure> {
        let store = self.patches()?;
        let folder = PathBuf::from(patch);
        let stored = if folder.join("patch.toml").exists() || (patch.contains('/') && folder.is_dir()) {
            store.add(&folder)?
        } else {
            store.get(patch)?
        };
        for warning in &stored.warnings {
            super::say(format_args!("{warning}\n"));
        }
        store.verify(&stored)?;
        Ok(stored)
    }

    /// What the store has of the catalog's images. The simulator's have no files.
    pub fn sealed(&self, catalog: &Catalog) -> Result<BTreeMap<Name, SealedImage>, Failure> {
        if self.hypervisor.is_sim() {
            let nothing = |suite: Digest| PreparedSuite { suite, packages: Vec::new(), lacking: BTreeMap::new() };
            let prepared: BTreeMap<_, _> = catalog.suites.iter().map(|(name, suite)| (name.clone(), nothing(suite.sha256))).collect();
            let sealed = |name: &Name| SealedImage { sha256: Digest::of(name.as_str()), packages: None, prepared: prepared.clone() };
            return Ok(catalog.images.keys().map(|name| (name.clone(), sealed(name))).collect());
        }
        let store = self.images()?;
        let mut sealed = BTreeMap::new();
        for name in catalog.images.keys() {
            if let Some(record) = store.record(name).map_err(image_failure)? {
                let mut fetched = BTreeMap::new();
                for suite in catalog.suites.iter().filter(|(_, entry)| entry.suite.kind == SuiteKind::Autopkgtest).map(|(suite, _)| suite) {
                    let list = prepared::read(&self.state.folder, suite, name, record.image).map_err(Failure::usage)?;
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

    /// Removes files that nothing needs once no machine is left but kept ones. The caller holds the state lock.
    pub async fn sweep(&self, lab: &Lab) -> Result<(), Failure> {
        lab.evidence.sweep()?;
        if reaper::kept(lab).await?.is_empty() {
            media::clear(&self.media())?;
        }
        Ok(())
    }

    /// The state of every run, the newest first.
    pub async fn runs(&self, journal: &Journal) -> Result<Vec<RunState>, Failure> {
        let mut runs = Vec::new();
        for run in journal.runs().await? {
            runs.extend(journal.state(run).await?);
        }
        Ok(runs)
    }

    /// The run that a text names: an id, the start or end of one, or `last`.
    pub async fn run(&self, journal: &Journal, text: &str) -> Result<RunState, Failure> {
        let runs = journal.runs().await?;
        let named: Vec<RunId> = match text {
            "last" => runs.first().copied().into_iter().collect(),
            _ => runs.iter().copied().filter(|run| matches(*run, text)).collect(),
        };
        match named.as_slice() {
            [run] => journal.state(*run).await?.ok_or_else(|| Failure::usage(format!("run {run} has no plan"))),
            [] if runs.is_empty() => Err(Failure::usage("there is no run yet; start one: patchlab run PATCH")),
            [] => Err(Failure::usage(format!("there is no run {text:?}; list them: patchlab runs"))),
            several => Err(Failure::usage(format!("{text:?} names {} runs; give more of the id", several.len()))),
        }
    }

    /// Everything that working with machines needs. The caller holds the state lock.
    pub async fn lab(&self, settings: Settings) -> Result<(Lab, watch::Sender<bool>), Failure> {
        let journal = self.journal().await?;
        let (cancel, cancelled) = watch::channel(false);
        let (hypervisor, guests, clock): (Arc<dyn crate::hypervisor::Hypervisor>, Arc<dyn crate::guest::Guests>, Clock) =
            match &self.hypervisor {
                Target::Sim(scenario) => {
                    let sim = super::sim::open(scenario.as_deref(), &self.state)?;
                    (sim.0, sim.1, Clock::starting_at(Timestamp::now()))
                }
                Target::Libvirt(uri) => {
                    let uri = uri.as_deref().unwrap_or(EMBEDDED);
                    let libvirt = Arc::new(Libvirt::open(uri, &self.state.folder, &self.state.lab)?);
                    (libvirt.clone(), Arc::new(AgentGuests { hypervisor: libvirt }), Clock::wall())
                }
            };
        let accelerator = hypervisor.host().await?.accelerator;
        let mut history = History::of(&accelerator);
        for run in journal.runs().await?.into_iter().take(50) {
            if let Some(state) = journal.state(run).await? {
                history.learn(&state);
            }
        }
        let lab = Lab {
            emulated: accelerator == "tcg",
            hypervisor,
            guests,
            journal,
            clock,
            evidence: self.evidence()?,
            history: Arc::new(history),
            id: self.state.lab.clone(),
            settings,
            activity: broadcast::channel(1024).0,
            cancelled,
        };
        Ok((lab, cancel))
    }
}

fn matches(run: RunId, text: &str) -> bool {
    let id = run.to_string();
    text.len() >= 4 && (id.starts_with(text) || id.ends_with(text))
}

pub fn image_failure(error: images::ImageError) -> Failure {
    let told = format!("{error}\n  {}", error.hint());
    if error.is_fault() { Failure::lab(told) } else { Failure::usage(told) }
}
