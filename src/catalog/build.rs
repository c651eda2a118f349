//! Customers and their builds: `builds/<customer>/customer.toml`, `builds/<customer>/<build>.toml`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::text::Span;
use crate::id::Name;

/// A customer of the integration centre.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Customer {
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    /// Fresh clones on which bad news is tried again before it is believed, 0 to 5.
    #[serde(default = "Customer::default_confirmations")]
    #[schemars(range(min = 0, max = 5))]
    pub confirmations: u32,
    /// Attempts at one pass of a cell that the lab itself spoils, before the cell is inconclusive, 1 to 5.
    #[serde(default = "Customer::default_attempts")]
    #[schemars(range(min = 1, max = 5))]
    pub attempts: u32,
    /// The most hardware profiles that a build is tried on, and the most combinations of them that an environment is. Where there are more,
    /// those are chosen that show most pairs of attributes, and the pairs left out are reported. All when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub most_hardware: Option<u32>,
    /// The patch levels of an environment that are tried: each role patched alone and all together, further also every pair or every
    /// choice of roles.
    #[serde(default)]
    pub levels: Levels,
    /// Labels that a host must have for this customer's machines to run there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub host_labels: BTreeSet<Name>,
    /// What has to be shown before a patch may go to this customer. Without it the gate stays closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Which roles of an environment are patched together, on the way from none to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Levels {
    /// Each role alone, and all.
    #[default]
    Each,
    /// Also every pair.
    Pairs,
    /// Every choice of roles.
    Every,
}

impl Customer {
    fn default_confirmations() -> u32 {
        1
    }

    fn default_attempts() -> u32 {
        2
    }

    /// How long what a case gave unpatched counts as its baseline in later runs.
    pub fn baseline_valid_for(&self) -> Span {
        self.policy.as_ref().map_or(Policy::default_baseline_valid_for(), |policy| policy.baseline_valid_for)
    }
}

/// One customer's server or client build: an image, a role, what must run on it, the hardware it lives on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Build {
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    pub role: Role,
    /// The golden image that its machines are cloned from.
    pub image: Name,
    /// The hardware profiles that it lives on.
    #[schemars(length(min = 1))]
    pub hardware: Vec<Name>,
    /// The regression suites that it must pass. The health suite always runs besides.
    pub suites: Vec<Name>,
    /// systemd units that must be active, for example `nginx.service`.
    #[serde(default)]
    pub services: Vec<String>,
    /// Paths that change by themselves on this build (shell patterns), which the file check leaves out.
    #[serde(default)]
    pub volatile: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Server,
    Client,
}

impl Role {
    pub fn name(self) -> Name {
        Name::constant(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}
