//! How the hosts stand, and in words why a cell waits.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::choice::{Lane, Why};
use super::room::{Lack, Room};
use crate::id::{CellId, Name, RunId};
use crate::lab::clock::between;
use crate::lab::pause::Pause;

/// How the hosts stand.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Of all hosts together.
    pub capacity: Room,
    pub taken: Room,
    pub pause: Option<Pause>,
    pub hosts: Vec<OneHost>,
    /// Cells at work, since when, and on which host.
    pub at_work: Vec<(RunId, CellId, Timestamp, Name)>,
    /// Those that wait, in the order in which they are expected to start.
    pub waiting: Vec<Waiting>,
}

/// How one of them stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneHost {
    pub name: Name,
    pub labels: BTreeSet<Name>,
    pub capacity: Room,
    pub taken: Room,
    pub pause: Option<Pause>,
    /// Why it gets no work until it has proved itself.
    pub out: Option<String>,
}

/// What the hosts are used for, in numbers.
#[derive(Clone, Debug)]
pub struct Use {
    pub capacity: Room,
    pub taken: Room,
    /// Cells that wait.
    pub waiting: usize,
    pub paused: bool,
    pub hosts: Vec<OneHost>,
    /// Runs of which a cell has started, and which are not forgotten.
    pub begun: BTreeSet<RunId>,
}

/// A cell that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub run: RunId,
    pub cell: CellId,
    pub customer: Name,
    pub lane: Lane,
    pub since: Timestamp,
    /// In words.
    pub why: String,
    /// The same for all cells that wait for the same thing.
    pub kind: &'static str,
}

/// Why a cell waits.
pub(super) fn words(why: &Why, pause: Option<&Pause>, hosts: &[OneHost], now: Timestamp) -> String {
    match why {
        Why::Each(each) => {
            let on = |(host, why): (&OneHost, &Why)| format!("{}: {}", host.name, on_host(why, host, now));
            hosts.iter().zip(each).map(on).collect::<Vec<_>>().join("; ")
        }
        Why::Paused => pause.map_or_else(|| "the host is paused".to_owned(), Pause::told),
        _ => hosts.first().map_or_else(|| "there is no host".to_owned(), |host| on_host(why, host, now)),
    }
}

fn on_host(why: &Why, host: &OneHost, now: Timestamp) -> String {
    match why {
        Why::Closed | Why::Paused | Why::Each(_) => {
            let out = host.out.as_ref().map(|why| format!("the host is out: {why}"));
            out.or_else(|| host.pause.as_ref().map(Pause::told)).unwrap_or_else(|| "the host is paused".to_owned())
        }
        Why::Unlabelled(lacking) => {
            let lacking = lacking.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
            format!("the host is not labelled {lacking}")
        }
        Why::Failed => "it has failed it before".to_owned(),
        Why::Small(lacks) => {
            let lacks = lacks.iter().map(Lack::never).collect::<Vec<_>>().join(" and ");
            format!("it needs {lacks}")
        }
        Why::Lacks { lacks, kept } => {
            let lacks = lacks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            if *kept { format!("{lacks}; its turn has come, and what others let go is kept for it") } else { lacks }
        }
        Why::Behind { cell, since, .. } => {
            format!("room is kept for {cell}, which has waited for {} min", between(*since, now).as_secs() / 60)
        }
        Why::Next => "it is about to start".to_owned(),
    }
}
