//! Boots a golden image on each shipped hardware profile.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchlab::catalog::Catalog;
use patchlab::catalog::hardware::Hardware;
use patchlab::hypervisor::libvirt::Libvirt;
use patchlab::hypervisor::{AgentError, Hypervisor, MachineEvent, MachineEventKind, MachineSpec, Owned};
use patchlab::id::Name;
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use super::{LAB, claims, golden, home, machine};

/// Set in the process that has a libvirt of its own: whether it has the small file system.
const INSIDE: &str = "PATCHLAB_TEST_INSIDE";

/// Proves from inside that each machine is what its profile claims. Two of the machines then run out of room on the host and one panics,
/// since they are up already. Two are at work at once; those that fill the file system are the last two.
///
/// A process has one embedded libvirt, so this is another process than the other tests'. There, the machines' folder is a small file
/// system among mounts of its own. Only root may have that: others run out of nothing.
#[test]
#[ignore = "needs golden images: scripts/test"]
fn hardware_boots_a_golden_image() {
    let state = home().join("boots");
    let machines = state.join("machines");
    fs::create_dir_all(&machines).expect("a state folder");
    let proof = state.join("proof");
    let Some(small) = std::env::var_os(INSIDE) else {
        let root = nix::unistd::Uid::effective().is_root();
        let mount = "mount -t tmpfs -o size=512m,mode=755 patchlab \"$0\" && exec \"$@\"";
        let mut command = Command::new(if root { "unshare" } else { "env" });
        if root {
            command.args(["--mount", "sh", "-c", mount]).arg(machines);
        }
        command.arg(std::env::current_exe().expect("a path")).env(INSIDE, if root { "small" } else { "large" });
        let ended = command.args(["--exact", "shipped::hardware_boots_a_golden_image", "--ignored", "--nocapture"]).status();
        assert!(ended.expect("it starts").success());
        // Where no test has this name, the process ends well too.
        fs::remove_file(proof).expect("the machines have run");
        return;
    };
    let small = small == "small";
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let image = golden::image("acme-desktop").await;
        let media = claims::media(&state);
        let libvirt = Arc::new(Libvirt::open("qemu:///embed", None, &state, LAB).expect("libvirt opens"));
        println!("{:?}", libvirt.host().await.expect("a host"));
        let profiles = Catalog::load(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a good lab directory").hardware;
        assert!(!profiles.is_empty());
        // QEMU tells libvirt of the one, and the adapter has to look after the other itself.
        let fills = |profile: &Name| small && ["ide-rtl8139", "nvme"].contains(&profile.as_str());
        let (full, others): (Vec<_>, Vec<_>) = profiles.into_iter().partition(|(profile, _)| fills(profile));
        let both = Arc::new(Barrier::new(full.len()));
        let last = |profile: &Name| match profile.as_str() {
            "virtio-bios" => Last::Panic,
            _ if fills(profile) => Last::NoRoom(both.clone()),
            _ => Last::Nothing,
        };
        let slots = Arc::new(Semaphore::new(2));
        let mut lives = JoinSet::new();
        for (profile, hardware) in others.into_iter().chain(full) {
            let slot = slots.clone().acquire_owned().await.expect("a slot");
            let last = last(&profile);
            let spec = machine(&format!("t-{profile}"), hardware, &image, Some(media.clone()));
            let libvirt = libvirt.clone();
            lives.spawn(async move {
                let _slot = slot;
                lives_and_goes(libvirt, spec, last).await;
            });
        }
        lives.join_all().await;
        assert_eq!(libvirt.owned().await.expect("listed"), Vec::<Owned>::new());
    });
    fs::write(proof, "").expect("written");
}

/// What becomes of a machine that has proved itself.
enum Last {
    Nothing,
    Panic,
    /// Once all that fill the file system have proved themselves.
    NoRoom(Arc<Barrier>),
}

async fn lives_and_goes(libvirt: Arc<Libvirt>, spec: MachineSpec, last: Last) {
    let name = spec.name.clone();
    libvirt.destroy(&name).await.expect("nothing left of the last time");
    libvirt.create(&spec).await.expect("made");
    let on = libvirt.clone();
    let ended = tokio::spawn(async move {
        boots(&on, &spec.name).await;
        let hardware: &Hardware = &spec.hardware;
        claims::are_met(on.clone(), &spec.name, hardware).await;
        match last {
            Last::Nothing => {}
            Last::Panic => panics(&on, &spec.name).await,
            Last::NoRoom(both) => {
                tokio::time::timeout(Duration::from_secs(600), both.wait()).await.expect("the other one is up too");
                runs_out_of_room(&on, &spec.name).await;
            }
        }
    })
    .await;
    let console = libvirt.console(&name, 0).await.expect("a console");
    // A machine that a failed test leaves would go on working.
    libvirt.destroy(&name).await.expect("removed");
    if let Err(failed) = ended {
        eprintln!("{name}:\n{}", String::from_utf8_lossy(&console));
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// Switches a machine on and waits for its guest agent, and for its network card's driver.
async fn boots(libvirt: &Libvirt, name: &str) {
    let began = Instant::now();
    let mut events = libvirt.events();
    libvirt.start(name).await.expect("started");
    ask(libvirt, name, &mut events, r#"{"execute":"guest-ping"}"#, "{}").await;
    let pinged = began.elapsed();
    ask(libvirt, name, &mut events, r#"{"execute":"guest-network-get-interfaces"}"#, "52:54:00:").await;
    let vitals = libvirt.vitals(name).await.expect("vitals");
    assert!(vitals.running && vitals.cpu_ns > 0 && vitals.console_bytes > 0 && vitals.disk_bytes > 0, "{vitals:?}");
    assert!(libvirt.screenshot(name).await.expect("taken").is_some());
    println!("{name}: the agent answered after {pinged:.1?}, all was there after {:.1?}; {vitals:?}", began.elapsed());
}

/// Asks the guest agent until it gives an answer with this in it.
async fn ask(libvirt: &Libvirt, name: &str, events: &mut Receiver<MachineEvent>, command: &str, expected: &str) {
    let began = Instant::now();
    loop {
        match libvirt.agent(name, command, Duration::from_secs(5)).await {
            Ok(answer) if answer.contains(expected) => return,
            Ok(_) | Err(AgentError::Unresponsive(_)) if began.elapsed() < Duration::from_secs(300) => {
                let _ = tokio::time::timeout(Duration::from_millis(500), events.recv()).await;
            }
            other => panic!("{name}: {command}: {other:?}"),
        }
    }
}

async fn panics(libvirt: &Libvirt, name: &str) {
    provoke(libvirt, name, "modprobe pvpanic-mmio; echo c >/proc/sysrq-trigger", &MachineEventKind::Panicked).await;
}

async fn runs_out_of_room(libvirt: &Libvirt, name: &str) {
    let fill = "dd if=/dev/zero of=/fill bs=1M count=600 oflag=direct; sync";
    provoke(libvirt, name, fill, &MachineEventKind::DiskError { nospace: true }).await;
}

/// Has a machine that is up run a shell command, and waits for an event of it.
async fn provoke(libvirt: &Libvirt, name: &str, script: &str, kind: &MachineEventKind) {
    let began = Instant::now();
    let mut events = libvirt.events();
    let arguments = serde_json::json!({ "path": "/bin/sh", "arg": ["-c", script] });
    let command = serde_json::json!({ "execute": "guest-exec", "arguments": arguments }).to_string();
    // The machine may be gone before its agent has answered.
    let _ = libvirt.agent(name, &command, Duration::from_secs(10)).await;
    let seen = async {
        loop {
            // The room on the host is looked at whenever somebody asks for vitals.
            libvirt.vitals(name).await.expect("vitals");
            let event = tokio::time::timeout(Duration::from_secs(1), events.recv()).await.map(|event| event.expect("events go on"));
            if event.is_ok_and(|event| event.machine == name && event.kind == *kind) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), seen).await.unwrap_or_else(|_| panic!("{name} never reported {kind:?}"));
    assert!(libvirt.screenshot(name).await.expect("taken").is_some(), "its screen is kept");
    println!("{name}: {kind:?} after {:.1?}", began.elapsed());
}
