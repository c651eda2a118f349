//! `patchlab doctor`: what this host lacks, in plain words, and the command that mends it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{Answer, Format};
use super::context::Context;
use super::error::{Exit, Failure};
use super::print;
use crate::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use crate::catalog::load::load;
use crate::hypervisor::libvirt::{lacking, overprivileged};
use crate::id::Name;
use crate::lab::pause;
use crate::lab::sites::Sites;

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Checked {
    what: String,
    sound: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// A program, what it is for, and its Debian package.
const PROGRAMS: [(&str, &str, &str); 10] = [
    ("qemu-system-x86_64", "runs the machines", "qemu-system-x86"),
    ("qemu-img", "makes overlays and converts disks", "qemu-utils"),
    ("xorrisofs", "makes the payload disk", "xorriso"),
    ("dpkg-deb", "reads Debian packages", "dpkg"),
    ("mmdebstrap", "builds images", "mmdebstrap"),
    ("sfdisk", "partitions images", "fdisk"),
    ("mke2fs", "fills image file systems", "e2fsprogs"),
    ("mkfs.vfat", "makes EFI partitions", "dosfstools"),
    ("mcopy", "fills EFI partitions", "mtools"),
    ("newuidmap", "builds images as an ordinary user", "uidmap"),
];

const FILES: [(&str, &str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "UEFI firmware", "ovmf"),
    ("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so", "libvirt's QEMU driver", "libvirt-daemon-driver-qemu"),
];

/// Two images, their overlays and what building one needs besides.
const ROOM: u64 = 4 << 30;

pub async fn doctor(context: &Context, answer: &Answer) -> Result<Exit, Failure> {
    let mut checked = Vec::new();
    for (program, purpose, package) in PROGRAMS {
        let root = nix::unistd::geteuid().is_root();
        let needless = program == "newuidmap" && root;
        let found = find(program);
        checked.push(Checked {
            what: format!("{program} ({purpose})"),
            sound: found.is_some() || needless,
            found: found.map_or(if needless { "not needed as root" } else { "not found" }.to_owned(), |path| path.display().to_string()),
            mend: Some(format!("apt-get install {package}")),
        });
    }
    for (file, purpose, package) in FILES {
        let there = Path::new(file).exists();
        let found = if there { file.to_owned() } else { format!("{file} is not there") };
        checked.push(Checked { what: purpose.to_owned(), sound: there, found, mend: Some(format!("apt-get install {package}")) });
    }
    checked.extend(profiles(&context.folder));
    checked.push(room(&context.state.folder));
    checked.extend(overprivileged().map(|mend| Checked {
        what: "who runs QEMU".to_owned(),
        sound: true,
        found: format!("root, not its own user: {mend}"),
        mend: None,
    }));
    checked.extend(hypervisor(context).await);
    for one in &mut checked {
        one.mend = one.mend.take().filter(|_| !one.sound);
    }
    match answer.format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&checked).map_err(Failure::lab)?))?,
        Format::Human => {
            for one in &checked {
                print(&format!("{:8} {}: {}\n", if one.sound { "ok" } else { "MISSING" }, one.what, one.found))?;
                if let Some(mend) = &one.mend {
                    print(&format!("         mend it with: {mend}\n"))?;
                }
            }
        }
    }
    let lacking = checked.iter().filter(|one| !one.sound).count();
    if lacking == 0 { Ok(Exit::Pass) } else { Err(Failure::usage(format!("{lacking} of {} things are missing", checked.len()))) }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An ordinary user's path may lack the administrator's programs.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What the catalog's hardware profiles need of this host, each lacking thing with the profiles that want it.
fn profiles(lab: &Path) -> Vec<Checked> {
    let one = |what: &str, sound, found: String, mend| Checked { what: what.to_owned(), sound, found, mend };
    let needs = "what the hardware profiles need";
    let Some(catalog) = load(lab).catalog else {
        return vec![one(needs, true, "not looked at: the catalog has mistakes (`patchlab check`)".to_owned(), None)];
    };
    let mut lacks: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for (name, profile) in &catalog.hardware {
        for lack in lacking(profile) {
            lacks.entry(lack.what).or_insert((lack.packages, Vec::new())).1.push(name.as_str());
        }
    }
    if lacks.is_empty() {
        return vec![one(needs, true, format!("all there for {} of them", catalog.hardware.len()), None)];
    }
    let told = |(what, (packages, names)): (String, (&str, Vec<&str>))| {
        one(&what, false, format!("not found; wanted by {}", names.join(", ")), Some(format!("apt-get install {packages}")))
    };
    lacks.into_iter().map(told).collect()
}

fn room(state: &Path) -> Checked {
    let what = "room for images and machines".to_owned();
    match nix::sys::statvfs::statvfs(state) {
        Ok(disk) => {
            let free = disk.blocks_available() * disk.fragment_size();
            let mend = Some(format!("free {} GiB, or name another folder with --state", ROOM >> 30));
            Checked { what, sound: free >= ROOM, found: format!("{} GiB free in {}", free >> 30, state.display()), mend }
        }
        Err(errno) => Checked { what, sound: false, found: errno.to_string(), mend: Some("name another folder with --state".to_owned()) },
    }
}

/// What the machines run on, each host if there are several, and whether their first boots can serve later clones.
async fn hypervisor(context: &Context) -> Vec<Checked> {
    let what = "hypervisor".to_owned();
    let _lock = match context.state.lock() {
        Ok(lock) => lock,
        Err(busy) => return vec![Checked { what, sound: true, found: format!("not looked at: {busy}"), mend: None }],
    };
    let opened = async { Ok::<_, Failure>(context.sites(context.journal().await?)?) };
    let sites = match opened.await {
        Ok(sites) => sites,
        Err(failure) => {
            let mend = Some("put [[host]] in patchlab.toml, or --hypervisor, right".to_owned());
            return vec![Checked { what, sound: false, found: failure.message, mend }];
        }
    };
    let mut checked = Vec::new();
    let hosts = context.settled_hosts().unwrap_or_default();
    let elsewhere = |name: &Name| hosts.iter().any(|host| host.name == *name && !host.is_own());
    for name in &sites.names {
        let several = sites.names.len() > 1;
        let (what, templates) =
            if several { (format!("host {name}"), format!("templates on host {name}")) } else { (what.clone(), "templates".to_owned()) };
        checked.extend(one_host(&sites, name, (what, templates), elsewhere(name)).await);
        match pause::read(&context.state.folder, Some(name)) {
            Ok(Some(pause)) if several => {
                checked.push(Checked { what: format!("whether host {name} is paused"), sound: true, found: pause.told(), mend: None });
            }
            _ => {}
        }
    }
    checked
}

async fn one_host(sites: &Sites, name: &Name, (what, templates): (String, String), elsewhere: bool) -> Vec<Checked> {
    let plain = Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    let opened = sites.get(name).await.map_err(Failure::from);
    match opened.map(|site| (site.controller.host, site.hypervisor.unfreezable(&plain))) {
        Ok((host, unfreezable)) => {
            let found = format!("{}: {}; QEMU {}, libvirt {}", host.accelerator, host.accelerator_reason, host.qemu, host.libvirt);
            let frozen = unfreezable.map_or("machines go on from a boot before".to_owned(), |why| format!("every machine boots: {why}"));
            let templates = Checked { what: templates, sound: true, found: frozen, mend: None };
            vec![Checked { what, sound: true, found, mend: None }, templates]
        }
        Err(failure) => {
            let mend = if elsewhere {
                format!("see to libvirt on {name}, or to its [[host]] in patchlab.toml")
            } else {
                "apt-get install libvirt-daemon-driver-qemu libvirt-daemon-system qemu-system-x86".to_owned()
            };
            vec![Checked { what, sound: false, found: failure.message, mend: Some(mend) }]
        }
    }
}
