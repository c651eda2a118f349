//! What holds for templates: machines frozen in the middle of their lives, and those that go on from there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use patchlab::catalog::image::Os;
use patchlab::cell::identity::{Identity, unfit};
use patchlab::guest::{Guest, Renewal, StepEnd};
use patchlab::hypervisor::HypervisorErrorKind::{NoMachine, Refused};
use patchlab::hypervisor::segments::Mac;
use patchlab::hypervisor::{MachineEventKind, MachineNic, MachineSpec, OnTemplate};

use crate::guest::{run, step};
use crate::lab::{Lab, PAYLOAD, kind, templates, until, until_event, until_settled};

/// What was frozen.
pub struct Template {
    identity: Identity,
    mac: Mac,
    files: BTreeMap<String, u64>,
}

pub async fn clones_of_a_template_are_machines_of_their_own(lab: &Lab) {
    let template = template(lab).await;
    let mut others = Vec::new();
    for (name, last) in [("first-clone", 4), ("second-clone", 5)] {
        let (guest, mac) = (thawed(lab, template, name, last).await, mac(last).to_string());
        let renewed = guest.renew(&renewal(template, &mac, last)).await.expect("a machine of its own");
        assert_eq!(unfit(&renewed.identity, &template.identity, &others, std::slice::from_ref(&mac)), Vec::<String>::new(), "{name}");
        assert!(others.iter().chain([&template.identity]).all(|other| other.random != renewed.identity.random), "{name}");
        assert!(renewed.identity.macs.contains(&mac) && !renewed.identity.macs.contains(&template.mac.to_string()), "{name}");
        assert_eq!(guest.boot_id().await, Ok(renewed.boot_id), "{name}");
        others.push(renewed.identity);
    }
    assert_eq!(lab.owned().await, ["first-clone", "second-clone"].map(|name| (name.to_owned(), true)), "both at once");

    lab.destroy("first-clone").await;
    assert_eq!(files(lab.templates.path()), template.files, "a clone takes nothing of its template with it");
    let again = thawed(lab, template, "third-clone", 6).await;
    assert!(again.renew(&renewal(template, &mac(6).to_string(), 6)).await.is_ok(), "it serves another");
    lab.destroy("second-clone").await;
    lab.destroy("third-clone").await;
    assert_eq!(lab.owned().await, []);
    assert_eq!(files(lab.templates.path()), template.files);
}

/// With what it did and with the medium that it uses. Nothing of the first template is needed any more, nor anything of the clone.
pub async fn a_clone_is_frozen_in_its_turn(lab: &Lab) {
    let template = template(lab).await;
    let guest = thawed(lab, template, "worked", 9).await;
    guest.renew(&renewal(template, &mac(9).to_string(), 9)).await.expect("a machine of its own");
    let [wrote] = run(&*guest, "work", [step("echo work >/root/work && cat \"$PATCHLAB_MEDIA/word\" >>/root/work")]).await;
    assert_eq!(wrote.end, StepEnd::Exit(0));
    guest.kill("work").await.expect("forgotten");
    let checkpoint = Template { identity: guest.identity().await.expect("an identity"), mac: mac(9), files: BTreeMap::new() };
    let folder = templates(lab.templates.path().parent().expect("a folder above"));
    lab.hypervisor.freeze("worked", folder.path()).await.expect("a checkpoint");
    lab.destroy("worked").await;

    for last in [10, 11] {
        let on = OnTemplate { folder: folder.path().to_owned(), macs: vec![checkpoint.mac], media: true, digests: BTreeMap::new() };
        let name = format!("further-{last}");
        lab.hypervisor.create(&MachineSpec { template: Some(on), ..spec(lab, template, &name, last) }).await.expect("a machine on it");
        let guest = goes_on(lab, &name).await;
        guest.renew(&renewal(&checkpoint, &mac(last).to_string(), last)).await.expect("a machine of its own");
        let [read] = run(&*guest, "work", [step("cat /root/work \"$PATCHLAB_MEDIA/word\"")]).await;
        assert_eq!(read.end, StepEnd::Exit(0));
        if lab.media.is_some() {
            assert_eq!(String::from_utf8_lossy(&read.output), format!("work\n{PAYLOAD}{PAYLOAD}"));
            let other = tempfile::tempdir().expect("a folder");
            assert_eq!(kind(lab.hypervisor.freeze(&name, other.path()).await), Some(Refused), "no deeper than that");
        }
        lab.destroy(&name).await;
    }
    assert_eq!(lab.owned().await, []);
    assert_eq!(files(lab.templates.path()), template.files);
}

pub async fn a_clone_goes_on_only_once(lab: &Lab) {
    thawed(lab, template(lab).await, "once", 7).await;
    assert_eq!(kind(lab.hypervisor.thaw("once").await), Some(NoMachine), "it runs");
    assert_eq!(lab.owned().await, [("once".to_owned(), true)], "and still does");
    lab.hypervisor.power_off("once").await.expect("power off");
    assert_eq!(kind(lab.hypervisor.thaw("once").await), Some(NoMachine), "it went on before");
    assert_eq!(lab.owned().await, [("once".to_owned(), false)]);
    lab.destroy("once").await;
    assert_eq!(lab.owned().await, []);
}

pub async fn a_clone_that_never_went_on_leaves_nothing(lab: &Lab) {
    let template = template(lab).await;
    lab.hypervisor.create(&spec(lab, template, "asleep", 8)).await.expect("a machine on a template");
    assert_eq!(lab.owned().await, [("asleep".to_owned(), false)]);
    lab.destroy("asleep").await;
    assert_eq!(lab.owned().await, []);
    assert_eq!(files(lab.templates.path()), template.files);
}

pub async fn only_what_runs_is_frozen(lab: &Lab) {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(kind(lab.hypervisor.freeze("missing", folder.path()).await), Some(NoMachine));
    lab.create("off").await;
    assert_eq!(kind(lab.hypervisor.freeze("off", folder.path()).await), Some(NoMachine));
    assert_eq!(lab.owned().await, [("off".to_owned(), false)]);
    lab.hypervisor.start("off").await.expect("it starts as ever");
    lab.destroy("off").await;
    assert_eq!(lab.owned().await, []);
}

pub async fn only_a_clone_of_a_template_is_thawed(lab: &Lab) {
    assert_eq!(kind(lab.hypervisor.thaw("missing").await), Some(NoMachine));
    lab.create("cold").await;
    assert_eq!(kind(lab.hypervisor.thaw("cold").await), Some(NoMachine), "it was made on no template");
    assert_eq!(lab.owned().await, [("cold".to_owned(), false)]);
    lab.hypervisor.start("cold").await.expect("it starts as ever");
    assert_eq!(kind(lab.hypervisor.thaw("cold").await), Some(NoMachine));
    assert_eq!(lab.owned().await, [("cold".to_owned(), true)]);
    lab.destroy("cold").await;
    assert_eq!(lab.owned().await, []);
}

pub async fn a_machine_on_no_template_is_refused_and_leaves_nothing(lab: &Lab) {
    let empty = tempfile::tempdir().expect("a folder");
    for folder in [empty.path().to_owned(), empty.path().join("missing")] {
        let macs = vec![mac(3)];
        let spec = MachineSpec {
            template: Some(OnTemplate { folder: folder.clone(), macs, media: false, digests: BTreeMap::new() }),
            ..lab.spec("unfounded")
        };
        assert_eq!(kind(lab.hypervisor.create(&spec).await), Some(Refused), "{}", folder.display());
        assert_eq!(lab.owned().await, [], "{}", folder.display());
    }
    assert_eq!(files(empty.path()), BTreeMap::new());
    lab.create("unfounded").await;
    lab.destroy("unfounded").await;
}

/// libvirt's fake, and a libvirt elsewhere.
pub fn machines_elsewhere_are_not_frozen(lab: &Lab) {
    let why = lab.hypervisor.unfreezable(&lab.spec("elsewhere").hardware);
    assert!(why.as_deref().is_some_and(|why| why.contains("not a QEMU of this host")), "{why:?}");
}

/// The lab's template, frozen when it is first asked for: as the lab does it, of a machine with nothing in its drive.
async fn template(lab: &Lab) -> &Template {
    lab.template.get_or_init(|| freeze(lab)).await
}

async fn freeze(lab: &Lab) -> Template {
    let spec = MachineSpec { media: None, ..lab.spec("frozen") };
    assert!(lab.hypervisor.freezes());
    assert_eq!(lab.hypervisor.unfreezable(&spec.hardware), None);
    lab.hypervisor.create(&spec).await.expect("a machine");
    let mut events = lab.hypervisor.events();
    lab.hypervisor.start("frozen").await.expect("a start");
    until_event(&mut events, "frozen", MachineEventKind::AgentConnected).await;
    let guest = lab.guests.connect("frozen", Os::Debian);
    until_settled(&*guest).await;
    guest.install().await.expect("the job runner in place");
    let identity = guest.identity().await.expect("an identity");

    lab.hypervisor.freeze("frozen", lab.templates.path()).await.expect("a template");
    assert_eq!(lab.hypervisor.vitals("frozen").await.map(|vitals| vitals.running), Ok(false));
    assert_eq!(lab.owned().await, [("frozen".to_owned(), false)]);
    assert_eq!(kind(lab.hypervisor.thaw("frozen").await), Some(NoMachine), "it is no clone");
    lab.destroy("frozen").await;
    assert_eq!(lab.owned().await, []);
    let files = files(lab.templates.path());
    assert!(files.values().any(|bytes| *bytes > 0), "{files:?}");
    Template { identity, mac: spec.nics[0].mac, files }
}

/// A clone of the lab's template that runs and whose agent answers.
async fn thawed(lab: &Lab, template: &Template, name: &str, last: u8) -> Arc<dyn Guest> {
    lab.hypervisor.create(&spec(lab, template, name, last)).await.expect("a machine on a template");
    goes_on(lab, name).await
}

async fn goes_on(lab: &Lab, name: &str) -> Arc<dyn Guest> {
    assert_eq!(lab.hypervisor.vitals(name).await.map(|vitals| vitals.running), Ok(false), "nothing goes on by itself");
    lab.hypervisor.thaw(name).await.expect("it goes on");
    assert_eq!(lab.hypervisor.vitals(name).await.map(|vitals| vitals.running), Ok(true));
    let guest = lab.guests.connect(name, Os::Debian);
    until("the agent answers", || async { guest.ping().await.is_ok() }).await;
    guest
}

fn spec(lab: &Lab, template: &Template, name: &str, last: u8) -> MachineSpec {
    let nics = vec![MachineNic { mac: mac(last), at: None }];
    let template = OnTemplate { folder: lab.templates.path().to_owned(), macs: vec![template.mac], media: false, digests: BTreeMap::new() };
    MachineSpec { template: Some(template), nics, ..lab.spec(name) }
}

fn mac(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 1, 2, last])
}

fn renewal(template: &Template, mac: &str, last: u8) -> Renewal {
    Renewal {
        now: Timestamp::now(),
        seed: vec![last; 64],
        macs: vec![(template.mac.to_string(), mac.to_owned())],
        makes_host_keys: template.identity.makes_host_keys,
    }
}

/// A folder's files and how long they are.
fn files(folder: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("a file").len())).collect()
}
