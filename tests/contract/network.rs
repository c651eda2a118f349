//! What holds for the networks that machines are joined by.

use std::collections::BTreeSet;
use std::time::Duration;

use patchlab::hypervisor::HypervisorErrorKind::{NoMachine, Refused};
use patchlab::hypervisor::segments::{Fault, Mac, NetworkSpec, NicSpec, SegmentSpec, Verb};
use patchlab::hypervisor::{MachineNic, MachineSpec, Plug};
use patchlab::id::Name;

use crate::lab::{Lab, kind};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A client and a server on one segment, always with the same addresses.
fn lan() -> NetworkSpec {
    let nic = |role: &str, last: u8| NicSpec { name: name(role), mac: Mac([0x52, 0x54, 0, 7, 7, last]) };
    NetworkSpec {
        seed: 7,
        capture_cap: 1 << 20,
        segments: vec![SegmentSpec { name: name("lan"), nics: vec![nic("client", 1), nic("server", 2)] }],
    }
}

fn fault(nic: Option<&str>, verb: Verb) -> Fault {
    Fault { segment: name("lan"), nic: nic.map(name), verb }
}

fn on(lab: &Lab, machine: &str, network: &str, nic: &str) -> MachineSpec {
    let mac = lan().segments[0].nics.iter().find(|one| one.name.as_str() == nic).map_or(Mac([0x52, 0x54, 0, 0, 0, 9]), |one| one.mac);
    let at = Plug { network: network.to_owned(), segment: name("lan"), nic: name(nic) };
    MachineSpec { nics: vec![MachineNic { mac, at: Some(at) }], ..lab.spec(machine) }
}

async fn open(lab: &Lab, network: &str) {
    lab.hypervisor.open_network(network, &lab.spec(network).tag, &lan()).await.expect("a network");
}

pub async fn a_network_is_owned_until_it_is_removed(lab: &Lab) {
    open(lab, "net").await;
    let owned = lab.hypervisor.owned().await.expect("a list");
    let [only] = owned.as_slice() else { panic!("one network expected, found {owned:?}") };
    assert_eq!((only.machine.as_str(), &only.tag, only.running), ("net", &Some(lab.spec("net").tag), false));
    assert_eq!(kind(lab.hypervisor.open_network("net", &lab.spec("net").tag, &lan()).await), Some(Refused), "the name is taken");
    assert_eq!(lab.hypervisor.wire("net").await.expect("a look").broken, None, "the first is untouched");
    lab.destroy("net").await;
    lab.destroy("net").await;
    assert_eq!(lab.owned().await, []);
    open(lab, "net").await;
    lab.destroy("net").await;
}

pub async fn a_machine_needs_a_place_on_an_open_network(lab: &Lab) {
    assert_eq!(kind(lab.hypervisor.create(&on(lab, "lost", "net", "client")).await), Some(Refused));
    open(lab, "net").await;
    assert_eq!(kind(lab.hypervisor.create(&on(lab, "lost", "net", "stranger")).await), Some(Refused));
    lab.hypervisor.create(&on(lab, "joined", "net", "client")).await.expect("a machine");
    assert_eq!(lab.owned().await, [("joined".to_owned(), false), ("net".to_owned(), false)]);
    lab.destroy("joined").await;
    lab.destroy("net").await;
}

pub async fn calls_to_a_missing_network_say_so(lab: &Lab) {
    assert_eq!(kind(lab.hypervisor.wire("missing").await), Some(NoMachine));
    assert_eq!(kind(lab.hypervisor.disturb("missing", &fault(None, Verb::LinkDown)).await), Some(NoMachine));
    open(lab, "net").await;
    let elsewhere = Fault { segment: name("wan"), ..fault(None, Verb::LinkDown) };
    assert_eq!(kind(lab.hypervisor.disturb("net", &elsewhere).await), Some(Refused));
    assert_eq!(kind(lab.hypervisor.disturb("net", &fault(Some("stranger"), Verb::LinkDown)).await), Some(Refused));
    lab.destroy("net").await;
    assert_eq!(kind(lab.hypervisor.wire("net").await), Some(NoMachine));
}

pub async fn links_go_down_and_up(lab: &Lab) {
    open(lab, "net").await;
    lab.hypervisor.create(&on(lab, "linked", "net", "client")).await.expect("a machine");
    lab.hypervisor.start("linked").await.expect("a start");
    for (nic, verb) in [(Some("client"), Verb::LinkDown), (Some("client"), Verb::LinkUp), (None, Verb::LinkDown), (None, Verb::Clear)] {
        assert_eq!(lab.hypervisor.disturb("net", &fault(nic, verb.clone())).await, Ok(()), "{verb:?} on {nic:?}");
    }
    lab.hypervisor.power_off("linked").await.expect("off");
    assert_eq!(lab.hypervisor.disturb("net", &fault(None, Verb::LinkDown)).await, Ok(()), "of a machine that is off too");
    lab.destroy("linked").await;
    lab.destroy("net").await;
}

/// The places that a machine's definition names: ports of the host, or networks.
fn places(definition: &str) -> BTreeSet<String> {
    let values = |attribute: &'static str| definition.split(attribute).skip(1).filter_map(|rest| rest.split('\'').next());
    // A device's own ports have small numbers.
    let ports = values(" port='").filter(|port| port.len() > 3);
    ports.chain(values(" network='")).map(str::to_owned).collect()
}

pub async fn networks_with_the_same_addresses_share_nothing(lab: &Lab) {
    let mut seen = BTreeSet::new();
    for net in ["net-a", "net-b"] {
        open(lab, net).await;
        for role in ["client", "server"] {
            let definition = lab.hypervisor.create(&on(lab, &format!("{net}-{role}"), net, role)).await.expect("a machine");
            let places = places(&definition);
            // Those of one network may share its name; nothing of the other's is among them.
            assert!(places.is_disjoint(&seen), "{places:?} in {seen:?}");
        }
        assert_eq!(lab.hypervisor.wire(net).await.expect("a look").broken, None);
        seen.extend(places(&lab.hypervisor.create(&on(lab, &format!("{net}-other"), net, "client")).await.expect("a machine")));
    }
    lab.destroy("net-a").await;
    assert_eq!(lab.hypervisor.wire("net-b").await.expect("a look").broken, None, "the other goes on");
    for net in ["net-a", "net-b"] {
        for role in ["client", "server", "other"] {
            lab.destroy(&format!("{net}-{role}")).await;
        }
    }
    lab.destroy("net-b").await;
    assert_eq!(lab.owned().await, []);
}

pub async fn a_lab_leaves_anothers_network_alone(lab: &Lab) {
    let Some((neighbour, id)) = &lab.neighbour else { return };
    let foreign = lab.spec_of("theirs", id).tag;
    neighbour.open_network("theirs", &foreign, &lan()).await.expect("a network");
    assert_eq!(lab.owned().await, []);
    // Whether it is refused or does nothing, the network stays.
    let _ = lab.hypervisor.destroy("theirs").await;
    assert_eq!(neighbour.wire("theirs").await.expect("a look").broken, None);
    assert_eq!(kind(lab.hypervisor.open_network("mine", &foreign, &lan()).await), Some(Refused), "a tag that is not its own");
    neighbour.destroy("theirs").await.expect("a removal");
    assert_eq!(neighbour.owned().await.expect("a list"), []);
}

pub async fn what_a_distant_network_cannot_do_is_said(lab: &Lab) {
    open(lab, "net").await;
    let by = Duration::from_millis(5);
    for verb in [Verb::Delay { by }, Verb::Jitter { up_to: by }, Verb::Partition { groups: Vec::new() }] {
        let error = lab.hypervisor.disturb("net", &fault(None, verb)).await.expect_err("not there");
        assert!(error.kind == Refused && error.found.contains("links can be taken down and up"), "{error:?}");
    }
    let seen = lab.hypervisor.wire("net").await.expect("a look");
    assert!(seen.captures.is_empty() && seen.unseen.is_some(), "{seen:?}");
    lab.destroy("net").await;
}
