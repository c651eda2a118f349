//! Puts the parts together: folders, stores, and the hypervisor that was asked for.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::args::Cli;
use super::error::Failure;
use crate::guest::agent::AgentGuests;
use crate::hypervisor::libvirt::Libvirt;
use crate::lab::clock::Clock;
pub use crate::lab::desk::Desk as Context;
use crate::lab::desk::{DeskError, Machines, Workshop};
use crate::lab::images::ImageError;
use crate::lab::state::State;

/// libvirt's QEMU driver inside this process, with its root below the state folder.
pub const EMBEDDED: &str = "qemu:///embed";

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
    libvirt: Mutex<Option<Machines>>,
}

#[async_trait]
impl Workshop for Parts {
    fn name(&self) -> String {
        self.target.name()
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

    async fn open(&self, state: &State) -> Result<Machines, DeskError> {
        match &self.target {
            Target::Sim(scenario) => super::sim::open(scenario.as_deref(), state),
            Target::Libvirt(uri) => {
                let mut open = self.libvirt.lock().await;
                if let Some(machines) = &*open {
                    return Ok(machines.clone());
                }
                let uri = uri.as_deref().unwrap_or(EMBEDDED);
                let libvirt = Arc::new(Libvirt::open(uri, &state.folder, &state.lab)?);
                let guests = Arc::new(AgentGuests { hypervisor: libvirt.clone() });
                Ok(open.insert(Machines { hypervisor: libvirt, guests, clock: Clock::wall() }).clone())
            }
        }
    }
}

pub fn open(cli: &Cli) -> Result<Context, Failure> {
    if !cli.lab.is_dir() {
        return Err(Failure::usage(format!("the lab's folder {} is not there; name it with --lab", cli.lab.display())));
    }
    let workshop = Arc::new(Parts { target: Target::of(cli), libvirt: Mutex::new(None) });
    Ok(Context::new(cli.lab.clone(), State::open(&cli.state_folder())?, workshop, |text| super::say(text)))
}

pub fn image_failure(error: ImageError) -> Failure {
    DeskError::Image(error).into()
}
