//! Templates: a machine frozen in the middle of its life, and machines that go on from there.
//!
//! A clone is no copy by libvirt's own means: those refuse another name and UUID. Its memory is the template's behind a definition of its
//! own ([`super::saved`]). What the guest's memory says of its NICs stays until the guest is told; see the lab's renewal.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::domain::{Domain, Nic};
use super::error::{failure, file, refused};
use super::saved::Resumed;
use super::session::Session;
use super::{Inner, facts, folder};
use crate::catalog::hardware::{DiskBus, Hardware};
use crate::hypervisor::{HypervisorError, HypervisorErrorKind, OnTemplate};

/// What a machine is when it goes on, and its drive with the media, as they lie in its folder until then.
const DEFINITION: &str = "thaw.xml";
const DRIVE: &str = "drive.xml";
/// The pipe through which libvirt gets the memory behind the machine's own definition.
const RESUMED: &str = "resume.save";
/// Bytes that the pipe holds at once.
const PIPE: i32 = 1 << 20;

/// Why no machine of this hardware can be frozen here. In a storage pool, saved memory can be got at wherever it is.
pub fn unfreezable(uri: &str, in_pool: bool, hardware: &Hardware) -> Option<String> {
    if !in_pool && !facts::switches_here(uri) {
        return Some(format!("{uri} is not a QEMU of this host, so saved memory can't be got at"));
    }
    if hardware.tpm().is_some() {
        return Some("its TPM holds secrets of its own, which clones would share".to_owned());
    }
    (hardware.disk == DiskBus::Nvme).then(|| "QEMU can't save the state of an NVMe disk".to_owned())
}

/// Writes down what a machine on a template will be when it is thawed: itself, but with the NICs' addresses and the drive that its
/// template had. (QEMU takes no state of an e1000e with another address.)
pub fn prepare(machine: &Domain, template: &OnTemplate, folder: &Path) -> io::Result<()> {
    let nics = machine.nics.iter().zip(&template.macs).map(|(nic, mac)| Nic { mac: *mac, ..nic.clone() }).collect();
    let media = machine.media.clone().filter(|_| template.media);
    let frozen = Domain { media, nics, ..machine.clone() };
    fs::write(folder.join(DEFINITION), frozen.to_xml()?)?;
    if machine.media.is_some() && !template.media {
        fs::write(folder.join(DRIVE), machine.drive_xml()?)?;
    }
    Ok(())
}

/// A pipe of this name, open at both ends, so that neither opening it nor writing into it ever waits for somebody who does not come.
fn pipe(path: &Path) -> io::Result<(File, File)> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let reader = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let writer = File::options().write(true).open(path)?;
    // Each filling wakes the reader; an unprivileged process may be refused so much room, and is slower then.
    let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE));
    Ok((reader, writer))
}

/// Has libvirt take a machine's memory through a pipe of this name.
fn resume(session: &Session, saved: Resumed, through: &Path, tried: &str) -> Result<(), HypervisorError> {
    let (reader, mut writer) = pipe(through).map_err(|error| file(tried, &error))?;
    std::thread::scope(|scope| {
        let written = scope.spawn(move || saved.write(&mut writer));
        let restored = session.restore(&through.to_string_lossy());
        // A writer whose reader did not come, or left, now sees that.
        drop(reader);
        match (restored, written.join()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => Err(file(tried, &error)),
            (Err(error), _) => Err(refused(tried, &error)),
        }
    })
}

impl Inner {
    /// Ends the machine, its memory in the folder `into`. Gives its folder.
    pub(super) fn save(&self, machine: &str, into: &Path, tried: &str) -> Result<PathBuf, HypervisorError> {
        let folder = folder::of(&self.machines, machine);
        if folder::below(&folder).is_some() {
            let found = "it was made on a template whose machine had been made on another";
            return Err(failure(HypervisorErrorKind::Refused, tried, found, super::MISTAKE));
        }
        let memory = into.join(folder::MEMORY);
        self.session()?.save(machine, &memory.to_string_lossy()).map_err(|error| refused(tried, &error))?;
        Ok(folder)
    }

    pub(super) fn thaw(&self, machine: &str, tried: &str) -> Result<(), HypervisorError> {
        let folder = folder::of(&self.machines, machine);
        let opened =
            fs::read_to_string(folder.join(DEFINITION)).and_then(|definition| Resumed::open(&definition, &folder.join(folder::MEMORY)));
        let saved = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let found = "there is no such machine, it was not made on a template, or it went on before";
                failure(HypervisorErrorKind::NoMachine, tried, found, "see `patchlab gc` for the machines that the lab has")
            }
            _ => file(tried, &error),
        })?;
        let session = self.session()?;
        let restored = match &self.pool {
            None => resume(&session, saved, &folder.join(RESUMED), tried),
            Some(pool) => {
                saved.in_place().map_err(|error| file(tried, &error)).and_then(|preamble| pool.resume(&session, machine, &preamble, tried))
            }
        };
        // They are of no more use, however it went.
        for used in [RESUMED, folder::MEMORY, DEFINITION] {
            let _ = fs::remove_file(folder.join(used));
        }
        restored?;
        match fs::read_to_string(folder.join(DRIVE)) {
            Ok(drive) => session.insert(machine, &drive).map_err(|error| refused(tried, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(file(tried, &error)),
        }
        fs::remove_file(folder.join(DRIVE)).map_err(|error| file(tried, &error))
    }
}
