//! A storage pool of the libvirt host, for a host that has no files in common with this one. Whatever a machine needs is sent there through
//! libvirt, and its console read back the same way.
//!
//! | volume | what |
//! | --- | --- |
//! | `patchlab-LAB-DIGEST.qcow2` | an image, sent once |
//! | `patchlab-LAB-DIGEST.frozen` | a template's disk or memory, sent once |
//! | `patchlab-LAB-DIGEST.whole` | empty; says that what is there was read back and has that digest |
//! | `MACHINE.overlay.qcow2`, `MACHINE.media.iso`, `MACHINE.console.log` | a machine's own |
//! | `MACHINE.variables.fd` | its UEFI variables; libvirt makes them at its start, but on a template, and removes them with its definition |
//! | `MACHINE.memory.save` | its memory: until a machine on a template goes on, or from its freezing on |
//!
//! Invariant: what has no mark is never used. What was sent by half is sent again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use virt::error::{Error, ErrorNumber};
use virt::storage_vol::StorageVol;

use super::domain::Files;
use super::error::{failure, number};
use super::folder::CONSOLE_READ;
use super::session::Session;
use crate::hypervisor::{Copied, HypervisorError, HypervisorErrorKind, MachineSpec, Sent};
use crate::id::Digest;

mod frozen;
mod volumes;

pub use frozen::Frozen;
use volumes::{Broken, Volumes, bytes, filled, on_top, raw, receive, send, telling, unpooled};

const OVERLAY: &str = "overlay.qcow2";
const MEDIA: &str = "media.iso";
const CONSOLE: &str = "console.log";
const VARIABLES: &str = "variables.fd";
const MEMORY: &str = "memory.save";
/// An image, a file of a template, and that it is whole.
const IMAGE: &str = ".qcow2";
const FROZEN: &str = ".frozen";
const MARK: &str = ".whole";

/// The pool that a host's machines are in.
pub struct Pool {
    pub name: String,
    lab: String,
    /// What several machines want is sent by one; the others wait.
    sending: Mutex<()>,
    /// See [`Volumes`].
    changing: Mutex<()>,
}

impl Pool {
    pub fn new(name: &str, lab: &str) -> Self {
        Self { name: name.to_owned(), lab: lab.to_owned(), sending: Mutex::default(), changing: Mutex::default() }
    }

    /// That it is there, and can be used.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, session: &Session) -> Result<(), HypervisorError> {
        let tried = format!("look at the storage pool {}", self.name);
        let pool = self.open(session).map_err(|error| unpooled(&tried, &error))?.pool;
        let info = pool.xml_desc(0).and_then(|xml| Ok((xml, pool.is_active()?)));
        let (xml, active) = info.map_err(|error| unpooled(&tried, &error))?;
        let refuse = |found: &str, hint: &str| Err(failure(HypervisorErrorKind::Refused, &tried, found, hint));
        if !active {
            return refuse("it is not started", &format!("on that host: virsh pool-start {0}; virsh pool-autostart {0}", self.name));
        }
        if !["<pool type='dir'", "<pool type='fs'", "<pool type='netfs'"].iter().any(|kind| xml.starts_with(kind)) {
            return refuse("its volumes are no files in a folder", "name a pool of type dir, fs or netfs");
        }
        Ok(())
    }

    fn open(&self, session: &Session) -> Result<Volumes<'_>, Error> {
        Ok(Volumes { pool: session.connection.lookup_storage_pool_by_name(&self.name)?, changing: &self.changing })
    }

    /// Puts there what a machine on an image there, or on a template of it, has of its own, and says where it is. On error some of it may
    /// be left; [`Self::remove`] takes it away.
    pub fn furnish(
        &self,
        session: &Session,
        spec: &MachineSpec,
        image: PathBuf,
        frozen: Option<&Frozen>,
        tried: &str,
    ) -> Result<(MachineSpec, Files), HypervisorError> {
        let machine = &spec.name;
        let volumes = &self.open(session).map_err(|error| unpooled(tried, &error))?;
        let own = || -> Result<(Option<PathBuf>, Files), Broken> {
            let filled =
                |own, from: &Path| -> Result<PathBuf, Broken> { Ok(filled(session, volumes, volume(machine, own), from)?.path()?.into()) };
            let media = spec.media.as_deref().map(|iso| filled(MEDIA, iso)).transpose()?;
            let below = frozen.map_or(&image, |frozen| &frozen.disk);
            let overlay: PathBuf = volumes.make(on_top(volume(machine, OVERLAY), below))?.path()?.into();
            let console = match frozen {
                None => volumes.make(raw(volume(machine, CONSOLE), 0))?.path()?.into(),
                Some(frozen) => {
                    volumes.copy(raw(volume(machine, MEMORY), 0), &frozen.memory)?;
                    frozen.variables().map(|variables| filled(VARIABLES, &variables)).transpose()?;
                    filled(CONSOLE, &frozen.console())?
                }
            };
            let (variables, template) = (overlay.with_file_name(volume(machine, VARIABLES)), below.clone());
            Ok((media, Files { overlay, console, variables, template, below: None }))
        };
        let (media, files) = own().map_err(|broken| broken.told(tried))?;
        Ok((MachineSpec { image, media, ..spec.clone() }, files))
    }

    /// Where an image is, sent before if it was not there.
    pub fn image(&self, session: &Session, image: &Path, digest: Digest) -> Result<PathBuf, HypervisorError> {
        let tried = format!("send the image {} to the storage pool {}", digest.short(), self.name);
        let there = self.arrive(session, image, digest, IMAGE, &tried)?;
        there.path().map(PathBuf::from).map_err(|error| unpooled(&tried, &error))
    }

    /// A file's volume, sent before if it was not there.
    fn arrive(
        &self,
        session: &Session,
        from: &Path,
        digest: Digest,
        kind: &'static str,
        tried: &str,
    ) -> Result<StorageVol, HypervisorError> {
        let volumes = &self.open(session).map_err(|error| unpooled(tried, &error))?;
        let _one_at_a_time = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let arrive = || -> Result<(StorageVol, Digest), Broken> {
            let length = from.metadata()?.len();
            volumes.refresh();
            let [name, mark] = [kind, MARK].map(|what| self.name_of(&format!("{}{what}", digest.hex())));
            if let Some(there) = volumes.find(&name)? {
                if volumes.find(&mark)?.is_some() && bytes(&there)? == length {
                    return Ok((there, digest));
                }
                volumes.remove(&mark)?;
                there.delete(0)?;
            }
            tracing::info!(pool = self.name, name, mib = length >> 20, "a file is sent");
            let there = volumes.make(raw(name, length))?;
            let mut sum = Sha256::new();
            let found = send(session, &there, File::open(from)?, length, telling("sent", length)).and_then(|()| {
                let mut told = telling("read back", length);
                receive(session, &there, 0, length, |piece| {
                    sum.update(piece);
                    told(piece.len());
                    Ok(())
                })
            });
            let found = found.map(|()| Digest::from_bytes(sum.finalize().into()));
            match &found {
                Ok(found) if *found == digest => drop(volumes.make(raw(mark, 0))?),
                // It is of no use to anyone.
                Ok(_) | Err(_) => drop(there.delete(0)),
            }
            Ok((there, found?))
        };
        match arrive().map_err(|broken| broken.told(tried))? {
            (there, found) if found == digest => Ok(there),
            (_, found) => {
                let found = format!("what was read back there is {}", found.short());
                let hint = "check that host's disk, and `patchlab image verify` this one's";
                Err(failure(HypervisorErrorKind::Refused, tried, &found, hint))
            }
        }
    }

    /// A piece of a machine's console.
    pub fn console(&self, session: &Session, machine: &str, offset: u64, tried: &str) -> Result<Vec<u8>, HypervisorError> {
        let read = || -> Result<Vec<u8>, Broken> {
            let console = self.open(session)?.pool.lookup_storage_vol_by_name(&volume(machine, CONSOLE))?;
            let length = bytes(&console)?.saturating_sub(offset).min(CONSOLE_READ);
            let mut piece = Vec::new();
            receive(session, &console, offset, length, |bytes| {
                piece.extend_from_slice(bytes);
                Ok(())
            })?;
            Ok(piece)
        };
        read().map_err(|broken| broken.told(tried))
    }

    /// How long a machine's console is.
    pub fn console_bytes(&self, session: &Session, machine: &str) -> Result<u64, Error> {
        bytes(&self.open(session)?.pool.lookup_storage_vol_by_name(&volume(machine, CONSOLE))?)
    }

    /// What a machine's volumes take; 0 where nobody says.
    pub fn bytes(&self, session: &Session, machine: &str) -> u64 {
        let own = self.open(session).and_then(|volumes| volumes.beginning(&volume(machine, ""))).unwrap_or_default();
        own.iter().filter_map(|(_, volume)| volume.info().ok()).map(|info| info.allocation).sum()
    }

    /// Removes a machine's volumes, and what libvirt has made beside them. No error when there are none.
    pub fn remove(&self, session: &Session, machine: &str, tried: &str) -> Result<(), HypervisorError> {
        let gone = || -> Result<(), Error> {
            let volumes = match self.open(session) {
                Err(error) if number(&error) == Some(ErrorNumber::NoStoragePool) => return Ok(()),
                other => other?,
            };
            volumes.beginning(&volume(machine, ""))?.iter().try_for_each(|(_, own)| own.delete(0))
        };
        gone().map_err(|error| unpooled(tried, &error))
    }

    /// What the lab has sent there, also by half.
    pub fn sent(&self, session: &Session, tried: &str) -> Result<Vec<Sent>, HypervisorError> {
        let list = || -> Result<Vec<Sent>, Error> {
            let mut sent = Vec::new();
            for (name, there) in self.open(session)?.beginning(&self.name_of(""))? {
                for (kind, what) in [(IMAGE, Copied::Image), (FROZEN, Copied::Template)] {
                    let hex = name.strip_prefix(&self.name_of("")).and_then(|rest| rest.strip_suffix(kind));
                    if let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                        sent.push(Sent { what, digest, bytes: there.info()?.allocation });
                    }
                }
            }
            Ok(sent)
        };
        list().map_err(|error| unpooled(tried, &error))
    }

    /// Removes what was sent, but nothing of a template that a machine lies on. No error when it is not there.
    pub fn discard(&self, session: &Session, digest: Digest, tried: &str) -> Result<(), HypervisorError> {
        let _not_meanwhile = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || -> Result<(), Error> {
            let volumes = self.open(session)?;
            let [image, frozen, mark] = [IMAGE, FROZEN, MARK].map(|what| self.name_of(&format!("{}{what}", digest.hex())));
            if volumes.is_below(&frozen)? {
                return Ok(());
            }
            [mark, image, frozen].iter().try_for_each(|name| volumes.remove(name))
        };
        gone().map_err(|error| unpooled(tried, &error))
    }

    /// Bytes that are free.
    pub fn free(&self, session: &Session, tried: &str) -> Result<u64, HypervisorError> {
        let ask = || -> Result<u64, Error> {
            let volumes = self.open(session)?;
            volumes.refresh();
            Ok(volumes.pool.info()?.available)
        };
        ask().map_err(|error| unpooled(tried, &error))
    }

    /// What the lab's own volumes are called.
    fn name_of(&self, rest: &str) -> String {
        format!("patchlab-{}-{rest}", self.lab)
    }
}

fn volume(machine: &str, own: &str) -> String {
    format!("{machine}.{own}")
}
