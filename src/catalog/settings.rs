//! What holds for the lab as a whole: `patchlab.toml`, a file in the lab's folder that may be left out.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::diagnostic::{Diagnostic, Problems};
use super::schema::Kind;
use super::source;
use super::text::{Size, Span};
use super::webhook::Webhook;
use crate::id::{BadId, Name};

/// The file, from the top of the lab.
pub const FILE: &str = "patchlab.toml";

/// What `patchlab.toml` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Which frozen machines are kept for later clones to go on from.
    #[serde(default)]
    pub templates: Templates,
    /// What machines run on; one host, which `--hypervisor` names, when left out.
    #[serde(default, rename = "host", skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Host>,
    /// How many may speak to the server at once.
    #[serde(default)]
    pub server: Server,
    #[serde(default, rename = "webhook", skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
}

/// How many frozen machines are kept, how much of the disk they take, and how long each is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Templates {
    /// How many are kept, at most 1000; the least recently used go first. With 0 none are made, and every machine boots.
    #[schemars(range(min = 0, max = 1000))]
    pub at_most: u32,
    /// What they take on disk together. One is kept even if it takes more.
    pub size: Size,
    /// How long after it was frozen one is used.
    pub age: Span,
}

impl Default for Templates {
    fn default() -> Self {
        Self { at_most: 16, size: Size::mib(8 << 10), age: Span::secs(24 * 3600) }
    }
}

/// A host, and how much of it machines may take together. A cell's machines are given theirs on one host and at once, or wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Host {
    /// What messages, reports and the journal call it.
    pub name: Name,
    /// Its libvirt, or `sim:SCENARIO` where `--hypervisor` is the simulator; what `--hypervisor` names when left out.
    #[schemars(length(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// A storage pool of that libvirt, where images and machines' files are sent. When left out, the lab's own paths must be there, too.
    #[schemars(length(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What it is or has, in words of the lab's own: cells that ask for one in `host-labels` go only where it is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<Name>,
    /// Machines at work at once; as many as the host has processors when left out. An environment of more is run by itself.
    #[schemars(range(min = 1, max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Machines in their cell's first boot at once; as many as may be at work when left out.
    #[schemars(range(min = 1, max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots: Option<u32>,
    /// What guests and emulators take of memory: each machine its profile's memory and 512MiB. What is free when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// What overlays may grow to on the disk of the state folder, or of the pool: each machine its image's whole disk. What is free when
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
}

/// The uri of libvirt's QEMU driver inside the process, of which there can be one; where its root is may follow.
pub const EMBEDDED: &str = "qemu:///embed";

/// Whether a uri is that of the libvirt inside this process.
pub fn is_embedded(uri: &str) -> bool {
    uri == EMBEDDED || uri.strip_prefix(EMBEDDED).is_some_and(|rest| rest.starts_with('?'))
}

impl Host {
    /// One that says nothing but its name.
    pub const fn plain(name: Name) -> Self {
        Self { name, uri: None, pool: None, labels: BTreeSet::new(), cores: None, boots: None, memory: None, disk: None }
    }

    /// Whether it is libvirt inside this process, or what `--hypervisor` names: the one whose machines are in the state folder itself.
    pub fn is_own(&self) -> bool {
        self.uri.as_deref().is_none_or(is_embedded)
    }
}

impl Settings {
    /// The hosts, of which there is always one.
    ///
    /// # Errors
    /// Never but for a mistake in patchlab: when the one host's name is none.
    pub fn hosts(&self) -> Result<Vec<Host>, BadId> {
        if !self.hosts.is_empty() {
            return Ok(self.hosts.clone());
        }
        Ok(vec![Host::plain("local".parse()?)])
    }
}

/// How many connections the server takes at once; it reads them at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Server {
    /// From everywhere together; more wait to be taken.
    #[schemars(range(min = 8, max = 16384))]
    pub connections: u32,
    /// From one address, which for IPv6 is a /64 network; one more is refused.
    #[schemars(range(min = 1, max = 16384))]
    pub connections_per_address: u32,
    /// From the server's own host, where a proxy or many pipelines may be behind one address; one more is refused.
    #[schemars(range(min = 1, max = 16384))]
    pub connections_from_this_host: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self { connections: 512, connections_per_address: 128, connections_from_this_host: 448 }
    }
}

/// The settings of a lab. What they say of customers, and whether they make sense, is checked with the rest of the catalog.
///
/// # Errors
/// Every mistake in the file.
pub fn read(lab: &Path) -> Result<Settings, Problems> {
    let file = lab.join(FILE);
    if file.symlink_metadata().is_err() {
        return Ok(Settings::default());
    }
    let reading = source::read::<Settings>(&file, &file, Kind::Settings);
    match reading.value {
        Some(settings) => Ok(settings),
        None if reading.diagnostics.is_empty() => Err(Diagnostic::error(file, "can't be read").into()),
        None => Err(Problems(reading.diagnostics)),
    }
}
