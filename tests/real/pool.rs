//! Images and machines' files in the storage pool of a real libvirt daemon that sees nothing of this lab's folders.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::hypervisor::libvirt::Libvirt;
use patchlab::hypervisor::segments::Mac;
use patchlab::hypervisor::{Copied, Hypervisor, HypervisorErrorKind, MachineNic, MachineSpec, OnTemplate, Sent, Tag};
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
    assert_eq!(libvirt.sent().await.expect("listed"), [Sent { what: Copied::Image, digest, bytes }]);
    for _ in 0..2 {
        libvirt.discard(digest).await.expect("gone");
    }
    assert_eq!((libvirt.sent().await.expect("listed"), daemon.volumes()), (vec![], vec![]));
    assert!(libvirt.owned().await.expect("listed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a libvirt daemon: cargo test --test real distant -- --ignored"]
async fn distant_pool_machines_are_frozen_and_go_on_there_as_others() {
    let lab = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start("nobody", &[lab.path()]);
    let libvirt = Libvirt::open(&daemon.uri(), Some("lab"), lab.path(), LAB).expect("libvirt opens");
    let image = image(lab.path());
    let media = lab.path().join("media.iso");
    fs::write(&media, vec![7; 300_000]).expect("written");
    let mac = |last| -> Mac { format!("52:54:00:00:00:0{last}").parse().expect("an address") };
    let spec = |name: &str, firmware, last| {
        let nics = vec![MachineNic { mac: mac(last), at: None }];
        MachineSpec { nics, ..machine(name, firmware, DiskBus::Virtio, image.clone(), &media) }
    };
    assert_eq!(libvirt.pool(), Some("lab"));

    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let bare = MachineSpec { media: None, ..spec("frozen", firmware, 1) };
        assert_eq!(libvirt.unfreezable(&bare.hardware), None);
        libvirt.create(&bare).await.expect("made");
        libvirt.start("frozen").await.expect("started");
        let folder = tempfile::tempdir().expect("a folder");
        libvirt.freeze("frozen", folder.path()).await.expect("frozen");
        assert!(!libvirt.vitals("frozen").await.expect("told").running);
        libvirt.destroy("frozen").await.expect("gone");
        assert_eq!(daemon.volumes().len(), 2, "the image and its mark: {:?}", daemon.volumes());
        let bytes = |name: &str| folder.path().join(name).metadata().map_or(0, |file| file.len());
        assert!(bytes("memory.save") > 1 << 20 && bytes("disk.qcow2") > 0, "{folder:?}");
        assert_eq!(bytes("variables.fd") > 0, firmware == Firmware::Uefi);

        let digest = |name: &str| (name.to_owned(), Digest::of(fs::read(folder.path().join(name)).expect("a file")));
        let digests = BTreeMap::from(["disk.qcow2", "memory.save"].map(digest));
        let on = OnTemplate { folder: folder.path().to_owned(), macs: vec![mac(1)], media: false, digests };
        for (name, last) in [("first", 2), ("second", 3)] {
            let clone = MachineSpec { template: Some(on.clone()), ..spec(name, firmware, last) };
            libvirt.create(&clone).await.expect("made");
            libvirt.thaw(name).await.expect("it goes on");
            assert!(libvirt.vitals(name).await.expect("told").running, "{name}");
            let again = libvirt.thaw(name).await.expect_err("only once");
            assert_eq!(again.kind, HypervisorErrorKind::NoMachine, "{again:?}");
        }
        let sent = libvirt.sent().await.expect("listed");
        let frozen: Vec<Digest> = sent.iter().filter(|one| one.what == Copied::Template).map(|one| one.digest).collect();
        assert_eq!((sent.len(), frozen.len()), (3, 2), "the disk and the memory are sent once: {sent:?}");
        assert!(!daemon.volumes().iter().any(|name| name.ends_with(".save")), "{:?}", daemon.volumes());
        // What a machine lies on stays: it may still be switched off and on.
        for digest in &frozen {
            libvirt.discard(*digest).await.expect("gone, or in use");
        }
        assert_eq!(libvirt.sent().await.expect("listed").len(), 2);
        libvirt.power_off("second").await.expect("off");
        libvirt.start("second").await.expect("on, without its template's memory");
        let into = tempfile::tempdir().expect("a folder");
        let deeper = libvirt.freeze("second", into.path()).await.expect_err("no deeper than that");
        assert!(deeper.found.contains("on a template itself"), "{deeper:?}");
        for name in ["first", "second"] {
            libvirt.destroy(name).await.expect("gone");
        }
        for digest in &frozen {
            libvirt.discard(*digest).await.expect("gone");
        }
        assert_eq!(daemon.volumes().len(), 2, "{:?}", daemon.volumes());

        // What was swapped on the way is noticed, and leaves nothing.
        let mut swapped = on.clone();
        swapped.digests.insert("memory.save".to_owned(), Digest::of("another"));
        let refused = libvirt.create(&MachineSpec { template: Some(swapped), ..spec("third", firmware, 4) }).await.expect_err("refused");
        assert!(refused.tried.contains("memory.save") && refused.found.contains("read back"), "{refused:?}");
        assert!(libvirt.owned().await.expect("listed").is_empty());
        for one in libvirt.sent().await.expect("listed") {
            libvirt.discard(one.digest).await.expect("gone");
        }
        assert_eq!(daemon.volumes(), Vec::<String>::new());
    }
}
