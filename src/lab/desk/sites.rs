//! The hosts that the lab's settings name, and how each is opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;

use super::room::{Said, room_with};
use super::{Desk, DeskError, Machines, REMEMBERED, Workshop};
use crate::catalog::settings::{self, Host};
use crate::id::Name;
use crate::journal::projection::RunFilter;
use crate::journal::{Controller, HostReport, Journal};
use crate::lab::baselines::Baselines;
use crate::lab::history::History;
use crate::lab::pause;
use crate::lab::scheduler::host::Hosts;
use crate::lab::sites::{Opener, Site, Sites};
use crate::lab::state::State;
use crate::lab::templates::{Limits, Templates};

/// Frozen machines by host, the same for all runs that are worked on at once.
pub(super) type Shared = Arc<Mutex<BTreeMap<Name, Weak<Templates>>>>;

/// Opens the hosts of a lab.
struct Configured {
    workshop: Arc<dyn Workshop>,
    state: State,
    hosts: Vec<Host>,
    journal: Journal,
    limits: Limits,
    shared: Shared,
}

/// Where a host's machines and templates are: in the state folder, or in a folder of its own below.
fn state_of(state: &State, host: &Host) -> State {
    let folder = if host.is_own() { state.folder.clone() } else { state.folder.join("hosts").join(host.name.as_str()) };
    State { folder, lab: state.lab.clone() }
}

#[async_trait]
impl Opener for Configured {
    async fn open(&self, name: &Name) -> Result<Site, DeskError> {
        let gone = || DeskError::Asked(format!("there is no [[host]] called {name} in patchlab.toml"));
        let host = self.hosts.iter().find(|host| host.name == *name).ok_or_else(gone)?;
        let state = state_of(&self.state, host);
        std::fs::create_dir_all(&state.folder)?;
        let Machines { hypervisor, guests, clock } = self.workshop.open(&state, host).await?;
        let controller = controller(&*self.workshop, host.uri.as_deref(), hypervisor.host().await?);
        let (baselines, mut history) = (Baselines::new(&controller), History::of(controller.host.clone()));
        for row in self.journal.page(&RunFilter::default(), None, REMEMBERED).await? {
            if let Some(state) = self.journal.state(row.run).await? {
                history.learn(&state);
                baselines.learn(&state);
            }
        }
        let templates = if hypervisor.freezes() { self.templates(name, &state)? } else { None };
        let (emulated, history) = (controller.host.accelerator == "tcg", Arc::new(history));
        let simulated = self.workshop.is_simulated();
        let said = Said { report: &controller.host, disk: hypervisor.free().await? };
        let room = (!host.is_own()).then(|| room_with(simulated, &self.state.folder, host, Some(said), None, 0));
        Ok(Site { hypervisor, guests, clock, controller, history, baselines, templates, emulated, room })
    }
}

impl Configured {
    fn templates(&self, host: &Name, state: &State) -> Result<Option<Arc<Templates>>, DeskError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(templates) = shared.get(host).and_then(Weak::upgrade) {
            return Ok(Some(templates));
        }
        let templates = (self.limits.count > 0).then(|| Templates::open(&state.folder, self.limits)).transpose()?.map(Arc::new);
        shared.insert(host.clone(), templates.as_ref().map_or_else(Weak::new, Arc::downgrade));
        Ok(templates)
    }
}

/// This process and a host, as the journal knows them.
pub(super) fn controller(workshop: &dyn Workshop, uri: Option<&str>, host: HostReport) -> Controller {
    Controller { patchlab: env!("CARGO_PKG_VERSION").to_owned(), hypervisor: workshop.name(uri), host }
}

impl Desk {
    /// The lab's hosts, in the order of its settings. There is always one.
    pub fn settled_hosts(&self) -> Result<Vec<Host>, DeskError> {
        settings::read(&self.folder)?.hosts().map_err(|bad| DeskError::Fault(bad.to_string()))
    }

    /// That there is such a host, where one is named.
    ///
    /// # Errors
    /// [`DeskError::Asked`] where there is none; or the settings can't be read.
    pub fn has_host(&self, host: Option<&Name>) -> Result<(), DeskError> {
        let Some(host) = host else { return Ok(()) };
        let hosts = self.settled_hosts()?;
        if hosts.iter().any(|one| one.name == *host) {
            return Ok(());
        }
        let names = hosts.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(DeskError::Asked(format!("host: there is no host {host}; there are {names}")))
    }

    /// The hosts, none of them opened yet.
    pub fn sites(&self, journal: Journal) -> Result<Sites, DeskError> {
        let hosts = self.settled_hosts()?;
        let mut places = BTreeMap::new();
        for Host { name, uri, .. } in &hosts {
            uri.iter().try_for_each(|uri| self.workshop.admit(uri))?;
            if let Some(other) = places.insert(self.workshop.name(uri.as_deref()), name) {
                let told =
                    format!("the hosts {other} and {name} are the same: what --hypervisor names is one of [[host]] in patchlab.toml");
                return Err(DeskError::Asked(format!("{told}; leave out --hypervisor, or that host's uri")));
            }
        }
        let names = hosts.iter().map(|host| host.name.clone()).collect();
        let limits = Limits::from(&settings::read(&self.folder)?.templates);
        let (workshop, state, shared) = (self.workshop.clone(), self.state.clone(), self.shared.clone());
        Ok(Sites::new(names, Box::new(Configured { workshop, state, hosts, journal, limits, shared })))
    }

    /// Where there may be templates: the state folder, and that of each host that has its own.
    pub fn template_folders(&self) -> Result<Vec<std::path::PathBuf>, DeskError> {
        let mut folders = vec![self.state.folder.clone()];
        let others = self.settled_hosts()?.into_iter().filter(|host| !host.is_own());
        folders.extend(others.map(|host| state_of(&self.state, &host).folder));
        Ok(folders)
    }

    /// The hosts that cells are to find room on, with what is known of it before any was opened, and who has paused which.
    pub fn hosts(&self, workers: Option<u16>) -> Result<Hosts, DeskError> {
        let all = self.settled_hosts()?;
        let rooms = all.iter().map(|host| (host.name.clone(), self.room_of(host, None, workers))).collect();
        let hosts = Hosts::new(rooms, pause::read(&self.state.folder, None)?).bounded(workers);
        let hosts = hosts.labelled(all.iter().map(|host| (host.name.clone(), host.labels.clone())));
        for Host { name, .. } in all {
            if let Some(pause) = pause::read(&self.state.folder, Some(&name))? {
                hosts.pause(Some(&name), Some(pause), crate::lab::clock::Clock::wall());
            }
        }
        Ok(hosts)
    }

    /// Measures what the hosts have for machines while none is at work there; one that was not opened stays as it is until it proves itself.
    pub async fn measure(&self, hosts: &Hosts, sites: &Sites, workers: Option<u16>) -> Result<(), DeskError> {
        let known = sites.known().await;
        for host in self.settled_hosts()? {
            let said = match known.get(&host.name) {
                // One that does not answer has no room to tell of.
                Some(site) => site.hypervisor.free().await.ok().map(|disk| Said { report: &site.controller.host, disk }),
                None => None,
            };
            if host.is_own() || said.is_some() {
                hosts.resize(&host.name, self.room_of(&host, said, workers));
            }
        }
        Ok(())
    }
}
