//! The labs that the contract is held against, and how its functions wait.

use std::fs::{self, Permissions};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::catalog::image::Os;
use patchlab::catalog::text::Size;
use patchlab::guest::agent::AgentGuests;
use patchlab::guest::sim::SimGuests;
use patchlab::guest::{Guest, Guests};
use patchlab::hypervisor::libvirt::Libvirt;
use patchlab::hypervisor::segments::Mac;
use patchlab::hypervisor::sim::{Scenario, SimHypervisor, Templates, World};
use patchlab::hypervisor::{
    Hypervisor, HypervisorError, HypervisorErrorKind, MachineEvent, MachineEventKind, MachineNic, MachineSpec, Tag,
};
use patchlab::id::{Digest, RunId};
use patchlab::lab::media::LABEL;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

use crate::template::Template;

#[path = "../golden/mod.rs"]
mod golden;

/// The machine that the guest's functions share.
pub const GUEST: &str = "guest";

/// What the payload's file `word` says.
pub const PAYLOAD: &str = "payload\n";

/// How long a boot may take on the slowest hypervisor.
const BOOT: Duration = Duration::from_secs(300);

/// A hypervisor with its guests, and something for them to boot.
pub struct Lab {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub guests: Arc<dyn Guests>,
    /// Another lab on the same hypervisor, where that can be had, and its id.
    pub neighbour: Option<(Arc<dyn Hypervisor>, String)>,
    pub id: String,
    pub image: PathBuf,
    pub media: Option<PathBuf>,
    /// Where the template is that clones are made on, beside the machines, and what is known of it.
    pub templates: TempDir,
    pub template: OnceCell<Template>,
}

/// A simulated world, kept in a folder or not at all.
pub fn simulated(folder: Option<&Path>) -> Lab {
    let scenario = Scenario { templates: Templates { freeze: true, flaw: None }, ..Scenario::seeded(7) };
    let world = match folder {
        Some(folder) => World::open(scenario, folder).expect("a world"),
        None => World::new(scenario),
    };
    Lab {
        hypervisor: Arc::new(SimHypervisor::new(world.clone(), "this-lab")),
        neighbour: Some((Arc::new(SimHypervisor::new(world.clone(), "next-lab")), "next-lab".to_owned())),
        guests: Arc::new(SimGuests::new(world)),
        id: "this-lab".to_owned(),
        image: PathBuf::from("/nonexistent/image.qcow2"),
        media: None,
        templates: templates(&std::env::temp_dir()),
        template: OnceCell::new(),
    }
}

/// libvirt inside the process, with a golden image and payload as the lab would give it.
pub async fn libvirt() -> Lab {
    let image = golden::image("acme-desktop").await;
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contract");
    let payload = state.join("payload");
    fs::create_dir_all(&payload).expect("a folder");
    fs::write(payload.join("word"), PAYLOAD).expect("written");
    let media = state.join("media.iso");
    let made = Command::new("xorrisofs").args(["-quiet", "-V", LABEL, "-R", "-o"]).args([&media, &payload]).status();
    assert!(made.expect("xorrisofs starts").success());
    let hypervisor: Arc<dyn Hypervisor> = Arc::new(Libvirt::open("qemu:///embed", None, &state, "this-lab").expect("libvirt opens"));
    Lab {
        guests: Arc::new(AgentGuests { hypervisor: hypervisor.clone() }),
        hypervisor,
        neighbour: None,
        id: "this-lab".to_owned(),
        image,
        media: Some(media),
        templates: templates(&state),
        template: OnceCell::new(),
    }
}

/// Two labs at libvirt's in-process fake. Nothing boots there.
pub fn fake(folder: &Path) -> Lab {
    distant(folder, "test:///default")
}

/// Two labs at one libvirt, with an image of nothing.
pub fn distant(folder: &Path, uri: &str) -> Lab {
    let image = folder.join("image.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1M").status();
    assert!(made.expect("qemu-img starts").success());
    let open = |lab: &str| -> Arc<dyn Hypervisor> { Arc::new(Libvirt::open(uri, None, &folder.join(lab), lab).expect("libvirt opens")) };
    let hypervisor = open("this-lab");
    Lab {
        guests: Arc::new(AgentGuests { hypervisor: hypervisor.clone() }),
        hypervisor,
        neighbour: Some((open("next-lab"), "next-lab".to_owned())),
        id: "this-lab".to_owned(),
        image,
        media: None,
        templates: templates(folder),
        template: OnceCell::new(),
    }
}

/// An empty folder, passable for whoever runs QEMU.
pub fn templates(beside: &Path) -> TempDir {
    tempfile::Builder::new().prefix("template-").permissions(Permissions::from_mode(0o755)).tempdir_in(beside).expect("a folder")
}

impl Lab {
    pub fn spec(&self, name: &str) -> MachineSpec {
        self.spec_of(name, &self.id)
    }

    pub fn spec_of(&self, name: &str, lab: &str) -> MachineSpec {
        let tag = Tag {
            lab: lab.to_owned(),
            run: RunId::from_parts(0, [7; 10]),
            cell: "acme.web@virtio-bios".parse().expect("a cell id"),
            lease: name.to_owned(),
        };
        let plain = Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
        let hardware = Hardware { memory: Size::mib(512), ..plain };
        let (image, media) = (self.image.clone(), self.media.clone());
        MachineSpec {
            name: name.to_owned(),
            tag,
            hardware,
            image,
            image_digest: Digest::of("the contract's image"),
            media,
            template: None,
            nics: vec![MachineNic { mac: Mac([0x52, 0x54, 0, 1, 2, 3]), at: None }],
        }
    }

    pub async fn create(&self, name: &str) {
        self.hypervisor.create(&self.spec(name)).await.expect("a machine");
    }

    /// The machine [`GUEST`] with its guest up and ready for jobs. It is made if it is not there; a function before may have left it.
    pub async fn guest(&self) -> Arc<dyn Guest> {
        let guest = self.guests.connect(GUEST, Os::Debian);
        if guest.ping().await.is_err() {
            self.create(GUEST).await;
            let mut events = self.hypervisor.events();
            self.hypervisor.start(GUEST).await.expect("a start");
            until_event(&mut events, GUEST, MachineEventKind::AgentConnected).await;
        }
        until_up(&*guest).await;
        guest
    }

    pub async fn destroy(&self, name: &str) {
        self.hypervisor.destroy(name).await.expect("a removal");
    }

    /// Removes whatever the lab owns.
    pub async fn clear(&self) {
        for (machine, _) in self.owned().await {
            self.destroy(&machine).await;
        }
    }

    /// Nothing but the guests' machine is left, and it goes.
    pub async fn ends_empty(&self) {
        self.destroy(GUEST).await;
        assert_eq!(self.owned().await, []);
    }

    /// The names of what the lab owns, and whether each runs.
    pub async fn owned(&self) -> Vec<(String, bool)> {
        let owned = self.hypervisor.owned().await.expect("a list");
        owned.into_iter().map(|owned| (owned.machine, owned.running)).collect()
    }
}

/// Waits until something is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waited = timeout(BOOT, async {
        while !is_so().await {
            sleep(Duration::from_millis(250)).await;
        }
    });
    assert!(waited.await.is_ok(), "in vain waited until {what}");
}

pub async fn until_up(guest: &dyn Guest) {
    until_settled(guest).await;
    guest.prepare().await.expect("a prepared guest");
}

pub async fn until_settled(guest: &dyn Guest) {
    until("the agent answers", || async { guest.ping().await.is_ok() }).await;
    until("the guest has settled", || async { guest.is_settled().await.is_ok_and(|settled| settled) }).await;
}

/// Waits for an event of a machine; what else happens to it meanwhile is passed over.
pub async fn until_event(events: &mut Receiver<MachineEvent>, machine: &str, kind: MachineEventKind) {
    let wanted = MachineEvent { machine: machine.to_owned(), kind };
    let waited = timeout(BOOT, async { while events.recv().await.expect("an event") != wanted {} });
    assert!(waited.await.is_ok(), "in vain waited for {wanted:?}");
}

pub fn kind<T>(result: Result<T, HypervisorError>) -> Option<HypervisorErrorKind> {
    result.err().map(|error| error.kind)
}
