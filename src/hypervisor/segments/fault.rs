//! Faults as verbs: what can be done to a NIC's link or to a whole segment.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line::Chance;
use crate::id::Name;

/// The longest delay, and the longest jitter.
pub const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Something done to the network on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    pub segment: Name,
    /// One NIC's link; the whole segment when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<Name>,
    pub verb: Verb,
}

/// What is done. On a NIC it meets each frame that the NIC sends and each that it is to get; on a segment, each frame once, between
/// the two. Verbs of different kinds add up; one of the same kind replaces the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// Nothing crosses, and what was on its way is lost. The guest's carrier stays: only the hypervisor could take that away.
    LinkDown,
    LinkUp,
    /// Each frame takes so much longer.
    Delay {
        by: Duration,
    },
    /// Each frame takes longer by something between nothing and this, each its own: frames may overtake one another.
    Jitter {
        up_to: Duration,
    },
    /// Frames vanish.
    Loss {
        chance: Chance,
    },
    /// Frames arrive twice.
    Duplicate {
        chance: Chance,
    },
    /// NICs of different groups don't see each other; those that no group names are a group. Without groups, a segment is whole again
    /// and a NIC is cut off from all others. Only a segment takes groups.
    Partition {
        #[serde(default)]
        groups: Vec<BTreeSet<Name>>,
    },
    /// Undoes all the others: on a segment, those on its NICs too. What is delayed already still comes late.
    Clear,
}

/// A fault that can't be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFault {
    pub found: String,
    pub hint: String,
}

impl Verb {
    /// Refuses delays that would outlast every deadline.
    pub fn check(&self) -> Result<(), BadFault> {
        match self {
            Self::Delay { by: time } | Self::Jitter { up_to: time } if *time > LONGEST_DELAY => Err(BadFault {
                found: format!("{time:?} is longer than {LONGEST_DELAY:?}"),
                hint: "use a shorter time, or link-down".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
