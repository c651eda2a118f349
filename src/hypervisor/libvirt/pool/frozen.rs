//! Templates of machines whose files are in a storage pool. What was frozen comes here, where templates are kept; its disk and its memory go
//! back once, by their digests, for all machines that begin on it there.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use virt::storage_vol::StorageVol;

use super::volumes::{Broken, bytes, receive, send, telling, unpooled};
use super::{CONSOLE, FROZEN, MEMORY, OVERLAY, Pool, VARIABLES, volume};
use crate::hypervisor::libvirt::MISTAKE;
use crate::hypervisor::libvirt::error::{failure, refused};
use crate::hypervisor::libvirt::folder;
use crate::hypervisor::libvirt::session::Session;
use crate::hypervisor::{HypervisorError, HypervisorErrorKind, OnTemplate};

/// A template that has arrived in a pool.
pub struct Frozen {
    /// Where its disk is there.
    pub disk: PathBuf,
    pub(super) memory: StorageVol,
    /// Where it is here.
    folder: PathBuf,
}

impl Frozen {
    /// What its machine's UEFI variables were, if it had any.
    pub(super) fn variables(&self) -> Option<PathBuf> {
        Some(self.folder.join(folder::VARIABLES)).filter(|variables| variables.exists())
    }

    /// What its machine's console had said.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.join(folder::CONSOLE)
    }
}

impl Pool {
    /// Where a template is there, sent before if it was not.
    pub fn template(&self, session: &Session, template: &OnTemplate) -> Result<Frozen, HypervisorError> {
        let arrive = |name: &str| -> Result<StorageVol, HypervisorError> {
            let from = template.folder.join(name);
            let tried = format!("send a template's {name} to the storage pool {}", self.name);
            let unknown = || failure(HypervisorErrorKind::Refused, &tried, "its digest is not known", MISTAKE);
            let digest = template.digests.get(name).ok_or_else(unknown)?;
            self.arrive(session, &from, *digest, FROZEN, &tried)
        };
        let (disk, memory) = (arrive(folder::DISK)?, arrive(folder::MEMORY)?);
        let disk = disk.path().map_err(|error| unpooled("find a template's disk", &error))?.into();
        Ok(Frozen { disk, memory, folder: template.folder.clone() })
    }

    /// Ends the machine; what it was comes into the folder `into`.
    pub fn freeze(&self, session: &Session, machine: &str, into: &Path, tried: &str) -> Result<(), HypervisorError> {
        session.get(machine).map_err(|error| refused(tried, &error))?;
        let volumes = self.open(session).map_err(|error| unpooled(tried, &error))?;
        let look = || -> Result<(PathBuf, String), Broken> {
            let overlay = volumes.pool.lookup_storage_vol_by_name(&volume(machine, OVERLAY))?;
            Ok((overlay.path()?.into(), overlay.xml_desc(0)?))
        };
        let (overlay, about) = look().map_err(|broken| broken.told(tried))?;
        if about.contains(&format!("{FROZEN}<")) {
            return Err(failure(HypervisorErrorKind::Refused, tried, "it was made on a template itself, in a storage pool", MISTAKE));
        }
        let memory = overlay.with_file_name(volume(machine, MEMORY));
        session.save(machine, &memory.to_string_lossy()).map_err(|error| refused(tried, &error))?;
        volumes.refresh();
        let fetch = |there: StorageVol, name: &str| -> Result<(), Broken> {
            let (length, path) = (bytes(&there)?, into.join(name));
            let mut to = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
            let mut told = telling("fetched", length);
            receive(session, &there, 0, length, |piece| {
                told(piece.len());
                to.write_all(piece)
            })
        };
        let fetch_all = || -> Result<(), Broken> {
            for (own, name) in [(MEMORY, folder::MEMORY), (OVERLAY, folder::DISK), (CONSOLE, folder::CONSOLE)] {
                fetch(volumes.pool.lookup_storage_vol_by_name(&volume(machine, own))?, name)?;
            }
            // A BIOS has none.
            volumes.find(&volume(machine, VARIABLES))?.map_or(Ok(()), |there| fetch(there, folder::VARIABLES))
        };
        fetch_all().map_err(|broken| broken.told(tried))
    }

    /// Lets a machine on a template go on, as the one that `preamble` says it is.
    pub fn resume(&self, session: &Session, machine: &str, preamble: &[u8], tried: &str) -> Result<(), HypervisorError> {
        let volumes = self.open(session).map_err(|error| unpooled(tried, &error))?;
        let go_on = || -> Result<PathBuf, Broken> {
            let memory = volumes.pool.lookup_storage_vol_by_name(&volume(machine, MEMORY))?;
            send(session, &memory, preamble, preamble.len() as u64, |_| {})?;
            Ok(memory.path()?.into())
        };
        let memory = go_on().map_err(|broken| broken.told(tried))?;
        let restored = session.restore(&memory.to_string_lossy());
        // It is of no more use, however it went.
        if let Err(error) = volumes.remove(&volume(machine, MEMORY)) {
            tracing::warn!(machine, %error, "its memory's file is left until it is removed");
        }
        restored.map_err(|error| refused(tried, &error))
    }
}
