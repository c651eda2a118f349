//! A storage pool of the libvirt host, for a host that has no files in common with this one. Whatever a machine needs is sent there through
//! libvirt, and its console read back the same way.
//!
//! | volume | what |
//! | --- | --- |
//! | `patchlab-LAB-DIGEST.qcow2` | an image, sent once |
//! | `patchlab-LAB-DIGEST.whole` | empty; says that the image there was read back and has that digest |
//! | `MACHINE.overlay.qcow2`, `MACHINE.media.iso`, `MACHINE.console.log` | a machine's own |
//! | `MACHINE.variables.fd` | its UEFI variables; libvirt makes them at its start and removes them with its definition |
//!
//! Invariant: an image without its mark is never used. What was sent by half is sent again.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt_sys as sys;

use super::domain::Files;
use super::error::{failure, file, number, refused};
use super::folder::CONSOLE_READ;
use super::session::Session;
use super::xml::{Element, element, text};
use crate::hypervisor::{HypervisorError, HypervisorErrorKind, MachineSpec, Sent};
use crate::id::Digest;

const OVERLAY: &str = "overlay.qcow2";
const MEDIA: &str = "media.iso";
const CONSOLE: &str = "console.log";
const VARIABLES: &str = "variables.fd";
/// An image, and that it is whole.
const IMAGE: &str = ".qcow2";
const MARK: &str = ".whole";
/// No machine begins on a template here.
const TEMPLATE: &str = "template.qcow2";

/// What goes into a stream at once: what libvirt puts into one message.
const PIECE: usize = 256 << 10;
/// How often somebody who waits for an image is told how far it is.
const TOLD: Duration = Duration::from_secs(10);

/// The pool that a host's machines are in.
pub struct Pool {
    pub name: String,
    lab: String,
    /// An image is sent by one machine; the others that want it wait.
    sending: Mutex<()>,
}

/// Why something could not be sent or read.
enum Broken {
    File(io::Error),
    Libvirt(Error),
}

impl Broken {
    fn told(self, tried: &str) -> HypervisorError {
        match self {
            Self::File(error) => file(tried, &error),
            Self::Libvirt(error) => unpooled(tried, &error),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

/// What a refusal about a pool means; libvirt's words for it are the same, the place to mend it is not.
fn unpooled(tried: &str, error: &Error) -> HypervisorError {
    let refused = refused(tried, error);
    let hint = match refused.kind {
        HypervisorErrorKind::NoSpace => "free space in the pool, on its host".to_owned(),
        HypervisorErrorKind::NoMachine | HypervisorErrorKind::Refused => {
            "`virsh pool-list --all` on that host shows its pools; one in a folder (type dir), started, is what is needed".to_owned()
        }
        HypervisorErrorKind::Gone | HypervisorErrorKind::TimedOut => refused.hint,
    };
    HypervisorError { hint, ..refused }
}

impl Pool {
    pub fn new(name: &str, lab: &str) -> Self {
        Self { name: name.to_owned(), lab: lab.to_owned(), sending: Mutex::default() }
    }

    /// That it is there, and can be used.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, session: &Session) -> Result<(), HypervisorError> {
        let tried = format!("look at the storage pool {}", self.name);
        let pool = self.open(session).map_err(|error| unpooled(&tried, &error))?;
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

    fn open(&self, session: &Session) -> Result<StoragePool, Error> {
        session.connection.lookup_storage_pool_by_name(&self.name)
    }

    /// Puts there what a machine on an image there has of its own, and says where it is. On error some of it may be left; [`Self::remove`]
    /// takes it away.
    pub fn furnish(
        &self,
        session: &Session,
        spec: &MachineSpec,
        image: PathBuf,
        tried: &str,
    ) -> Result<(MachineSpec, Files), HypervisorError> {
        let machine = &spec.name;
        let pool = self.open(session).map_err(|error| unpooled(tried, &error))?;
        let own = || -> Result<(Option<PathBuf>, Files), Broken> {
            let media = spec.media.as_deref().map(|iso| {
                let (media, length) = (File::open(iso)?, iso.metadata()?.len());
                let volume = make(&pool, raw(volume(machine, MEDIA), length))?;
                send(session, &volume, media, length, |_| {})?;
                Ok::<PathBuf, Broken>(volume.path()?.into())
            });
            let overlay = make(&pool, on_top(volume(machine, OVERLAY), &image))?;
            let console = PathBuf::from(make(&pool, raw(volume(machine, CONSOLE), 0))?.path()?);
            let beside = |own| console.with_file_name(volume(machine, own));
            let (variables, template) = (beside(VARIABLES), beside(TEMPLATE));
            Ok((media.transpose()?, Files { overlay: overlay.path()?.into(), console, variables, template, below: None }))
        };
        let (media, files) = own().map_err(|broken| broken.told(tried))?;
        Ok((MachineSpec { image, media, ..spec.clone() }, files))
    }

    /// Where an image is, sent before if it was not there.
    pub fn image(&self, session: &Session, image: &Path, digest: Digest) -> Result<PathBuf, HypervisorError> {
        let tried = format!("send the image {} to the storage pool {}", digest.short(), self.name);
        let pool = &self.open(session).map_err(|error| unpooled(&tried, &error))?;
        let _one_at_a_time = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let arrive = || -> Result<(StorageVol, Digest), Broken> {
            let length = image.metadata()?.len();
            refresh(pool);
            let [name, mark] = [IMAGE, MARK].map(|what| self.name_of(&format!("{}{what}", digest.hex())));
            if let Some(there) = find(pool, &name)? {
                if find(pool, &mark)?.is_some() && bytes(&there)? == length {
                    return Ok((there, digest));
                }
                remove(pool, &mark)?;
                there.delete(0)?;
            }
            tracing::info!(image = %digest.short(), pool = self.name, mib = length >> 20, "an image is sent");
            let there = make(pool, raw(name, length))?;
            let found = send(session, &there, File::open(image)?, length, |sent| {
                tracing::info!(image = %digest.short(), pool = self.name, "{} of {} MiB sent", sent >> 20, length >> 20);
            });
            let found = found.and_then(|()| self.read_back(session, &there, digest, length));
            match &found {
                Ok(found) if *found == digest => drop(make(pool, raw(mark, 0))?),
                // It is of no use to anyone.
                Ok(_) | Err(_) => drop(there.delete(0)),
            }
            Ok((there, found?))
        };
        match arrive().map_err(|broken| broken.told(&tried))? {
            (there, found) if found == digest => Ok(there.path().map_err(|error| unpooled(&tried, &error))?.into()),
            (_, found) => {
                let found = format!("what was read back there is {}", found.short());
                let hint = "check that host's disk, and `patchlab image verify` this one's";
                Err(failure(HypervisorErrorKind::Refused, &tried, &found, hint))
            }
        }
    }

    /// The digest of what has arrived.
    fn read_back(&self, session: &Session, there: &StorageVol, digest: Digest, length: u64) -> Result<Digest, Broken> {
        let (mut sum, mut told, mut read) = (Sha256::new(), Instant::now(), 0_u64);
        receive(session, there, 0, length, |piece| {
            sum.update(piece);
            read += piece.len() as u64;
            if told.elapsed() > TOLD {
                told = Instant::now();
                tracing::info!(image = %digest.short(), pool = self.name, "{} of {} MiB read back", read >> 20, length >> 20);
            }
        })?;
        Ok(Digest::from_bytes(sum.finalize().into()))
    }

    /// A piece of a machine's console.
    pub fn console(&self, session: &Session, machine: &str, offset: u64, tried: &str) -> Result<Vec<u8>, HypervisorError> {
        let read = || -> Result<Vec<u8>, Broken> {
            let console = self.open(session)?.lookup_storage_vol_by_name(&volume(machine, CONSOLE))?;
            let length = bytes(&console)?.saturating_sub(offset).min(CONSOLE_READ);
            let mut piece = Vec::new();
            // Of a length of nothing libvirt would send all.
            if length > 0 {
                receive(session, &console, offset, length, |bytes| piece.extend_from_slice(bytes))?;
            }
            Ok(piece)
        };
        read().map_err(|broken| broken.told(tried))
    }

    /// How long a machine's console is.
    pub fn console_bytes(&self, session: &Session, machine: &str) -> Result<u64, Error> {
        bytes(&self.open(session)?.lookup_storage_vol_by_name(&volume(machine, CONSOLE))?)
    }

    /// What a machine's volumes take; 0 where nobody says.
    pub fn bytes(&self, session: &Session, machine: &str) -> u64 {
        let own = self.open(session).and_then(|pool| beginning(&pool, &volume(machine, ""))).unwrap_or_default();
        own.iter().filter_map(|(_, volume)| volume.info().ok()).map(|info| info.allocation).sum()
    }

    /// Removes a machine's volumes, and what libvirt has made beside them. No error when there are none.
    pub fn remove(&self, session: &Session, machine: &str, tried: &str) -> Result<(), HypervisorError> {
        let gone = || -> Result<(), Error> {
            let pool = match self.open(session) {
                Err(error) if number(&error) == Some(ErrorNumber::NoStoragePool) => return Ok(()),
                other => other?,
            };
            beginning(&pool, &volume(machine, ""))?.iter().try_for_each(|(_, own)| own.delete(0))
        };
        gone().map_err(|error| unpooled(tried, &error))
    }

    /// The lab's images that are there, also by half.
    pub fn sent(&self, session: &Session, tried: &str) -> Result<Vec<Sent>, HypervisorError> {
        let list = || -> Result<Vec<Sent>, Error> {
            let mut sent = Vec::new();
            for (name, there) in beginning(&self.open(session)?, &self.name_of(""))? {
                let hex = name.strip_prefix(&self.name_of("")).and_then(|rest| rest.strip_suffix(IMAGE));
                if let Some(image) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                    sent.push(Sent { image, bytes: there.info()?.allocation });
                }
            }
            Ok(sent)
        };
        list().map_err(|error| unpooled(tried, &error))
    }

    /// Removes an image. No error when it is not there.
    pub fn discard(&self, session: &Session, image: Digest, tried: &str) -> Result<(), HypervisorError> {
        let _not_meanwhile = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || -> Result<(), Error> {
            let pool = self.open(session)?;
            [MARK, IMAGE].iter().try_for_each(|what| remove(&pool, &self.name_of(&format!("{}{what}", image.hex()))))
        };
        gone().map_err(|error| unpooled(tried, &error))
    }

    /// Bytes that are free.
    pub fn free(&self, session: &Session, tried: &str) -> Result<u64, HypervisorError> {
        let ask = || -> Result<u64, Error> {
            let pool = self.open(session)?;
            refresh(&pool);
            Ok(pool.info()?.available)
        };
        ask().map_err(|error| unpooled(tried, &error))
    }

    /// What the lab's own volumes are called.
    fn name_of(&self, rest: &str) -> String {
        format!("patchlab-{}-{rest}", self.lab)
    }
}

/// Has libvirt look at the folder again. It does not while something is being sent; what it knows then is good enough.
fn refresh(pool: &StoragePool) {
    if let Err(error) = pool.refresh(0) {
        tracing::debug!(%error, "the pool was not looked at again");
    }
}

/// The volumes whose names begin like this.
fn beginning(pool: &StoragePool, start: &str) -> Result<Vec<(String, StorageVol)>, Error> {
    refresh(pool);
    let named = pool.list_all_volumes(0)?.into_iter().map(|volume| Ok((volume.name()?, volume)));
    named.filter(|named| named.as_ref().map_or(true, |(name, _)| name.starts_with(start))).collect()
}

fn volume(machine: &str, own: &str) -> String {
    format!("{machine}.{own}")
}

/// A volume of plain bytes. QEMU's user, whom nobody here knows, is to read it.
fn raw(name: String, length: u64) -> Element {
    let permissions = element("permissions").holding([text("mode", "0644")]);
    element("volume").holding([
        text("name", name),
        text("capacity", length.to_string()).with("unit", "bytes"),
        text("allocation", "0"),
        element("target").holding([element("format").with("type", "raw"), permissions]),
    ])
}

/// An overlay on top of an image.
fn on_top(name: String, image: &Path) -> Element {
    let format = || element("format").with("type", "qcow2");
    let below = element("backingStore").holding([text("path", image.to_string_lossy()), format()]);
    element("volume").holding([text("name", name), element("target").holding([format()]), below])
}

fn make(pool: &StoragePool, volume: Element) -> Result<StorageVol, Broken> {
    Ok(StorageVol::create_xml(pool, &volume.to_document()?, 0)?)
}

fn find(pool: &StoragePool, name: &str) -> Result<Option<StorageVol>, Error> {
    match pool.lookup_storage_vol_by_name(name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if number(&error) == Some(ErrorNumber::NoStorageVolume) => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(pool: &StoragePool, name: &str) -> Result<(), Error> {
    find(pool, name)?.map_or(Ok(()), |found| found.delete(0))
}

/// How long a volume's file is.
fn bytes(volume: &StorageVol) -> Result<u64, Error> {
    volume.info_flags(sys::VIR_STORAGE_VOL_GET_PHYSICAL).map(|info| info.allocation)
}

/// Sends a whole file, and says now and then how far it is.
fn send(session: &Session, to: &StorageVol, mut from: File, length: u64, mut told: impl FnMut(u64)) -> Result<(), Broken> {
    let stream = Stream::new(&session.connection, 0)?;
    to.upload(&stream, 0, length, 0)?;
    let (mut piece, mut sent, mut last) = (vec![0; PIECE], 0_u64, Instant::now());
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                let _ = stream.abort();
                return Err(error.into());
            }
        };
        let mut rest = &piece[..read];
        while !rest.is_empty() {
            let taken = stream.send(rest)?;
            rest = rest.get(usize::try_from(taken).unwrap_or(0)..).unwrap_or_default();
        }
        sent += read as u64;
        if last.elapsed() > TOLD {
            last = Instant::now();
            told(sent);
        }
    }
    Ok(stream.finish()?)
}

/// Reads so many bytes of a volume.
fn receive(session: &Session, from: &StorageVol, offset: u64, length: u64, mut take: impl FnMut(&[u8])) -> Result<(), Broken> {
    let stream = Stream::new(&session.connection, 0)?;
    from.download(&stream, offset, length, 0)?;
    let mut piece = vec![0; PIECE];
    loop {
        match usize::try_from(stream.recv(&mut piece)?) {
            Ok(0) | Err(_) => break,
            Ok(read) => take(&piece[..read]),
        }
    }
    Ok(stream.finish()?)
}
