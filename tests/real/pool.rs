//! Images and machines' files in the storage pool of a real libvirt daemon that sees nothing of this lab's folders.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::hypervisor::libvirt::Libvirt;
use patchlab::hypervisor::{Hypervisor, MachineSpec, Sent, Tag};
use patchlab::id::{Digest, RunId};

use crate::daemons::Daemon;

const LAB: &str = "lab-of-the-test";

fn image(folder: &Path) -> (PathBuf, Digest) {
    let image = folder.join("image.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("64M").status();
    assert!(made.expect("qemu-img starts").success());
    let digest = Digest::of(fs::read(&image).expect("an image"));
    (image, digest)
}

fn machine(name: &str, firmware: Firmware, disk: DiskBus, (image, image_digest): (PathBuf, Digest), media: &Path) -> MachineSpec {
    let cell = "acme.web@virtio-bios".parse().expect("a cell");
    MachineSpec {
        name: name.to_owned(),
        tag: Tag { lab: LAB.to_owned(), run: RunId::from_parts(1_700_000_000_000, [7; 10]), cell, lease: name.to_owned() },
        hardware: Hardware::plain(Chipset::Q35, firmware, disk, NicModel::Virtio),
        image,
        image_digest,
        media: Some(media.to_owned()),
        template: None,
        nics: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a libvirt daemon: cargo test --test real distant -- --ignored"]
async fn distant_pool_has_each_image_once_and_whole_and_nothing_of_a_machine_that_is_gone() {
    let lab = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start("nobody", &[lab.path()]);
    let open = |pool| Libvirt::open(&daemon.uri(), Some(pool), lab.path(), LAB);
    let refused = open("nowhere").err().expect("there is no such pool");
    assert!(refused.found.contains("nowhere") && refused.hint.contains("virsh pool-list"), "{refused:?}");
    let libvirt = open("lab").expect("libvirt opens");
    assert!(libvirt.free().await.expect("told").is_some_and(|free| free > 1 << 20));

    let (image, digest) = image(lab.path());
    let media = lab.path().join("media.iso");
    fs::write(&media, vec![7; 300_000]).expect("written");
    let spec = |name, firmware| machine(name, firmware, DiskBus::Virtio, (image.clone(), digest), &media);
    let [there, mark] = ["qcow2", "whole"].map(|end| format!("patchlab-{LAB}-{}.{end}", digest.hex()));
    let alone = [there.clone(), mark.clone()];

    let xml = libvirt.create(&spec("one", Firmware::Uefi)).await.expect("made");
    assert!(!xml.contains(lab.path().to_str().expect("UTF-8")), "nothing of it is looked for here: {xml}");
    let same = |name: &str, as_here: &Path| assert!(fs::read(daemon.pool().join(name)).ok() == fs::read(as_here).ok(), "{name}");
    same(&there, &image);
    same("one.media.iso", &media);
    let sent = daemon.pool().join(&there).metadata().expect("sent").ino();
    libvirt.start("one").await.expect("started");
    assert!(daemon.volumes().contains(&"one.variables.fd".to_owned()), "{:?}", daemon.volumes());
    let vitals = libvirt.vitals("one").await.expect("told");
    assert!(vitals.running);
    assert!(libvirt.console("one", vitals.console_bytes).await.expect("read").len() < 1 << 20);
    assert!(libvirt.owned().await.expect("listed").iter().any(|one| one.machine == "one" && one.bytes > 300_000));
    libvirt.create(&spec("two", Firmware::Bios)).await.expect("made");
    assert_eq!(daemon.pool().join(&there).metadata().expect("sent").ino(), sent, "it is sent once");
    for name in ["one", "two", "one"] {
        libvirt.destroy(name).await.expect("gone");
    }
    assert_eq!(daemon.volumes(), alone);

    let whole = fs::read(&image).expect("an image");
    // What was sent by half has no mark; what is shorter than it was is noticed in spite of one.
    for (found, marked) in [(&whole[..1000], false), (&whole[..1000], true), (&vec![7; whole.len()][..], false)] {
        fs::write(daemon.pool().join(&there), found).expect("written");
        if !marked {
            fs::remove_file(daemon.pool().join(&mark)).expect("removed");
        }
        libvirt.create(&spec("three", Firmware::Bios)).await.expect("made");
        same(&there, &image);
        libvirt.destroy("three").await.expect("gone");
        assert_eq!(daemon.volumes(), alone);
    }

    // An image that is not what it is called leaves no trace.
    let other = Digest::of("another");
    let wrong = machine("four", Firmware::Bios, DiskBus::Virtio, (image.clone(), other), &media);
    let refused = libvirt.create(&wrong).await.expect_err("it is another");
    assert!(refused.tried.contains("send the image") && refused.found.contains(&digest.short()), "{refused:?}");
    assert_eq!(daemon.volumes(), alone);
    let nvme = machine("five", Firmware::Uefi, DiskBus::Nvme, (image.clone(), digest), &media);
    assert!(libvirt.create(&nvme).await.expect_err("it can't be").found.contains("NVMe"));

    let bytes = daemon.pool().join(&there).metadata().expect("sent").blocks() * 512;
    assert_eq!(libvirt.sent().await.expect("listed"), [Sent { image: digest, bytes }]);
    for _ in 0..2 {
        libvirt.discard(digest).await.expect("gone");
    }
    assert_eq!((libvirt.sent().await.expect("listed"), daemon.volumes()), (vec![], vec![]));
    assert!(libvirt.owned().await.expect("listed").is_empty());
}
