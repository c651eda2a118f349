//! A storage pool's volumes: made, found, filled and read, by libvirt's means alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt_sys as sys;

use crate::hypervisor::libvirt::error::{file, number, refused};
use crate::hypervisor::libvirt::session::Session;
use crate::hypervisor::libvirt::xml::{Element, element, text};
use crate::hypervisor::{HypervisorError, HypervisorErrorKind};

/// What goes into a stream at once: what libvirt puts into one message.
const PIECE: usize = 256 << 10;
/// How often somebody who waits for much is told how far it is.
const TOLD: Duration = Duration::from_secs(10);

/// Why something could not be sent or read.
pub(super) enum Broken {
    File(io::Error),
    Libvirt(Error),
}

impl Broken {
    pub(super) fn told(self, tried: &str) -> HypervisorError {
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
pub(super) fn unpooled(tried: &str, error: &Error) -> HypervisorError {
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

/// A pool that was found, and its volumes.
pub(super) struct Volumes<'a> {
    pub pool: StoragePool,
    /// Held while a volume is made: libvirt looks at no folder then.
    pub changing: &'a Mutex<()>,
}

impl Volumes<'_> {
    /// Has libvirt look at the folder again. Where it does not, what it knows is good enough.
    pub fn refresh(&self) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.pool.refresh(0) {
            tracing::debug!(%error, "the pool was not looked at again");
        }
    }

    pub fn make(&self, volume: Element) -> Result<StorageVol, Broken> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(StorageVol::create_xml(&self.pool, &volume.to_document()?, 0)?)
    }

    /// Another with the same in it, copied on the pool's host.
    pub fn copy(&self, volume: Element, of: &StorageVol) -> Result<StorageVol, Broken> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(StorageVol::create_xml_from(&self.pool, &volume.to_document()?, of, 0)?)
    }

    pub fn find(&self, name: &str) -> Result<Option<StorageVol>, Error> {
        match self.pool.lookup_storage_vol_by_name(name) {
            Ok(found) => Ok(Some(found)),
            Err(error) if number(&error) == Some(ErrorNumber::NoStorageVolume) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.find(name)?.map_or(Ok(()), |found| found.delete(0))
    }

    /// Those whose names begin like this.
    pub fn beginning(&self, start: &str) -> Result<Vec<(String, StorageVol)>, Error> {
        self.refresh();
        let named = self.pool.list_all_volumes(0)?.into_iter().map(|volume| Ok((volume.name()?, volume)));
        named.filter(|named| named.as_ref().map_or(true, |(name, _)| name.starts_with(start))).collect()
    }

    /// Whether another lies on the volume of this name.
    pub fn is_below(&self, name: &str) -> Result<bool, Error> {
        let end = format!("/{name}<");
        for (_, volume) in self.beginning("")? {
            if volume.xml_desc(0)?.split_once("<backingStore>").is_some_and(|(_, below)| below.contains(&end)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A volume of plain bytes. QEMU's user, whom nobody here knows, is to read it.
pub(super) fn raw(name: String, length: u64) -> Element {
    let permissions = element("permissions").holding([text("mode", "0644")]);
    element("volume").holding([
        text("name", name),
        text("capacity", length.to_string()).with("unit", "bytes"),
        text("allocation", "0"),
        element("target").holding([element("format").with("type", "raw"), permissions]),
    ])
}

/// An overlay on top of an image.
pub(super) fn on_top(name: String, image: &Path) -> Element {
    let format = || element("format").with("type", "qcow2");
    let below = element("backingStore").holding([text("path", image.to_string_lossy()), format()]);
    element("volume").holding([text("name", name), element("target").holding([format()]), below])
}

/// How long a volume's file is.
pub(super) fn bytes(volume: &StorageVol) -> Result<u64, Error> {
    volume.info_flags(sys::VIR_STORAGE_VOL_GET_PHYSICAL).map(|info| info.allocation)
}

/// Tells now and then how much of so many bytes has gone its way.
pub(super) fn telling(what: &'static str, length: u64) -> impl FnMut(usize) {
    let (mut gone, mut told) = (0_u64, Instant::now());
    move |more| {
        gone += more as u64;
        if told.elapsed() > TOLD {
            told = Instant::now();
            tracing::info!("{what}: {} of {} MiB", gone >> 20, length >> 20);
        }
    }
}

/// Writes so many bytes over the beginning of a volume.
pub(super) fn send(
    session: &Session,
    to: &StorageVol,
    mut from: impl Read,
    length: u64,
    mut told: impl FnMut(usize),
) -> Result<(), Broken> {
    if length == 0 {
        return Ok(());
    }
    let stream = Stream::new(&session.connection, 0)?;
    to.upload(&stream, 0, length, 0)?;
    let mut piece = vec![0; PIECE];
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
        told(read);
    }
    Ok(stream.finish()?)
}

/// A volume of its own with what a file has.
pub(super) fn filled(session: &Session, volumes: &Volumes, name: String, from: &Path) -> Result<StorageVol, Broken> {
    let (file, length) = (File::open(from)?, from.metadata()?.len());
    let volume = volumes.make(raw(name, length))?;
    send(session, &volume, file, length, |_| {})?;
    Ok(volume)
}

/// Reads so many bytes of a volume.
pub(super) fn receive(
    session: &Session,
    from: &StorageVol,
    offset: u64,
    length: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Broken> {
    // Of a length of nothing libvirt would send all.
    if length == 0 {
        return Ok(());
    }
    let stream = Stream::new(&session.connection, 0)?;
    from.download(&stream, offset, length, 0)?;
    let mut piece = vec![0; PIECE];
    loop {
        let taken = match usize::try_from(stream.recv(&mut piece)?) {
            Ok(0) | Err(_) => break,
            Ok(read) => take(&piece[..read]),
        };
        if let Err(error) = taken {
            let _ = stream.abort();
            return Err(error.into());
        }
    }
    Ok(stream.finish()?)
}
