//! libvirt's QEMU driver inside this process: `qemu:///embed?root=DIR`. No daemon, no set-up by the user.
//!
//! ```text
//!  open ->  lock DIR (one process at a time)  ->  DIR/etc/qemu.conf  ->  short alias of DIR  ->  virConnectOpen
//! ```
//!
//! Invariants: a root is locked before libvirt sees it; QEMU runs as the least user that can reach the lab's files; machines outlive
//! the process, and the same root finds them again, so a root's alias never changes.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Group, Uid, User, getgrouplist};

use super::failure;
use crate::hypervisor::{HypervisorError, HypervisorErrorKind};
use crate::id::Digest;

/// Unix sockets have at most 107 bytes of path, and libvirt makes some of 81 bytes under the root
/// (`/lib/qemu/channel/target/domain-12345-twenty-bytes-of-name/org.qemu.guest_agent.0`).
const LONGEST_ROOT: usize = 26;
/// KVM's device.
pub const KVM: &str = "/dev/kvm";
/// libvirt's own log is begun anew beyond this size.
const LONGEST_LOG: u64 = 4 << 20;

/// Sends libvirt's own log lines into `<state>/libvirt/libvirt.log` instead of standard error. To be called before there is a second
/// thread and before anything of libvirt is: later, it does nothing.
pub fn quiet(state: &Path) {
    let alone = fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if !alone || std::env::var_os("LIBVIRT_LOG_OUTPUTS").is_some() {
        return;
    }
    let Ok(root) = root_of("qemu:///embed", state).and_then(|root| fs::create_dir_all(&root).map(|()| root)) else { return };
    let log = root.join("libvirt.log");
    // libvirt's list of outputs is separated by blanks and knows no quoting.
    if log.to_string_lossy().contains(char::is_whitespace) {
        return;
    }
    if fs::metadata(&log).is_ok_and(|log| log.len() > LONGEST_LOG) {
        let _ = fs::remove_file(&log);
    }
    // SAFETY: the only thread of this process is the one that runs this, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var("LIBVIRT_LOG_OUTPUTS", format!("3:file:{}", log.display())) };
}

/// A root that is set up and held.
pub struct Embedded {
    /// What libvirt is told to open.
    pub uri: String,
    /// Who runs QEMU.
    pub runner: Runner,
    /// The link that stands for the root, if it needs one.
    link: Option<PathBuf>,
    /// Held until the connection is closed.
    _lock: Flock<File>,
}

impl Drop for Embedded {
    /// Running machines do without the link; the next process makes it again.
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            let _ = fs::remove_file(link);
        }
    }
}

/// The user that QEMU runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// Locks and prepares the root that `uri` names, or `<state>/libvirt`.
pub fn set_up(uri: &str, state: &Path) -> Result<Embedded, HypervisorError> {
    let root = root_of(uri, state).map_err(|error| cannot("find the folder of the embedded libvirt", &error))?;
    let failed = |what: &str, error: io::Error| cannot(&format!("{what} {}", root.display()), &error);
    fs::create_dir_all(root.join("etc")).map_err(|error| failed("make the folder", error))?;
    let lock = lock(&root)?;
    let runner = runner(&root);
    let written = write_if_changed(&root.join("etc/qemu.conf"), &configuration(&root, &runner));
    written.map_err(|error| failed("write the configuration in", error))?;
    let name = alias(&root).map_err(|error| failed("make a short name for", error))?;
    let uri = format!("qemu:///embed?root={}", percent_encoded(&name.to_string_lossy()));
    Ok(Embedded { uri, runner, link: (name != root).then_some(name), _lock: lock })
}

/// The folder, absolute and without links.
fn root_of(uri: &str, state: &Path) -> io::Result<PathBuf> {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let named = query.split('&').find_map(|pair| pair.strip_prefix("root=")).map(percent_decoded).filter(|root| !root.is_empty());
    let root = std::path::absolute(named.map_or_else(|| state.join("libvirt"), PathBuf::from))?;
    // The folder itself may not exist yet, nor its parents.
    let known = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let rest = root.strip_prefix(known).map_err(io::Error::other)?;
    let known = known.canonicalize()?;
    // Joining nothing would leave a slash at the end, and another name for the same folder.
    Ok(if rest.as_os_str().is_empty() { known } else { known.join(rest) })
}

fn configuration(root: &Path, runner: &Runner) -> String {
    let quoted = |text: &str| text.replace(['"', '\\', '\n'], "");
    let group = Group::from_gid(runner.gid.into()).ok().flatten().map_or_else(|| format!("+{}", runner.gid), |group| group.name);
    let mut lines = vec![
        "# Written by patchlab at every start; changes are lost.".to_owned(),
        "# QEMU writes consoles itself: there is no virtlogd.".to_owned(),
        "stdio_handler = \"file\"".to_owned(),
        "# Files of a machine belong to it alone and go with it: no owner to remember.".to_owned(),
        "remember_owner = 0".to_owned(),
    ];
    if Uid::effective().is_root() {
        lines.push(format!("user = \"{}\"", quoted(&runner.name)));
        lines.push(format!("group = \"{}\"", quoted(&group)));
        lines.push("# TPM emulators run as the user that owns swtpm's own certificate authority, where that one gets here.".to_owned());
        let tpm = least_of(&["tss", "swtpm"], root);
        let group = Group::from_gid(tpm.gid.into()).ok().flatten().map_or_else(|| format!("+{}", tpm.gid), |group| group.name);
        lines.push(format!("swtpm_user = \"{}\"", quoted(&tpm.name)));
        lines.push(format!("swtpm_group = \"{}\"", quoted(&group)));
    }
    lines.join("\n") + "\n"
}

/// Root gives QEMU to the distribution's own user for it, when that one can reach the lab's files and sees KVM as root does; else keeps
/// it.
///
/// libvirt asks QEMU for what it can do with root's right to open files, and then looks whether QEMU's user may open `/dev/kvm`. Where
/// that isn't the same, it takes its answer for outdated at once and asks again at every step, each time for seconds: nothing starts.
pub fn runner(root: &Path) -> Runner {
    let lesser = least_of(&["libvirt-qemu", "qemu"], root);
    if lesser.is_kept_from_kvm() { least_of(&[], root) } else { lesser }
}

/// What keeps QEMU at root's rights, and how to mend it.
pub fn overprivileged() -> Option<String> {
    let lesser = Uid::effective().is_root().then(|| least_of(&["libvirt-qemu", "qemu"], Path::new("/")))?;
    let told = |kept: &Runner| {
        let group = Group::from_gid(kept.gid.into()).ok().flatten().map_or_else(|| kept.gid.to_string(), |group| group.name);
        format!("root alone opens {KVM}, which udev gives to a group elsewhere: chgrp {group} {KVM} && chmod 660 {KVM}")
    };
    lesser.is_kept_from_kvm().then(|| told(&lesser))
}

/// The first of these users that exists, when it can reach `root` and this process may become it; else this process's own.
fn least_of(names: &[&str], root: &Path) -> Runner {
    let me = User::from_uid(Uid::effective()).ok().flatten();
    let me = me.map_or_else(
        || Runner { name: format!("+{}", Uid::effective()), uid: Uid::effective().as_raw(), gid: nix::unistd::Gid::effective().as_raw() },
        |user| Runner { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() },
    );
    if !Uid::effective().is_root() {
        return me;
    }
    let known = names.iter().find_map(|name| User::from_name(name).ok().flatten());
    let lesser = known.map(|user| Runner { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() });
    lesser.filter(|lesser| lesser.reaches(root)).unwrap_or(me)
}

impl Runner {
    /// Whether this user can get at what is inside `folder`. Looks at modes only; a process of its groups' is taken for its group's.
    pub fn reaches(&self, folder: &Path) -> bool {
        self.uid == 0 || folder.ancestors().all(|folder| self.may(folder, 0o1))
    }

    /// Whether this user can read `file` and get there.
    pub fn reads(&self, file: &Path) -> bool {
        self.uid == 0 || (self.may(file, 0o4) && file.parent().is_none_or(|folder| self.reaches(folder)))
    }

    /// Whether this process opens KVM's device, which this user may not.
    fn is_kept_from_kvm(&self) -> bool {
        let opens = OpenOptions::new().read(true).write(true).open(KVM).is_ok();
        self.uid != 0 && opens && !(self.may(Path::new(KVM), 0o4) && self.may(Path::new(KVM), 0o2))
    }

    /// Whether it is of this group. libvirt gives QEMU all groups of its user.
    fn is_of(&self, group: u32) -> bool {
        let name = CString::new(self.name.as_str()).ok();
        let all = name.and_then(|name| getgrouplist(&name, self.gid.into()).ok()).unwrap_or_default();
        group == self.gid || all.iter().any(|gid| gid.as_raw() == group)
    }

    fn may(&self, path: &Path, bit: u32) -> bool {
        fs::metadata(path).is_ok_and(|found| {
            let shift = if found.uid() == self.uid {
                6
            } else if self.is_of(found.gid()) {
                3
            } else {
                0
            };
            found.permissions().mode() >> shift & bit != 0
        })
    }
}

/// One process at a time: libvirt's own answer to a second one is a riddle.
fn lock(root: &Path) -> Result<Flock<File>, HypervisorError> {
    let path = root.join("lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(|error| cannot(&format!("open {}", path.display()), &error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let noted = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
            noted.map_err(|error| cannot(&format!("write {}", path.display()), &error))?;
            Ok(lock)
        }
        Err((file, _)) => {
            let mut text = String::new();
            let _ = file.take(32).read_to_string(&mut text);
            Err(failure(
                HypervisorErrorKind::Refused,
                "open the embedded libvirt",
                &format!("{} is held by {}", root.display(), holder(text.trim())),
                "wait until that process ends, or use another --state folder",
            ))
        }
    }
}

/// The holder of the lock as a person would name it.
fn holder(pid: &str) -> String {
    let command = pid.parse::<u32>().ok().and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    let command = command.map(|line| String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned());
    match command.filter(|line| !line.is_empty()) {
        Some(command) => format!("process {pid} ({command})"),
        None if pid.is_empty() => "another process".to_owned(),
        None => format!("process {pid}"),
    }
}

/// Removes this user's links whose roots are gone: what killed processes left.
fn sweep_links(homes: &[&str]) {
    let entries = homes.iter().filter_map(|home| fs::read_dir(home).ok()).flatten().flatten();
    for link in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("pl-")).map(|entry| entry.path()) {
        let mine = fs::symlink_metadata(&link).is_ok_and(|about| about.is_symlink() && about.uid() == Uid::effective().as_raw());
        if mine && !link.exists() {
            // Somebody else may have been faster.
            let _ = fs::remove_file(&link);
        }
    }
}

/// A name for `root` short enough for libvirt's sockets: itself, or a link that is always the same for the same root.
fn alias(root: &Path) -> io::Result<PathBuf> {
    if root.as_os_str().len() <= LONGEST_ROOT {
        return Ok(root.to_owned());
    }
    let link = format!("pl-{}", Digest::of(root.as_os_str().as_encoded_bytes()).short());
    let homes = if Uid::effective().is_root() { ["/run", "/tmp"] } else { ["/tmp", "/var/tmp"] };
    sweep_links(&homes);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for link in homes.iter().map(|home| Path::new(home).join(&link)) {
        match std::os::unix::fs::symlink(root, &link) {
            Ok(()) => return Ok(link),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mine = fs::symlink_metadata(&link)?.uid() == Uid::effective().as_raw();
                if mine && fs::read_link(&link)? == root {
                    return Ok(link);
                }
                last = io::Error::other(format!("{} is in the way", link.display()));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) { Ok(()) } else { fs::write(path, text) }
}

fn cannot(tried: &str, error: &io::Error) -> HypervisorError {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let kind = if full { HypervisorErrorKind::NoSpace } else { HypervisorErrorKind::Refused };
    failure(kind, tried, &error.to_string(), "check the --state folder: it must be writable and on a local file system")
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        (bytes, rest) = match (first, pair) {
            (b'%', Some(byte)) => ([bytes, vec![byte]].concat(), &after[2..]),
            _ => ([bytes, vec![*first]].concat(), after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_survive_the_address() {
        let folder = tempfile::tempdir().expect("a folder");
        let odd = folder.path().canonicalize().expect("real").join("a b&c=%é?");
        let uri = format!("qemu:///embed?root={}", percent_encoded(&odd.to_string_lossy()));
        assert_eq!(root_of(&uri, Path::new("/nowhere")).expect("a root"), odd);
        assert_eq!(root_of("qemu:///embed", folder.path()).expect("a root"), folder.path().canonicalize().expect("real").join("libvirt"));
        fs::create_dir(folder.path().join("libvirt")).expect("made");
        let again = root_of("qemu:///embed", folder.path()).expect("a root");
        assert_eq!(again.as_os_str(), folder.path().canonicalize().expect("real").join("libvirt").as_os_str());
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
    }

    #[test]
    fn a_root_has_one_holder_who_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = lock(folder.path()).expect("free");
        let error = lock(folder.path()).expect_err("held");
        assert!(error.found.contains(&format!("process {} (", std::process::id())), "{error}");
        drop(held);
        lock(folder.path()).expect("free again");
    }

    #[test]
    fn long_roots_get_one_short_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let long = folder.path().join("x".repeat(80));
        fs::create_dir(&long).expect("made");
        let short = alias(&long).expect("a name");
        assert!(short.as_os_str().len() <= LONGEST_ROOT, "{}", short.display());
        assert_eq!(alias(&long).expect("again"), short);
        assert_eq!(short.canonicalize().expect("leads there"), long.canonicalize().expect("real"));
        fs::remove_file(short).expect("removed");
        assert_eq!(alias(Path::new("/srv/lab")).expect("short"), Path::new("/srv/lab"));
    }

    #[test]
    fn a_runner_reads_what_the_modes_allow() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("image");
        fs::write(&file, "").expect("written");
        let nobody = Runner { name: "nobody".to_owned(), uid: 65534, gid: 65534 };
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("set");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("set");
        assert!(nobody.reads(&file));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("set");
        assert!(!nobody.reads(&file));
        assert!(Runner { uid: 0, ..nobody }.reads(&file));
    }
}
