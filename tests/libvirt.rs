//! The libvirt adapter against libvirt itself: `qemu:///embed` with a root of this test's own. Needs QEMU, libvirt's QEMU driver and
//! OVMF; no network, no privilege. What boots a golden image is apart, since it takes minutes: `scripts/test`.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use patchlab::catalog::hardware::{Chipset, ClockBase, DiskBus, Firmware, Hardware, NicModel, Smbios, Tpm, TpmInterface};
use patchlab::hypervisor::libvirt::Libvirt;
use patchlab::hypervisor::segments::{Mac, NetworkSpec, NicSpec, SegmentSpec};
use patchlab::hypervisor::{
    AgentError, Hypervisor, HypervisorErrorKind, MachineEvent, MachineEventKind, MachineNic, MachineSpec, Owned, Plug, Tag,
};
use patchlab::id::{Digest, Name, RunId};
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::task::JoinSet;

#[path = "golden/claims.rs"]
mod claims;
mod golden;
#[path = "golden/shipped.rs"]
mod shipped;

const LAB: &str = "lab-of-the-test";

/// Where the tests' files are.
fn home() -> PathBuf {
    env!("CARGO_TARGET_TMPDIR").into()
}

/// A process has one embedded libvirt: all tests share it, one after the other.
async fn lab() -> (MutexGuard<'static, ()>, &'static Libvirt, &'static Path) {
    static TURN: Mutex<()> = Mutex::const_new(());
    static LIBVIRT: OnceLock<(PathBuf, Libvirt)> = OnceLock::new();
    let turn = TURN.lock().await;
    let (state, libvirt) = LIBVIRT.get_or_init(|| {
        let state = home().join("libvirt");
        fs::create_dir_all(&state).expect("a state folder");
        let libvirt = Libvirt::open("qemu:///embed", None, &state, LAB).expect("libvirt opens");
        (state, libvirt)
    });
    (turn, libvirt, state)
}

fn empty_image(state: &Path) -> PathBuf {
    let image = state.join("empty.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("64M").status();
    assert!(made.expect("qemu-img starts").success());
    image
}

fn hardware(chipset: Chipset, firmware: Firmware, disk: DiskBus, nic: NicModel) -> Hardware {
    Hardware { title: "a \"test\" & <more>".to_owned(), ..Hardware::plain(chipset, firmware, disk, nic) }
}

fn machine(name: &str, hardware: Hardware, image: &Path, media: Option<PathBuf>) -> MachineSpec {
    let tag = Tag {
        lab: LAB.to_owned(),
        run: RunId::from_parts(1_700_000_000_000, [7; 10]),
        cell: "acme.web@virtio-bios".parse().expect("a cell"),
        lease: name.to_owned(),
    };
    MachineSpec {
        name: name.to_owned(),
        tag,
        hardware,
        image: image.to_owned(),
        image_digest: Digest::of("image"),
        media,
        template: None,
        nics: vec![MachineNic { mac: Mac([0x52, 0x54, 0, 1, 2, 3]), at: None }],
    }
}

async fn wait_for(events: &mut Receiver<MachineEvent>, machine: &str, kind: &MachineEventKind) {
    let seen = async {
        loop {
            let event = events.recv().await.expect("events go on");
            if event.machine == machine && event.kind == *kind {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), seen).await.unwrap_or_else(|_| panic!("{machine} never reported {kind:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_possible_hardware_is_accepted_and_goes_without_a_trace() {
    let (_turn, libvirt, state) = lab().await;
    let image = empty_image(state);
    let before = libvirt.owned().await.expect("listed");
    let mut tried = JoinSet::new();
    // An emulator's end is mostly waited for.
    let room = Arc::new(Semaphore::new(4));
    for chipset in [Chipset::Pc, Chipset::Q35] {
        for firmware in [Firmware::Bios, Firmware::Uefi, Firmware::UefiSecureBoot] {
            for disk in [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Sata, DiskBus::Ide, DiskBus::Nvme] {
                for nic in [NicModel::Virtio, NicModel::E1000, NicModel::E1000e, NicModel::Rtl8139, NicModel::Vmxnet3] {
                    let hardware = hardware(chipset, firmware, disk, nic);
                    if !hardware.impossible().is_empty() {
                        continue;
                    }
                    let name = format!("t-{chipset:?}-{firmware:?}-{disk:?}-{nic:?}");
                    let spec = machine(&name, hardware, &image, Some(image.clone()));
                    // The definition is one thing, QEMU's opinion of it another. A NIC does not care for firmware and disk.
                    let starts = nic == NicModel::Virtio || (firmware, disk) == (Firmware::Bios, DiskBus::Virtio);
                    let room = room.clone();
                    tried.spawn(async move {
                        let _room = room.acquire().await;
                        libvirt.destroy(&name).await.expect("nothing left of the last time");
                        let accepted = async {
                            libvirt.create(&spec).await?;
                            if starts { libvirt.start(&name).await } else { Ok(()) }
                        };
                        let accepted = accepted.await;
                        libvirt.destroy(&name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                        accepted.unwrap_or_else(|error| panic!("{name}: {error}"));
                    });
                }
            }
        }
    }
    let accepted = tried.join_all().await.len();
    assert_eq!(accepted, 100);
    assert_eq!(libvirt.owned().await.expect("listed"), before);
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_and_identities_are_accepted_and_go_without_a_trace() {
    let (_turn, libvirt, state) = lab().await;
    let image = empty_image(state);
    let plain = |chipset, firmware| hardware(chipset, firmware, DiskBus::Virtio, NicModel::Virtio);
    let (pc, q35) = (plain(Chipset::Pc, Firmware::Bios), plain(Chipset::Q35, Firmware::Uefi));
    let text = |text: &str| text.parse().ok();
    let smbios = Smbios {
        manufacturer: text("Dell, Inc. <&>"),
        product: text("a=b, \"c\""),
        version: text("1"),
        serial: text("5XPHY42"),
        uuid: "4c4c4544-0058-5010-8048-b5c04f593432".parse().ok(),
        sku: text("SKU=NotProvided;ModelName=x"),
        family: text("PowerEdge"),
    };
    let profiles = [
        ("tpm12-pc", Hardware { tpm: Tpm::V1_2, ..pc.clone() }),
        ("tpm12-q35", Hardware { tpm: Tpm::V1_2, ..q35.clone() }),
        ("tpm20-pc", Hardware { tpm: Tpm::V2_0, ..pc.clone() }),
        ("tpm20-crb", Hardware { tpm: Tpm::V2_0, ..q35.clone() }),
        ("tpm20-tis", Hardware { tpm: Tpm::V2_0, tpm_interface: Some(TpmInterface::Tis), ..q35.clone() }),
        ("secure", Hardware { tpm: Tpm::V2_0, ..plain(Chipset::Q35, Firmware::UefiSecureBoot) }),
        ("smbios", Hardware { smbios: Some(smbios.clone()), clock: ClockBase::Localtime, ..pc.clone() }),
        ("smbios-too", Hardware { smbios: Some(smbios), ..q35.clone() }),
        ("sockets", Hardware { sockets: 2, cores: 2, threads: 2, cpu: "EPYC-Rome".to_owned(), ..q35 }),
        ("old", Hardware { cpu: "pentium3".to_owned(), ..pc }),
    ];
    let before = libvirt.owned().await.expect("listed");
    for (name, hardware) in profiles {
        assert_eq!(hardware.impossible(), [], "{name}");
        let name = format!("t-guard-{name}");
        libvirt.destroy(&name).await.expect("nothing left of the last time");
        let left: BTreeSet<PathBuf> = files(state).into_iter().collect();
        let has_tpm = hardware.tpm().is_some();
        let xml = libvirt.create(&machine(&name, hardware, &image, None)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let uuid = xml.split_once("<uuid>").and_then(|(_, rest)| rest.split_once("</uuid>")).expect("a UUID").0.to_owned();
        let started = libvirt.start(&name).await;
        let emulators = || {
            let line =
                |entry: fs::DirEntry| String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).unwrap_or_default()).into_owned();
            fs::read_dir("/proc")
                .expect("processes")
                .flatten()
                .map(line)
                .filter(|line| line.contains("swtpm") && line.contains(&uuid))
                .count()
        };
        let running = emulators();
        libvirt.destroy(&name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        started.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((running > 0, emulators()), (has_tpm, 0), "{name}");
        let more: Vec<PathBuf> = files(state).into_iter().filter(|file| !left.contains(file)).collect();
        assert!(more.iter().all(|file| !file.to_string_lossy().contains(&name) && !file.to_string_lossy().contains(&uuid)), "{more:?}");
        assert!(!Path::new("/var/lib/libvirt/swtpm").join(&uuid).exists(), "{name}");
    }
    assert_eq!(libvirt.owned().await.expect("listed"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_lives_and_leaves_nothing() {
    let (_turn, libvirt, state) = lab().await;
    let name = "t-life";
    let spec = machine(name, hardware(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio), &empty_image(state), None);
    let mut events = libvirt.events();
    let xml = libvirt.create(&spec).await.expect("made");
    assert!(xml.contains("urn:patchlab:1"), "{xml}");
    let twice = libvirt.create(&spec).await.expect_err("the name is taken");
    assert_eq!(twice.kind, HypervisorErrorKind::Refused, "{twice}");
    assert_eq!(libvirt.shutdown(name).await.expect_err("off").kind, HypervisorErrorKind::NoMachine);
    assert!(matches!(libvirt.agent(name, "{}", Duration::from_secs(1)).await, Err(AgentError::NotRunning(_))));
    assert!(!libvirt.vitals(name).await.expect("vitals").running);

    libvirt.start(name).await.expect("started");
    wait_for(&mut events, name, &MachineEventKind::Started).await;
    assert_eq!(libvirt.start(name).await.expect_err("on").kind, HypervisorErrorKind::NoMachine);
    let ping = libvirt.agent(name, r#"{"execute":"guest-ping"}"#, Duration::from_secs(1)).await;
    assert!(matches!(ping, Err(AgentError::Unresponsive(_))), "{ping:?}");
    // Nothing is on the disk, and the firmware says so.
    let said = async {
        while !String::from_utf8_lossy(&libvirt.console(name, 0).await.expect("a console")).contains("No bootable device") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.expect("the firmware talks");
    let vitals = libvirt.vitals(name).await.expect("vitals");
    assert!(vitals.running && vitals.cpu_ns > 0 && vitals.console_bytes > 0 && vitals.disk_bytes > 0, "{vitals:?}");
    let picture = libvirt.screenshot(name).await.expect("taken").expect("a screen");
    assert!(picture.starts_with(b"\x89PNG"));
    let owned = libvirt.owned().await.expect("listed").into_iter().find(|owned| owned.machine == name).expect("listed");
    assert!(owned.running && owned.bytes > 0 && owned.tag.as_ref() == Some(&spec.tag), "{owned:?}");

    libvirt.reset(name).await.expect("reset");
    wait_for(&mut events, name, &MachineEventKind::Rebooted).await;
    libvirt.power_off(name).await.expect("off");
    wait_for(&mut events, name, &MachineEventKind::Stopped).await;
    libvirt.power_off(name).await.expect("off already");
    libvirt.start(name).await.expect("started again");
    kill_emulator(state, name);
    wait_for(&mut events, name, &MachineEventKind::Crashed).await;
    libvirt.start(name).await.expect("started once more");
    libvirt.destroy(name).await.expect("removed");
    libvirt.destroy(name).await.expect("removed already");
    assert!(!state.join("machines").join(name).exists());
    assert_eq!(libvirt.vitals(name).await.expect_err("gone").kind, HypervisorErrorKind::NoMachine);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_firmware_and_tpm_remember_outlives_a_power_cut() {
    let (_turn, libvirt, state) = lab().await;
    let name = "t-memory";
    libvirt.destroy(name).await.expect("nothing left of the last time");
    let plain = hardware(Chipset::Q35, Firmware::UefiSecureBoot, DiskBus::Virtio, NicModel::Virtio);
    let spec = machine(name, Hardware { tpm: Tpm::V2_0, ..plain }, &empty_image(state), None);
    let xml = libvirt.create(&spec).await.expect("made");
    let between = |from: &str, to: &str| xml.split_once(from).and_then(|(_, rest)| rest.split_once(to)).expect("there").0.to_owned();
    let uuid = between("<uuid>", "</uuid>");
    let variables = PathBuf::from(between("<nvram", "</nvram>").split_once('>').expect("an element").1);
    libvirt.start(name).await.expect("started");
    libvirt.power_off(name).await.expect("off");

    // Another name keeps the file's number from being given to its successor.
    let same = tempfile::tempdir_in(state).expect("a folder");
    fs::hard_link(&variables, same.path().join("variables")).expect("a link");
    let of_tpm = || -> Vec<PathBuf> {
        let all = [state, Path::new("/var/lib/libvirt/swtpm")].into_iter().flat_map(files);
        all.filter(|file| file.to_string_lossy().contains(&uuid) && file.ends_with("tpm2-00.permall")).collect()
    };
    let [permanent] = of_tpm().try_into().expect("one TPM's state");
    let mark = permanent.with_file_name("mark");
    fs::write(&mark, "").expect("written");
    libvirt.start(name).await.expect("started again");
    let number = |path: &Path| fs::metadata(path).expect("a file").ino();
    let kept = (number(&variables) == number(&same.path().join("variables")), mark.exists());
    libvirt.destroy(name).await.expect("removed");
    assert_eq!(kept, (true, true), "variables, TPM");
    assert_eq!((of_tpm(), mark.exists()), (vec![], false));
}

/// Kills the machine's own QEMU, known by its command line.
fn kill_emulator(state: &Path, name: &str) {
    let console = state.join("machines").join(name).join("overlay.qcow2");
    let wanted = console.to_str().expect("UTF-8");
    let of_machine = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"/usr/bin/qemu-system") && String::from_utf8_lossy(&line).contains(wanted)
    };
    let process = fs::read_dir("/proc").expect("processes").flatten().find(of_machine).expect("a running emulator");
    let killed = Command::new("kill").arg("-KILL").arg(process.file_name()).status();
    assert!(killed.expect("kill starts").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_leaves_nothing_and_what_is_left_is_found() {
    let (_turn, libvirt, state) = lab().await;
    let image = empty_image(state);
    let virtio = hardware(Chipset::Pc, Firmware::Uefi, DiskBus::Virtio, NicModel::Virtio);
    let broken = state.join("broken.qcow2");
    fs::write(&broken, "not an image").expect("written");
    let mut unknown_cpu = virtio.clone();
    unknown_cpu.cpu = "no-such-cpu".to_owned();
    let mut foreign = machine("t-foreign", virtio.clone(), &image, None);
    foreign.tag.lab = "another".to_owned();
    for spec in [
        machine("t-missing", virtio.clone(), Path::new("/nowhere/image.qcow2"), None),
        machine("t-media", virtio.clone(), &image, Some("/nowhere/media.iso".into())),
        machine("t-broken", virtio.clone(), &broken, None),
        machine("t-cpu", unknown_cpu, &image, None),
        machine("../t-name", virtio.clone(), &image, None),
        foreign,
    ] {
        let result = match libvirt.create(&spec).await {
            Ok(_) => libvirt.start(&spec.name).await,
            Err(error) => Err(error),
        };
        let error = result.expect_err(&spec.name);
        assert_eq!(error.kind, HypervisorErrorKind::Refused, "{error}");
        println!("{error}; hint: {}", error.hint);
        libvirt.destroy(&spec.name).await.expect("nothing or a defined machine");
    }
    // As a crash leaves it: a folder, with and without its tag.
    let spec = machine("t-half", virtio, &image, None);
    for tag in [None, Some(&spec.tag)] {
        let folder = state.join("machines/t-half");
        fs::create_dir_all(&folder).expect("made");
        if let Some(tag) = tag {
            fs::write(folder.join("tag.json"), serde_json::to_vec(tag).expect("JSON")).expect("written");
        }
        let owned = libvirt.owned().await.expect("listed");
        let half = owned.iter().find(|owned| owned.machine == "t-half").expect("listed");
        assert_eq!((half.tag.as_ref(), half.running), (tag, false));
        libvirt.destroy("t-half").await.expect("removed");
        assert!(!folder.exists());
    }
}

#[tokio::test]
async fn a_held_root_names_its_holder() {
    let (_turn, _libvirt, state) = lab().await;
    let error = Libvirt::open("qemu:///embed", None, state, LAB).err().expect("held");
    assert!(error.found.contains(&format!("process {}", std::process::id())), "{error}");
}

/// A socket where the machine's NIC is once it runs, and where it sends to.
fn stand_in(definition: &str) -> (UdpSocket, u16) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt::ReuseAddr};
    let nic = definition.split("<interface type='udp'>").nth(1).expect("a wire");
    let mut ports = nic.split(" port='").skip(1).map(|rest| rest.split('\'').next().and_then(|port| port.parse().ok()).expect("a port"));
    let (to, own): (u16, u16) = (ports.next().expect("the switch's"), ports.next().expect("its own"));
    let made = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&made, ReuseAddr, &true).expect("the address is shared, as QEMU shares it");
    bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, own)).expect("bound");
    let made = UdpSocket::from(made);
    made.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    (made, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_with_the_same_addresses_do_not_hear_each_other() {
    let (_turn, libvirt, state) = lab().await;
    let name = |text: &str| -> Name { text.parse().expect("a name") };
    let nic = |role: &str, last| NicSpec { name: name(role), mac: Mac([0x52, 0x54, 0, 1, 1, last]) };
    let segments = vec![SegmentSpec { name: name("lan"), nics: vec![nic("client", 1), nic("server", 2)] }];
    let spec = NetworkSpec { seed: 1, capture_cap: 1 << 20, segments };
    let image = empty_image(state);
    let mut ends = Vec::new();
    for net in ["t-net-a", "t-net-b"] {
        for left in [net.to_owned(), format!("{net}-client"), format!("{net}-server")] {
            libvirt.destroy(&left).await.expect("nothing left of the last time");
        }
        let plain = machine(net, hardware(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio), &image, None);
        libvirt.open_network(net, &plain.tag, &spec).await.expect("a network");
        for role in ["client", "server"] {
            let at = Plug { network: net.to_owned(), segment: name("lan"), nic: name(role) };
            let mac = spec.segments[0].nics.iter().find(|nic| nic.name == at.nic).expect("planned").mac;
            let nics = vec![MachineNic { mac, at: Some(at) }];
            let made = libvirt.create(&MachineSpec { name: format!("{net}-{role}"), nics, ..plain.clone() }).await.expect("made");
            ends.push(stand_in(&made));
        }
    }
    let everyone = [0xff; 6];
    let frame = |text: &str| [&everyone[..], &[0x52, 0x54, 0, 1, 1, 1], &[0x88, 0xb5], text.as_bytes()].concat();
    let [(client_a, to_a), (server_a, _), (client_b, to_b), (server_b, _)] = &ends[..] else { panic!("four machines") };
    client_a.send_to(&frame("from a"), ("127.0.0.1", *to_a)).expect("sent");
    let mut buffer = [0; 100];
    let heard = server_a.recv(&mut buffer).expect("the neighbour hears it");
    assert!(buffer[..heard].ends_with(b"from a"));
    client_b.send_to(&frame("from b"), ("127.0.0.1", *to_b)).expect("sent");
    let heard = server_b.recv(&mut buffer).expect("the neighbour hears it");
    assert!(buffer[..heard].ends_with(b"from b"), "the first that it hears is its own network's");
    for (net, own, foreign) in [("t-net-a", "from a", "from b"), ("t-net-b", "from b", "from a")] {
        let wire = libvirt.wire(net).await.expect("a look");
        let capture = fs::read(&wire.captures.first().expect("a capture").1).expect("read");
        let holds = |text: &str| capture.windows(text.len()).any(|found| found == text.as_bytes());
        assert!(holds(own) && !holds(foreign), "{net}");
        for left in [format!("{net}-client"), format!("{net}-server"), net.to_owned()] {
            libvirt.destroy(&left).await.expect("removed");
        }
    }
    assert_eq!(libvirt.owned().await.expect("listed"), Vec::<Owned>::new());
}

/// libvirt's in-process fake comes with a machine that is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn another_owners_machine_is_not_touched() {
    let state = home().join("fake");
    fs::create_dir_all(&state).expect("a state folder");
    let libvirt = Libvirt::open("test:///default", None, &state, LAB).expect("libvirt opens");
    assert_eq!(libvirt.owned().await.expect("listed"), Vec::<Owned>::new());
    assert_eq!(libvirt.destroy("test").await.expect_err("not ours").kind, HypervisorErrorKind::Refused);
    assert!(libvirt.vitals("test").await.expect("vitals").running);

    let spec = machine("t-fake", hardware(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio), &empty_image(&state), None);
    libvirt.destroy("t-fake").await.expect("nothing left of the last time");
    let mut events = libvirt.events();
    libvirt.create(&spec).await.expect("made");
    libvirt.start("t-fake").await.expect("started");
    wait_for(&mut events, "t-fake", &MachineEventKind::Started).await;
    let owned = libvirt.owned().await.expect("listed");
    assert_eq!(owned.iter().map(|owned| (owned.machine.as_str(), owned.running)).collect::<Vec<_>>(), [("t-fake", true)]);
    libvirt.destroy("t-fake").await.expect("removed");
    assert_eq!(libvirt.owned().await.expect("listed"), Vec::<Owned>::new());
}
