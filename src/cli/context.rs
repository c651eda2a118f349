//! Puts the parts together: folders, stores, and the hypervisor that was asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::args::Cli;
use super::error::Failure;
use crate::catalog::settings::{self, EMBEDDED, Host};
use crate::guest::agent::AgentGuests;
use crate::hypervisor::libvirt::Libvirt;
use crate::lab::clock::Clock;
pub use crate::lab::desk::Desk as Context;
use crate::lab::desk::{DeskError, Machines, Workshop};
use crate::lab::images::ImageError;
use crate::lab::state::State;

/// What the machines run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The simulator, with a scenario or without.
    Sim(Option<PathBuf>),
    /// libvirt; `None` for its QEMU driver inside this process.
    Libvirt(Option<String>),
}

impl Target {
    pub fn of(uri: Option<&str>) -> Self {
        match uri {
            Some("sim") => Self::Sim(None),
            Some(text) => match text.strip_prefix("sim:") {
                Some(scenario) => Self::Sim(Some(scenario.into())),
                None => Self::Libvirt(Some(text.to_owned())),
            },
            None => Self::Libvirt(None),
        }
    }

    /// As the journal keeps it.
    fn name(&self) -> String {
        match self {
            Self::Sim(None) => "sim".to_owned(),
            Self::Sim(Some(scenario)) => format!("sim:{}", scenario.display()),
            Self::Libvirt(uri) => uri.clone().unwrap_or_else(|| EMBEDDED.to_owned()),
        }
    }

    pub fn is_sim(&self) -> bool {
        matches!(self, Self::Sim(_))
    }

    /// Whether the machines' time jumps from one thing that is due to the next.
    pub fn is_virtual(&self) -> bool {
        match self {
            Self::Sim(scenario) => !super::sim::is_in_real_time(scenario.as_deref()),
            Self::Libvirt(_) => false,
        }
    }
}

/// Opens what was asked for. A process opens libvirt once; the simulator's world and its time begin anew each time.
struct Parts {
    target: Target,
    libvirt: Mutex<BTreeMap<String, Machines>>,
}

/// How long it may take to reach a libvirt that is not in this process.
const REACH: Duration = Duration::from_secs(30);

impl Parts {
    /// What is at this uri, or what was asked for.
    fn at(&self, uri: Option<&str>) -> Target {
        uri.map_or_else(|| self.target.clone(), |uri| Target::of(Some(uri)))
    }
}

/// Opens a libvirt that is not in this process, on a thread that may block.
async fn reach(uri: &str, pool: Option<&str>, state: &State) -> Result<Libvirt, DeskError> {
    let (at, pool, state) = (uri.to_owned(), pool.map(str::to_owned), state.clone());
    let opened = tokio::task::spawn_blocking(move || Libvirt::open(&at, pool.as_deref(), &state.folder, &state.lab));
    match tokio::time::timeout(REACH, opened).await {
        Ok(opened) => Ok(opened.map_err(|ended| DeskError::Fault(format!("open {uri}: {ended}")))??),
        Err(_) => Err(DeskError::Fault(format!(
            "open {uri}: no answer within {} s; is its libvirt running, and is the way there open?",
            REACH.as_secs()
        ))),
    }
}

#[async_trait]
impl Workshop for Parts {
    fn name(&self, uri: Option<&str>) -> String {
        self.at(uri).name()
    }

    fn admit(&self, uri: &str) -> Result<(), DeskError> {
        match (self.target.is_sim(), Target::of(Some(uri)).is_sim()) {
            (true, false) => Err(DeskError::Asked(format!(
                "the host at {uri} is no simulator, and --hypervisor names one; give each [[host]] a uri such as sim:SCENARIO, or none"
            ))),
            (false, true) => Err(DeskError::Asked(format!("the host at {uri} is a simulator, which --hypervisor sim asks for"))),
            _ => Ok(()),
        }
    }

    fn is_simulated(&self) -> bool {
        self.target.is_sim()
    }

    async fn perform(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if !self.target.is_virtual() {
            return work.await;
        }
        // The simulator's time jumps, and everybody else's must not: it has a runtime of its own.
        let apart = move || match super::runtime(true) {
            Ok(runtime) => runtime.block_on(work),
            Err(error) => super::say(format_args!("could not start: {error}")),
        };
        if let Err(ended) = tokio::task::spawn_blocking(apart).await {
            super::say(format_args!("the simulator ended in the middle: {ended}"));
        }
    }

    async fn open(&self, state: &State, host: &Host) -> Result<Machines, DeskError> {
        match self.at(host.uri.as_deref()) {
            Target::Sim(scenario) => super::sim::open(scenario.as_deref(), state),
            Target::Libvirt(uri) => {
                let uri = uri.as_deref().unwrap_or(EMBEDDED);
                if let Some(machines) = self.libvirt.lock().await.get(uri) {
                    return Ok(machines.clone());
                }
                let libvirt = if settings::is_embedded(uri) { None } else { Some(reach(uri, host.pool.as_deref(), state).await?) };
                let mut open = self.libvirt.lock().await;
                if let Some(machines) = open.get(uri) {
                    return Ok(machines.clone());
                }
                // There is one of it: nobody else may open it meanwhile.
                let libvirt = match libvirt {
                    Some(libvirt) => libvirt,
                    None => Libvirt::open(uri, None, &state.folder, &state.lab)?,
                };
                let libvirt = Arc::new(libvirt);
                let guests = Arc::new(AgentGuests { hypervisor: libvirt.clone() });
                let machines = Machines { hypervisor: libvirt, guests, clock: Clock::wall() };
                Ok(open.entry(uri.to_owned()).or_insert(machines).clone())
            }
        }
    }
}

pub fn open(cli: &Cli) -> Result<Context, Failure> {
    if !cli.lab.is_dir() {
        return Err(Failure::usage(format!("the lab's folder {} is not there; name it with --lab", cli.lab.display())));
    }
    let workshop = Arc::new(Parts { target: Target::of(cli.hypervisor.as_deref()), libvirt: Mutex::default() });
    Ok(Context::new(cli.lab.clone(), State::open(&cli.state_folder())?, workshop, |text| super::say(text)))
}

pub fn image_failure(error: ImageError) -> Failure {
    DeskError::Image(error).into()
}
