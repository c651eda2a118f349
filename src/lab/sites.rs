//! The hosts of a lab: what the machines of each are made with, and what earlier runs have taught about it. Each is opened when it is first
//! needed, so that one that is away holds nobody up.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::Lab;
use super::baselines::Baselines;
use super::clock::Clock;
use super::desk::DeskError;
use super::history::History;
use super::scheduler::room::Room;
use super::templates::Templates;
use crate::guest::Guests;
use crate::hypervisor::Hypervisor;
use crate::id::Name;
use crate::journal::{Controller, Placed};

/// A host that was opened.
#[derive(Clone)]
pub struct Site {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub guests: Arc<dyn Guests>,
    pub clock: Clock,
    /// What it was when it was opened, as the journal keeps it.
    pub controller: Controller,
    pub history: Arc<History>,
    pub baselines: Baselines,
    pub templates: Option<Arc<Templates>>,
    pub emulated: bool,
    /// What it has for machines, where that is not measured here.
    pub room: Option<Room>,
}

/// What opens hosts.
#[async_trait]
pub trait Opener: Send + Sync {
    /// # Errors
    /// When it can't be reached.
    async fn open(&self, host: &Name) -> Result<Site, DeskError>;
}

/// The hosts of a lab.
pub struct Sites {
    /// In the order of the configuration.
    pub names: Vec<Name>,
    opener: Box<dyn Opener>,
    known: Mutex<BTreeMap<Name, Site>>,
}

impl Sites {
    pub fn new(names: Vec<Name>, opener: Box<dyn Opener>) -> Self {
        Self { names, opener, known: Mutex::default() }
    }

    /// Those that were opened.
    pub async fn known(&self) -> BTreeMap<Name, Site> {
        self.known.lock().await.clone()
    }

    /// A host, opened where it has not been yet.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn get(&self, host: &Name) -> Result<Site, DeskError> {
        if let Some(site) = self.known.lock().await.get(host) {
            return Ok(site.clone());
        }
        // One that takes its time to answer holds up nobody who asks for another.
        let site = self.opener.open(host).await?;
        Ok(self.known.lock().await.entry(host.clone()).or_insert(site).clone())
    }

    /// The first host that can be reached.
    ///
    /// # Errors
    /// Why none can be.
    pub async fn any(&self) -> Result<(Name, Site), DeskError> {
        let mut failed = Vec::new();
        for name in &self.names {
            match self.get(name).await {
                Ok(site) => return Ok((name.clone(), site)),
                Err(why) if self.names.len() == 1 => return Err(why),
                // What is wrong with the settings is not a host's fault.
                Err(why) if !why.is_fault() => return Err(why),
                Err(why) => failed.push(format!("{name}: {why}")),
            }
        }
        Err(DeskError::Fault(failed.join("\n")))
    }
}

impl Lab {
    /// The lab on one of its hosts.
    ///
    /// # Errors
    /// In words, when the host can't be reached.
    pub async fn on(&self, host: &Name) -> Result<Self, String> {
        if self.sites.names.len() < 2 {
            return Ok(self.clone());
        }
        let Site { hypervisor, guests, controller, history, baselines, templates, emulated, .. } =
            self.sites.get(host).await.map_err(|error| error.to_string())?;
        let placed = Some(Arc::new(Placed { host: host.clone(), controller }));
        Ok(Self { hypervisor, guests, history, baselines, templates, emulated, placed, ..self.clone() })
    }

    /// The lab on each of its hosts that can be reached, and the others with why not.
    pub async fn everywhere(&self) -> (Vec<Self>, Vec<(Name, String)>) {
        let (mut labs, mut away) = (Vec::new(), Vec::new());
        if self.sites.names.len() < 2 {
            labs.push(self.clone());
            return (labs, away);
        }
        for name in &self.sites.names {
            match self.on(name).await {
                Ok(lab) => labs.push(lab),
                Err(why) => away.push((name.clone(), why)),
            }
        }
        (labs, away)
    }
}
