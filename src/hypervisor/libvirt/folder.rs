//! A machine's folder, or a network's, `<state>/machines/<name>/`: what was intended, what it wrote, and what it costs.
//!
//! | file | what |
//! | --- | --- |
//! | `tag.json` | whose it is; written first, removed last |
//! | `overlay.qcow2` | what the guest changed of its image |
//! | `variables.fd` | UEFI variables |
//! | `template.qcow2` | of a machine made on a template: its disk, by a link of its own, so that the template may go |
//! | `below.qcow2` | the same of the template that the template's machine had been made on, where it had |
//! | `memory.save`, `thaw.xml`, `drive.xml` | the same machine's memory, and what it is to be when it goes on; gone once it does |
//! | `*.pcap` | of a network: the frames of its segments |
//! | `console.log` | serial console, and SeaBIOS's debug port; QEMU appends |
//!
//! Invariant: a console's offsets never move, and its file never takes much more than [`CONSOLE_KEPT`] on disk however much the guest writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};

use super::domain::Files;
use super::embed::Runner;
use crate::hypervisor::Tag;
use crate::id::Name;

/// The most that one call reads of a console.
pub const CONSOLE_READ: u64 = 1 << 20;
/// A console longer than twice this loses its middle: its first MiB and at least its last this many bytes stay.
const CONSOLE_KEPT: u64 = 16 << 20;
const CONSOLE_HEAD: u64 = 1 << 20;

/// Makes the folder and its tag; fails when there is one already.
pub fn make(folder: &Path, tag: &Tag) -> io::Result<()> {
    if let Some(machines) = folder.parent() {
        fs::create_dir_all(machines)?;
    }
    fs::create_dir(folder)?;
    fs::write(folder.join("tag.json"), serde_json::to_vec_pretty(tag)?)
}

/// The captures in a network's folder, by segment.
pub fn captures(folder: &Path) -> io::Result<Vec<(Name, PathBuf)>> {
    let mut captures = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        let segment = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(segment) = segment.filter(|_| file.extension().is_some_and(|extension| extension == "pcap")) {
            captures.push((segment, file));
        }
    }
    captures.sort();
    Ok(captures)
}

/// A file of a machine's folder, and of a template's.
pub const MEMORY: &str = "memory.save";
pub const DISK: &str = "disk.qcow2";
/// What the disk of a template refers to that lies on another's.
pub const BELOW: &str = "below.qcow2";
pub const VARIABLES: &str = "variables.fd";
pub const CONSOLE: &str = "console.log";

/// Takes what a template has of a machine's disk and memory into the machine's folder, by links.
pub fn link_template(folder: &Path, template: &Path) -> io::Result<()> {
    fs::hard_link(template.join(DISK), Files::of(folder).template)?;
    if template.join(BELOW).exists() {
        fs::hard_link(template.join(BELOW), folder.join(BELOW))?;
    }
    link_memory(folder, template)
}

/// The memory alone, of a machine whose disk is elsewhere.
pub fn link_memory(folder: &Path, template: &Path) -> io::Result<()> {
    fs::hard_link(template.join(MEMORY), folder.join(MEMORY))
}

/// The disk below that of the machine's template, if there is one.
pub fn below(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(BELOW)).filter(|below| below.exists())
}

/// Moves what a machine that ended has left into a template's folder, where its memory is already. Nobody writes to it any more.
pub fn into_template(folder: &Path, template: &Path) -> io::Result<()> {
    fs::rename(Files::of(folder).overlay, template.join(DISK))?;
    let below = Files::of(folder).template;
    if below.exists() {
        fs::hard_link(below, template.join(BELOW))?;
    }
    let variables = Files::of(folder).variables;
    if variables.exists() {
        fs::write(template.join(VARIABLES), fs::read(variables)?)?;
    }
    fs::copy(Files::of(folder).console, template.join(CONSOLE))?;
    for file in [DISK, MEMORY, VARIABLES, CONSOLE].map(|file| template.join(file)).iter().filter(|file| file.exists()) {
        if nix::unistd::Uid::effective().is_root() {
            std::os::unix::fs::chown(file, Some(0), Some(0))?;
        }
        // The user who runs QEMU reads the disk; the memory is handed over opened, and may hold secrets.
        let mode = if file.ends_with(DISK) { 0o444 } else { 0o400 };
        fs::set_permissions(file, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Puts the console and, where there are any, the UEFI variables beside the overlay, and gives all three to the user who runs QEMU.
/// The console begins with what `said` holds.
pub fn furnish(folder: &Path, variables: Option<&Path>, said: Option<&Path>, runner: Option<&Runner>) -> io::Result<()> {
    let console = Files::of(folder).console;
    fs::write(&console, said.map(fs::read).transpose()?.unwrap_or_default())?;
    let mut files = vec![Files::of(folder).overlay, console];
    if let Some(template) = variables {
        let copy = Files::of(folder).variables;
        // Contents only: the template's mode may be read-only.
        fs::write(&copy, fs::read(template)?)?;
        files.push(copy);
    }
    match runner {
        Some(runner) if nix::unistd::Uid::effective().is_root() => {
            files.iter().try_for_each(|file| std::os::unix::fs::chown(file, Some(runner.uid), Some(runner.gid)))
        }
        _ => Ok(()),
    }
}

/// Removes the folder, its tag last. No error when it is not there.
pub fn remove(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        match (entry.file_name() == "tag.json", entry.file_type()?.is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir_all(entry.path())?,
            (false, false) => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir_all(folder)
}

/// The names of all folders.
pub fn all(machines: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(machines) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok()).transpose();
    entries.filter_map(name).collect()
}

/// Whose the folder is, if its tag was ever written whole.
pub fn tag(folder: &Path) -> Option<Tag> {
    fs::read(folder.join("tag.json")).ok().and_then(|text| serde_json::from_slice(&text).ok())
}

/// What the folder takes on disk.
pub fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.blocks() * 512).sum()
}

/// The console from `offset` on, a bounded piece.
pub fn console(folder: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(Files::of(folder).console)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(CONSOLE_READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How long the console is. One that a guest has flooded gives its middle back to the host: zeros from there on.
pub fn console_bytes(folder: &Path) -> u64 {
    let path = Files::of(folder).console;
    let Ok(found) = fs::metadata(&path) else { return 0 };
    if found.blocks() * 512 > 2 * CONSOLE_KEPT {
        let hole = |length: u64| -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(&path)?;
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let (from, length) = (CONSOLE_HEAD.try_into().map_err(io::Error::other)?, length.try_into().map_err(io::Error::other)?);
            fallocate(&file, flags, from, length).map_err(io::Error::from)
        };
        if let Err(error) = hole(found.len().saturating_sub(CONSOLE_HEAD + CONSOLE_KEPT).max(1)) {
            tracing::warn!(path = %path.display(), %error, "flooded console not shortened");
        }
    }
    found.len()
}

/// Whether a machine may be called so: a plain file name, short enough for everything that is named after it.
pub fn good_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && c != '/';
    (1..=60).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

/// The folder of a machine.
pub fn of(machines: &Path, name: &str) -> PathBuf {
    machines.join(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a\nb", &"x".repeat(61)] {
            assert!(!good_name(bad), "{bad:?}");
        }
        assert!(good_name("0195-acme.web@virtio-bios-a"));
    }

    #[test]
    fn a_flooded_console_keeps_its_ends_and_its_offsets() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = File::create(Files::of(folder.path()).console).expect("made");
        let piece = vec![b'x'; 1 << 20];
        (0..40).for_each(|_| file.write_all(&piece).expect("written"));
        file.write_all(b"the end").expect("written");
        let length = console_bytes(folder.path());
        assert_eq!(length, (40 << 20) + 7);
        assert!(bytes(folder.path()) <= CONSOLE_KEPT + CONSOLE_HEAD + (1 << 20), "{}", bytes(folder.path()));
        assert_eq!(console(folder.path(), 0).expect("read"), piece);
        assert!(console(folder.path(), length - 7).expect("read").ends_with(b"the end"));
        assert_eq!(console(folder.path(), length + 5).expect("read"), b"");
    }

    #[test]
    fn captures_are_found_whoever_wrote_them() {
        let home = tempfile::tempdir().expect("a folder");
        assert!(captures(&home.path().join("gone")).is_err());
        for file in ["store.pcap", "lan.pcap", "tag.json", "No Name.pcap"] {
            fs::write(home.path().join(file), "").expect("written");
        }
        let found: Vec<String> = captures(home.path()).expect("read").iter().map(|(segment, _)| segment.to_string()).collect();
        assert_eq!(found, ["lan", "store"]);
    }

    #[test]
    fn removing_is_idempotent() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = of(home.path(), "m");
        remove(&folder).expect("nothing to do");
        fs::create_dir_all(folder.join("deep/er")).expect("made");
        fs::write(folder.join("tag.json"), "half").expect("written");
        assert_eq!(tag(&folder), None);
        remove(&folder).expect("removed");
        assert_eq!(all(home.path()).expect("listed"), Vec::<String>::new());
    }
}
