//! Opens the simulator.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::guest::sim::SimGuests;
use crate::hypervisor::sim::{Scenario, SimHypervisor, World};
use crate::lab::clock::Clock;
use crate::lab::desk::{DeskError, Machines};
use crate::lab::state::State;

/// Whether a scenario asks for real time. One that can't be read says so when it is opened.
pub fn is_in_real_time(scenario: Option<&Path>) -> bool {
    let text = scenario.and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| Scenario::parse(&text).ok()).is_some_and(|scenario| scenario.pace.real_time)
}

/// A simulated world whose machines outlive the process, as real ones do.
pub fn open(scenario: Option<&Path>, state: &State) -> Result<Machines, DeskError> {
    let scenario = match scenario {
        None => Scenario::default(),
        Some(file) => {
            let failed =
                |found: &dyn std::fmt::Display| DeskError::Asked(format!("could not read the scenario {}: {found}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
            Scenario::parse(&text).map_err(|error| failed(&error))?
        }
    };
    let world = World::open(scenario, &state.folder).map_err(|error| DeskError::Fault(error.to_string()))?;
    Ok(Machines {
        hypervisor: Arc::new(SimHypervisor::new(world.clone(), &state.lab)),
        guests: Arc::new(SimGuests::new(world)),
        clock: Clock::starting_at(Timestamp::now()),
    })
}
