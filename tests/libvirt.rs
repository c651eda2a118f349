//! The libvirt adapter against libvirt itself: `qemu:///embed` with a root of this test's own. Needs QEMU, libvirt's QEMU driver and
//! OVMF; no network, no privilege. Booting a real image is apart, since it takes minutes:
//!
//! ```text
//! PATCHLAB_TEST_IMAGE=/path/to/sealed.qcow2 cargo test --test libvirt -- --ignored --nocapture
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::catalog::text::Size;
use patchlab::hypervisor::libvirt::Libvirt;
use patchlab::hypervisor::{AgentError, Hypervisor, HypervisorErrorKind, MachineEvent, MachineEventKind, MachineSpec, Owned, Tag};
use patchlab::id::{Digest, RunId};
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Mutex, MutexGuard};

const LAB: &str = "lab-of-the-test";

/// Where the tests' files are; `PATCHLAB_TEST_STATE` moves them, for a second user or a small file system.
fn home() -> PathBuf {
    std::env::var_os("PATCHLAB_TEST_STATE").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

/// A process has one embedded libvirt: all tests share it, one after the other.
async fn lab() -> (MutexGuard<'static, ()>, &'static Libvirt, &'static Path) {
    static TURN: Mutex<()> = Mutex::const_new(());
    static LIBVIRT: OnceLock<(PathBuf, Libvirt)> = OnceLock::new();
    let turn = TURN.lock().await;
    let (state, libvirt) = LIBVIRT.get_or_init(|| {
        let state = home().join("libvirt");
        fs::create_dir_all(&state).expect("a state folder");
        let libvirt = Libvirt::open("qemu:///embed", &state, LAB).expect("libvirt opens");
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
    Hardware {
        title: "a \"test\" & <more>".to_owned(),
        chipset,
        firmware,
        cpu: "max".to_owned(),
        cores: 1,
        memory: Size::mib(768),
        disk,
        nic,
        second_cold_boot: false,
    }
}

fn machine(name: &str, hardware: Hardware, image: &Path, media: Option<PathBuf>) -> MachineSpec {
    let tag = Tag {
        lab: LAB.to_owned(),
        run: RunId::from_parts(1_700_000_000_000, [7; 10]),
        cell: "acme.web@virtio-bios".parse().expect("a cell"),
        lease: name.to_owned(),
    };
    MachineSpec { name: name.to_owned(), tag, hardware, image: image.to_owned(), image_digest: Digest::of("image"), media }
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
    let mut accepted = 0;
    for chipset in [Chipset::Pc, Chipset::Q35] {
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            for disk in [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Sata, DiskBus::Ide, DiskBus::Nvme] {
                for nic in [NicModel::Virtio, NicModel::E1000, NicModel::E1000e, NicModel::Rtl8139, NicModel::Vmxnet3] {
                    let hardware = hardware(chipset, firmware, disk, nic);
                    if !hardware.impossible().is_empty() {
                        continue;
                    }
                    let name = format!("t-{chipset:?}-{firmware:?}-{disk:?}-{nic:?}");
                    let spec = machine(&name, hardware, &image, Some(image.clone()));
                    libvirt.create(&spec).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                    // The definition is one thing, QEMU's opinion of it another; NICs matter little to each other's neighbours.
                    if nic == NicModel::Virtio || disk == DiskBus::Virtio {
                        libvirt.start(&name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                    }
                    libvirt.destroy(&name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                    accepted += 1;
                }
            }
        }
    }
    assert_eq!(accepted, 80);
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
    let (picture, kind) = libvirt.screenshot(name).await.expect("taken").expect("a screen");
    assert!(kind == "image/png" && picture.starts_with(b"\x89PNG"), "{kind}");
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
    let error = Libvirt::open("qemu:///embed", state, LAB).err().expect("held");
    assert!(error.found.contains(&format!("process {}", std::process::id())), "{error}");
}

/// libvirt's in-process fake comes with a machine that is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn another_owners_machine_is_not_touched() {
    let state = home().join("fake");
    fs::create_dir_all(&state).expect("a state folder");
    let libvirt = Libvirt::open("test:///default", &state, LAB).expect("libvirt opens");
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

/// How long the guest agent takes to answer.
async fn ping(libvirt: &Libvirt, name: &str, events: &mut Receiver<MachineEvent>) -> Result<Duration, AgentError> {
    let began = Instant::now();
    loop {
        match libvirt.agent(name, r#"{"execute":"guest-ping"}"#, Duration::from_secs(5)).await {
            Ok(_) => return Ok(began.elapsed()),
            Err(AgentError::Unresponsive(_)) if began.elapsed() < Duration::from_secs(600) => {
                let _ = tokio::time::timeout(Duration::from_millis(500), events.recv()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn real_image() -> PathBuf {
    PathBuf::from(std::env::var_os("PATCHLAB_TEST_IMAGE").expect("PATCHLAB_TEST_IMAGE"))
}

/// Has a booted machine run a shell command, and waits for an event.
async fn provoke(name: &str, disk: DiskBus, script: &str, kind: &MachineEventKind) {
    let (_turn, libvirt, _) = lab().await;
    libvirt.destroy(name).await.expect("nothing left of the last time");
    let spec = machine(name, hardware(Chipset::Pc, Firmware::Bios, disk, NicModel::Virtio), &real_image(), None);
    libvirt.create(&spec).await.expect("made");
    libvirt.start(name).await.expect("started");
    let mut events = libvirt.events();
    ping(libvirt, name, &mut events).await.expect("boots");
    let arguments = serde_json::json!({ "path": "/bin/sh", "arg": ["-c", script] });
    let command = serde_json::json!({ "execute": "guest-exec", "arguments": arguments }).to_string();
    println!("{name}: {:?}", libvirt.agent(name, &command, Duration::from_secs(10)).await);
    let seen = async {
        loop {
            // The room on the host is looked at whenever somebody asks for vitals.
            println!("{name}: {:?}", libvirt.vitals(name).await.expect("vitals"));
            let event = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
            println!("{name}: {event:?}");
            if event.is_ok_and(|event| event.expect("events go on").kind == *kind) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(300), seen).await.expect("seen");
    assert!(libvirt.screenshot(name).await.expect("taken").is_some());
    println!("{name}: {:?}", libvirt.vitals(name).await);
    libvirt.destroy(name).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and needs PATCHLAB_TEST_IMAGE"]
async fn a_panic_is_seen() {
    provoke("t-panic", DiskBus::Virtio, "modprobe pvpanic-mmio; echo c > /proc/sysrq-trigger", &MachineEventKind::Panicked).await;
}

/// To be run with a file system of some 100 MiB mounted on `$PATCHLAB_TEST_STATE/libvirt/machines`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PATCHLAB_TEST_IMAGE and a small file system"]
async fn a_full_host_is_seen() {
    for disk in [DiskBus::Nvme, DiskBus::Virtio, DiskBus::Ide] {
        let fill = "dd if=/dev/urandom of=/fill bs=1M count=400; sync";
        provoke("t-full", disk, fill, &MachineEventKind::DiskError { nospace: true }).await;
    }
}

/// Boots `PATCHLAB_TEST_IMAGE`, which must have the guest agent, on each shipped kind of hardware.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and needs PATCHLAB_TEST_IMAGE"]
async fn an_image_boots_from_every_controller() {
    let (_turn, libvirt, _) = lab().await;
    let image = real_image();
    println!("{:?}", libvirt.host().await.expect("a host"));
    let only = std::env::var("PATCHLAB_TEST_ONLY").unwrap_or_default();
    for (name, chipset, firmware, disk, nic) in [
        ("virtio-bios", Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio),
        ("virtio-uefi", Chipset::Q35, Firmware::Uefi, DiskBus::Virtio, NicModel::Virtio),
        ("sata-e1000e", Chipset::Q35, Firmware::Bios, DiskBus::Sata, NicModel::E1000e),
        ("ide-rtl8139", Chipset::Pc, Firmware::Bios, DiskBus::Ide, NicModel::Rtl8139),
        ("scsi-vmxnet3", Chipset::Q35, Firmware::Bios, DiskBus::Scsi, NicModel::Vmxnet3),
        ("nvme-bios", Chipset::Q35, Firmware::Bios, DiskBus::Nvme, NicModel::Virtio),
        ("nvme-uefi", Chipset::Q35, Firmware::Uefi, DiskBus::Nvme, NicModel::Virtio),
        ("nvme-pc", Chipset::Pc, Firmware::Bios, DiskBus::Nvme, NicModel::E1000),
    ] {
        if !name.contains(&only) {
            continue;
        }
        let spec = machine(name, hardware(chipset, firmware, disk, nic), &image, Some(image.clone()));
        libvirt.destroy(name).await.expect("nothing left of the last time");
        let began = Instant::now();
        libvirt.create(&spec).await.expect("made");
        let created = began.elapsed();
        let mut events = libvirt.events();
        let began = Instant::now();
        libvirt.start(name).await.expect("started");
        let started = began.elapsed();
        let pinged = ping(libvirt, name, &mut events).await;
        let vitals = libvirt.vitals(name).await;
        if let Ok(Some((picture, kind))) = libvirt.screenshot(name).await {
            println!("{name}: picture {kind} {} bytes", picture.len());
            fs::write(home().join(format!("{name}.png")), picture).expect("written");
        }
        let console = libvirt.console(name, 0).await.expect("a console");
        fs::write(home().join(format!("{name}.log")), &console).expect("written");
        println!("{name}: create {created:?} start {started:?} ping {pinged:?} {vitals:?}");
        let began = Instant::now();
        if pinged.is_ok() {
            let mut events = libvirt.events();
            // Nobody listens to the power button before logind is up.
            let stopped = async {
                loop {
                    libvirt.shutdown(name).await.expect("asked");
                    let wait = wait_for(&mut events, name, &MachineEventKind::Stopped);
                    if tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok() {
                        return;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(120), stopped).await.expect("the guest obeys the power button");
        }
        println!("{name}: shutdown {:?}", began.elapsed());
        let began = Instant::now();
        libvirt.destroy(name).await.expect("removed");
        println!("{name}: destroy {:?}", began.elapsed());
        pinged.expect("the image boots");
    }
}
