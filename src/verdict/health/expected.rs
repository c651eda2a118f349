//! Which paths may change: what changes by itself on every Linux, what the build says is volatile, what the patch declares and what its
//! packages bring along.

use std::collections::{BTreeMap, BTreeSet};

use super::pattern::covers;
use super::{HealthContext, packages};
use crate::verdict::health::facts::Facts;

/// Changes by itself, on every machine: state, caches, logs. Folders among these are still held to their existence, mode and owner.
const ALWAYS: [&str; 49] = [
    "*/.bash_history",
    "*/.cache",
    "*/.lesshst",
    "*/.viminfo",
    "*/.wget-hsts",
    "*/__pycache__",
    "*.pyc",
    "/boot/grub/grubenv",
    "/core",
    "/etc/.pwd.lock",
    "/etc/.updated",
    "/etc/adjtime",
    "/etc/cups/subscriptions.conf*",
    "/etc/ld.so.cache",
    "/etc/lvm/archive",
    "/etc/lvm/backup",
    "/etc/udev/hwdb.bin",
    "/forcefsck",
    "/swapfile",
    "/usr/lib/udev/hwdb.bin",
    "/var/.updated",
    "/var/backups",
    "/var/cache",
    "/var/lib/NetworkManager",
    "/var/lib/PackageKit",
    "/var/lib/apt",
    "/var/lib/chrony",
    "/var/lib/dbus/machine-id",
    "/var/lib/dhcp",
    "/var/lib/dpkg/available*",
    "/var/lib/dpkg/lock*",
    // What it says is for the checks of packages.
    "/var/lib/dpkg/status*",
    "/var/lib/dpkg/triggers",
    "/var/lib/fwupd",
    "/var/lib/logrotate",
    "/var/lib/man-db",
    "/var/lib/nginx",
    "/var/lib/ntp*",
    "/var/lib/patchlab",
    "/var/lib/plymouth",
    "/var/lib/private",
    "/var/lib/sudo",
    "/var/lib/systemd",
    "/var/lib/upower",
    "/var/lib/usbutils",
    "/var/log",
    "/var/mail",
    "/var/spool",
    "/var/tmp",
];

/// Made again by maintainer scripts and triggers whenever packages are installed.
const WITH_PACKAGES: [&str; 36] = [
    "/boot/System.map-*",
    "/boot/config-*",
    "/boot/efi",
    "/boot/grub",
    "/boot/initrd.img-*",
    "/boot/vmlinuz-*.old",
    "/etc/alternatives",
    "/etc/ca-certificates.conf",
    "/etc/init.d/.depend.*",
    "/etc/mailcap",
    "/etc/rc?.d",
    "/etc/shells",
    "/etc/ssl/certs",
    "/initrd.img*",
    "/usr/lib/*/gconv/gconv-modules.cache",
    "/usr/lib/*/gdk-pixbuf-2.0/*/loaders.cache",
    "/usr/lib/*/gio/modules/giomodule.cache",
    "/usr/lib/locale/locale-archive",
    "/usr/lib/mime/packages",
    "/usr/lib/modules/*/modules.*",
    "/usr/share/applications/mimeinfo.cache",
    "/usr/share/glib-2.0/schemas/gschemas.compiled",
    "/usr/share/icons/*/icon-theme.cache",
    "/usr/share/info/dir*",
    "/usr/share/mime",
    "/var/lib/dpkg",
    "/var/lib/gconf",
    "/var/lib/ghostscript",
    "/var/lib/initramfs-tools",
    "/var/lib/needrestart",
    "/var/lib/pam",
    "/var/lib/python",
    "/var/lib/shim-signed",
    "/var/lib/ucf",
    "/var/lib/xml-core",
    "/vmlinuz*",
];

/// Made anew by a tool of the distribution with other bytes each time, for times of files are part of it: that they differ says nothing.
const NEVER_THE_SAME: [&str; 1] = ["/boot/initrd.img-*"];

/// Files that the accounts check and the DNS check look at, so that one change is one problem.
pub(super) const CHECKED_ELSEWHERE: [&str; 14] = [
    "/etc/group",
    "/etc/group-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/localtime",
    "/etc/passwd",
    "/etc/passwd-",
    "/etc/resolv.conf",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/subgid",
    "/etc/subgid-",
    "/etc/subuid",
    "/etc/subuid-",
];

/// Whether a patch of another kind than `deb` says that it installs packages: by declaring dpkg's database.
pub(super) fn declares_packages(context: &HealthContext) -> bool {
    let mut patterns = context.patches.iter().flat_map(|patch| &patch.manifest.changes);
    patterns.any(|pattern| covers(pattern, "/var/lib/dpkg/status"))
}

/// Answers for one comparison.
pub(super) struct Expected<'a> {
    volatile: &'a [String],
    declared: BTreeSet<&'a str>,
    patterns: Vec<&'a str>,
    with_packages: bool,
    /// Paths of the patch's packages, before or after.
    owned: BTreeSet<String>,
    /// For every path that dpkg knows: its packages.
    owners: BTreeMap<String, BTreeSet<String>>,
    packages: BTreeSet<&'a str>,
    unit_names: BTreeSet<String>,
    fresh_machine_id: bool,
}

impl<'a> Expected<'a> {
    pub(super) fn new(context: &'a HealthContext, before: &Facts, now: &Facts) -> Self {
        let packages = packages::declared(context);
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in before.lines("owned").iter().chain(now.lines("owned")) {
            let Some((package, path)) = line.split_once(' ') else { continue };
            let name = package.split(':').next().unwrap_or(package);
            owners.entry(merged(path)).or_default().insert(name.to_owned());
        }
        let owned: BTreeSet<String> = owners
            .iter()
            .filter(|(_, names)| names.iter().any(|name| packages.contains(name.as_str())))
            .map(|(path, _)| path.clone())
            .collect();
        let unit_names = owned
            .iter()
            .filter(|path| path.contains("/systemd/system/"))
            .filter_map(|path| path.rsplit('/').next())
            .map(str::to_owned)
            .collect();
        let machine_id = before.lines("contents").iter().find_map(|line| line.strip_prefix("/etc/machine-id\t"));
        Self {
            volatile: &context.volatile,
            declared: context.patches.iter().flat_map(|patch| &patch.facts.paths).map(String::as_str).collect(),
            patterns: context.patches.iter().flat_map(|patch| &patch.manifest.changes).map(String::as_str).collect(),
            with_packages: context.bring_packages() || declares_packages(context),
            owned,
            owners,
            packages,
            unit_names,
            fresh_machine_id: machine_id.is_none_or(|id| id.len() != 32),
        }
    }

    /// It changes by itself, whatever the patch.
    pub(super) fn is_volatile(&self, path: &str) -> bool {
        ALWAYS.iter().any(|pattern| covers(pattern, path))
            || self.volatile.iter().any(|pattern| covers(pattern, path))
            || (path == "/etc/machine-id" && self.fresh_machine_id)
    }

    /// The patch may change it.
    pub(super) fn is_patched(&self, path: &str) -> bool {
        self.declared.contains(path)
            || self.patterns.iter().any(|pattern| covers(pattern, path))
            || (self.with_packages && self.comes_with_packages(path))
    }

    /// The patch may change it, and it differs whenever it is made again.
    pub(super) fn is_remade(&self, path: &str) -> bool {
        self.is_patched(path) && NEVER_THE_SAME.iter().any(|pattern| covers(pattern, path))
    }

    /// Whether the manifest names the place, something in it or the folder that it is in.
    pub(super) fn declares(&self, place: &str) -> bool {
        let inside = |path: &str| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.declared.iter().any(|path| inside(path)) || self.patterns.iter().any(|pattern| inside(pattern) || covers(pattern, place))
    }

    /// A folder on the way to a file that the patch puts into place.
    pub(super) fn leads_to_patch(&self, path: &str) -> bool {
        self.declared.iter().any(|target| target.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    fn comes_with_packages(&self, path: &str) -> bool {
        if self.owned.contains(path) || WITH_PACKAGES.iter().any(|pattern| covers(pattern, path)) {
            return true;
        }
        // dpkg's own copies beside a package's file, and made files beside them in a folder that is the patch's alone.
        let plain = [".dpkg-dist", ".dpkg-old", ".dpkg-bak", ".ucf-dist", ".ucf-old"].iter().find_map(|suffix| path.strip_suffix(suffix));
        if plain.is_some_and(|plain| self.owned.contains(plain)) {
            return true;
        }
        let unit = path.strip_prefix("/etc/systemd/").and_then(|rest| rest.rsplit('/').next());
        if unit.is_some_and(|unit| self.unit_names.contains(unit)) {
            return true;
        }
        path.match_indices('/')
            .skip(1)
            .any(|(at, _)| self.owners.get(&path[..at]).is_some_and(|names| names.iter().all(|name| self.packages.contains(name.as_str()))))
    }

    /// " (package nginx)", for a file that some package owns.
    pub(super) fn owner(&self, path: &str) -> String {
        let Some(names) = self.owners.get(path) else { return String::new() };
        format!(" (package {})", names.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    }
}

/// A path as it is on a system whose /bin, /sbin and /lib* are links into /usr, as Debian 12's are.
fn merged(path: &str) -> String {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let moved = matches!(first, "bin" | "sbin" | "lib" | "lib32" | "lib64" | "libx32") && path.trim_start_matches('/').len() > first.len();
    if moved { format!("/usr{path}") } else { path.to_owned() }
}
