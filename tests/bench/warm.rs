//! A machine that goes on from a template against the same machine booted, on a real image: until its guest agent answers, and until it
//! is a machine of its own, looked at, and its first case starts.
//!
//! Needs a state folder with the golden image of acme's web server: `patchlab image build acme-web`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::catalog::image::Os;
use patchlab::catalog::text::Size;
use patchlab::cell::identity::{Identity, unfit};
use patchlab::guest::agent::AgentGuests;
use patchlab::guest::linux::apply::facts_step;
use patchlab::guest::{Guest, Guests, Job, JobState, JobStep, Renewal};
use patchlab::hypervisor::libvirt::{Libvirt, quiet};
use patchlab::hypervisor::segments::Mac;
use patchlab::hypervisor::{Hypervisor, MachineNic, MachineSpec, OnTemplate, Tag};
use patchlab::id::{Digest, RunId};
use patchlab::lab::images;
use patchlab::lab::media::LABEL;
use patchlab::lab::templates::{Key, Limits, Record, Template, Templates};
use tokio::time::{Instant, sleep};

/// How many times faster than a boot, and the longest until the agent answers and until the first case starts.
const FASTER: f64 = 50.0;
const ANSWERS: Duration = Duration::from_millis(700);
const STARTS: Duration = Duration::from_secs(2);
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    let folder = tempfile::Builder::new().prefix("patchlab-bench-").tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
    quiet(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(measure(folder.path()))
}

struct Bench {
    hypervisor: Arc<dyn Hypervisor>,
    guests: AgentGuests,
    templates: Templates,
    image: PathBuf,
    media: PathBuf,
    digest: Digest,
}

async fn measure(state: &Path) -> ExitCode {
    let images = std::env::var("PATCHLAB_TEST_STATE").unwrap_or_else(|_| format!("{}/.patchlab", env!("CARGO_MANIFEST_DIR")));
    let store = images::Store::open(Path::new(&images)).expect("a store of images");
    let Some(record) = store.record(&"acme-web".parse().expect("a name")).expect("readable") else {
        eprintln!("bench: {images} has no image acme-web; make it: patchlab image build acme-web");
        return ExitCode::from(2);
    };
    let image = std::fs::canonicalize(store.path_of(record.image)).expect("the image");
    let hypervisor: Arc<dyn Hypervisor> = Arc::new(Libvirt::open("qemu:///embed", None, state, "bench").expect("libvirt"));
    let guests = AgentGuests { hypervisor: hypervisor.clone() };
    let templates = Templates::open(state, Limits::default()).expect("templates");
    let media = state.join("media.iso");
    std::fs::create_dir(state.join("payload")).expect("a folder");
    let made =
        std::process::Command::new("xorrisofs").args(["-quiet", "-V", LABEL, "-R", "-o"]).args([&media, &state.join("payload")]).status();
    assert!(made.is_ok_and(|status| status.success()), "xorrisofs makes the media");
    let bench = Bench { media, hypervisor, guests, templates, image, digest: record.image };
    let (cold, template) = bench.cold().await;
    let mut answers = Vec::new();
    let mut starts = Vec::new();
    for round in 0..ROUNDS {
        let (answered, started) = bench.warm(round, &template).await;
        answers.push(answered);
        starts.push(started);
    }
    answers.sort();
    starts.sort();
    let (answered, started) = (answers[ROUNDS / 2], starts[ROUNDS / 2]);
    let faster = cold.as_secs_f64() / answered.as_secs_f64();
    let good = [
        line(
            "warm clone to agent, against cold boot",
            format!("{faster:.0} times faster"),
            format!("at least {FASTER:.0}"),
            faster >= FASTER,
        ),
        line("warm clone to agent", seconds(answered), format!("at most {}", seconds(ANSWERS)), answered <= ANSWERS),
        line("warm clone to first case, looked at", seconds(started), format!("at most {}", seconds(STARTS)), started <= STARTS),
    ];
    eprintln!("cold boot to agent {}; warm {:?}; to the first case {:?}", seconds(cold), answers, starts);
    if good.iter().all(|good| *good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn line(what: &str, found: String, wanted: String, good: bool) -> bool {
    println!("{what}: {found}, {wanted}: {}", if good { "ok" } else { "short" });
    good
}

impl Bench {
    fn spec(&self, name: &str, mac: u8) -> MachineSpec {
        let plain = Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
        MachineSpec {
            name: name.to_owned(),
            tag: Tag {
                lab: "bench".to_owned(),
                run: RunId::from_parts(0, [7; 10]),
                cell: "acme.web@virtio-bios".parse().expect("a cell"),
                lease: name.to_owned(),
            },
            hardware: Hardware { memory: Size::mib(1024), cpu: "qemu64".to_owned(), ..plain },
            image: self.image.clone(),
            image_digest: self.digest,
            template: None,
            media: Some(self.media.clone()),
            nics: vec![MachineNic { mac: Mac([0x52, 0x54, 0, 0, 0, mac]), at: None }],
        }
    }

    /// What a boot takes until the agent answers, and the template that comes of it.
    async fn cold(&self) -> (Duration, Template) {
        let spec = MachineSpec { media: None, ..self.spec("cold", 1) };
        self.hypervisor.create(&spec).await.expect("a machine");
        let guest = self.guests.connect("cold", Os::Debian);
        let began = Instant::now();
        self.hypervisor.start("cold").await.expect("it starts");
        let answered = answers(&*guest, began).await;
        while !guest.is_settled().await.unwrap_or(false) {
            sleep(Duration::from_millis(200)).await;
        }
        guest.install().await.expect("installed");
        let rehearsal = Job { id: "rehearsal".to_owned(), steps: vec![facts_step()] };
        guest.start(&rehearsal).await.expect("started");
        while !matches!(guest.poll(&rehearsal.id).await.expect("an answer"), JobState::Ended { .. }) {
            sleep(Duration::from_millis(200)).await;
        }
        guest.kill(&rehearsal.id).await.expect("forgotten");
        let identity = guest.identity().await.expect("an identity");
        let host = self.hypervisor.host().await.expect("a host");
        let key = Key::new(self.digest, Digest::of("bench"), Digest::of("runner"), 1, &host);
        let draft = self.templates.draft("bench", 0).expect("a draft");
        self.hypervisor.freeze("cold", &draft).await.expect("frozen");
        self.hypervisor.destroy("cold").await.expect("destroyed");
        let macs = vec![spec.nics[0].mac];
        let boot_ms = u64::try_from(answered.as_millis()).expect("a time");
        let record = Record { key, frozen: Timestamp::now(), boot_ms, identity, macs, files: BTreeMap::new() };
        let template = self.templates.publish(&draft, record).expect("a template");
        (answered, template)
    }

    async fn warm(&self, round: usize, template: &Template) -> (Duration, Duration) {
        let name = format!("warm-{round}");
        let spec = MachineSpec {
            template: Some(OnTemplate {
                folder: template.folder.clone(),
                macs: template.record.macs.clone(),
                media: false,
                digests: BTreeMap::new(),
            }),
            ..self.spec(&name, 10 + u8::try_from(round).expect("few"))
        };
        let began = Instant::now();
        self.hypervisor.create(&spec).await.expect("a machine");
        self.hypervisor.thaw(&name).await.expect("thawed");
        let guest = self.guests.connect(&name, Os::Debian);
        let answered = answers(&*guest, began).await;
        let mut seed = vec![0; 64];
        getrandom::fill(&mut seed).expect("random numbers");
        let (old, new) = (template.record.macs[0].to_string(), spec.nics[0].mac.to_string());
        let makes_host_keys = template.record.identity.makes_host_keys;
        let renewal = Renewal { now: Timestamp::now(), seed, macs: vec![(old, new.clone())], makes_host_keys };
        let renewed = guest.renew(&renewal).await.expect("renewed");
        let looked = |others: &[Identity]| unfit(&renewed.identity, &template.record.identity, others, &[new]);
        let wrong = self.templates.admit(template, &renewed.identity, looked).expect("noted");
        assert!(wrong.is_empty(), "{wrong:?}");
        while !renewed.settled && !guest.is_settled().await.expect("an answer") {
            assert!(began.elapsed() < Duration::from_secs(60), "the clone does not come to rest");
        }
        let step = JobStep {
            command: "true".to_owned(),
            folder: None,
            env: BTreeMap::new(),
            limit: Duration::from_secs(10),
            output_cap: 1000,
            terminal: false,
            needs: Vec::new(),
        };
        guest.start(&Job { id: "first".to_owned(), steps: vec![step] }).await.expect("started");
        let started = began.elapsed();
        self.hypervisor.destroy(&name).await.expect("destroyed");
        (answered, started)
    }
}

async fn answers(guest: &dyn Guest, began: Instant) -> Duration {
    while guest.ping().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(600), "the agent never answered");
        sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
