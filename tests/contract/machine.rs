//! What holds for machines without a word to their guests.

use std::time::Duration;

use patchlab::catalog::image::Os;
use patchlab::guest::GuestError;
use patchlab::hypervisor::HypervisorErrorKind::{NoMachine, Refused};
use patchlab::hypervisor::{AgentError, MachineEventKind};

use crate::lab::{Lab, kind, until, until_event};

const PING: &str = r#"{"execute":"guest-ping"}"#;
const SOON: Duration = Duration::from_secs(2);

pub async fn create_then_destroy_leaves_nothing(lab: &Lab) {
    let definition = lab.hypervisor.create(&lab.spec("fleeting")).await.expect("a machine");
    assert!(definition.contains("fleeting"), "{definition}");
    let owned = lab.hypervisor.owned().await.expect("a list");
    let [only] = owned.as_slice() else { panic!("one machine expected, found {owned:?}") };
    assert_eq!((&only.tag, only.running), (&Some(lab.spec("fleeting").tag), false));
    lab.destroy("fleeting").await;
    assert_eq!(lab.owned().await, []);
    assert_eq!(kind(lab.hypervisor.vitals("fleeting").await), Some(NoMachine));
}

pub async fn a_name_is_used_once(lab: &Lab) {
    lab.create("only").await;
    assert_eq!(kind(lab.hypervisor.create(&lab.spec("only")).await), Some(Refused));
    assert_eq!(lab.owned().await, [("only".to_owned(), false)], "the first is untouched");
    lab.destroy("only").await;
    lab.create("only").await;
    lab.destroy("only").await;
    for bad in ["", "..", "a/b", "../x", &"x".repeat(61)] {
        assert_eq!(kind(lab.hypervisor.create(&lab.spec(bad)).await), Some(Refused), "{bad:?}");
    }
}

pub async fn destroy_is_idempotent(lab: &Lab) {
    for nothing in ["never-made", "", "..", "a/b"] {
        assert_eq!(lab.hypervisor.destroy(nothing).await, Ok(()), "{nothing:?}");
    }
    lab.create("twice").await;
    lab.hypervisor.start("twice").await.expect("a start");
    assert_eq!(lab.hypervisor.destroy("twice").await, Ok(()), "running machines too");
    assert_eq!(lab.hypervisor.destroy("twice").await, Ok(()));
    assert_eq!(lab.owned().await, []);
}

pub async fn calls_to_a_missing_machine_say_so(lab: &Lab) {
    let on = &lab.hypervisor;
    assert_eq!(kind(on.start("missing").await), Some(NoMachine));
    assert_eq!(kind(on.shutdown("missing").await), Some(NoMachine));
    assert_eq!(kind(on.power_off("missing").await), Some(NoMachine));
    assert_eq!(kind(on.reset("missing").await), Some(NoMachine));
    assert_eq!(kind(on.vitals("missing").await), Some(NoMachine));
    assert_eq!(kind(on.console("missing", 0).await), Some(NoMachine));
    assert_eq!(kind(on.screenshot("missing").await), Some(NoMachine));
    let refused = on.agent("missing", PING, SOON).await;
    assert!(matches!(refused, Err(AgentError::NotRunning(_) | AgentError::Hypervisor(_))), "{refused:?}");
    let refused = lab.guests.connect("missing", Os::Debian).ping().await;
    assert!(matches!(refused, Err(GuestError::NotRunning { .. } | GuestError::Hypervisor(_))), "{refused:?}");
}

pub async fn a_machine_that_is_off_refuses_what_needs_power(lab: &Lab) {
    lab.create("off").await;
    let on = &lab.hypervisor;
    assert_eq!(kind(on.shutdown("off").await), Some(NoMachine));
    assert_eq!(kind(on.reset("off").await), Some(NoMachine));
    assert_eq!(on.power_off("off").await, Ok(()));
    assert_eq!(on.vitals("off").await.map(|vitals| vitals.running), Ok(false));
    let refused = on.agent("off", PING, SOON).await;
    assert!(matches!(refused, Err(AgentError::NotRunning(_))), "{refused:?}");
    let refused = lab.guests.connect("off", Os::Debian).ping().await;
    assert!(matches!(refused, Err(GuestError::NotRunning { .. })), "{refused:?}");
    lab.destroy("off").await;
}

pub async fn power_comes_and_goes(lab: &Lab) {
    let on = &lab.hypervisor;
    let mut events = on.events();
    lab.create("power").await;
    on.start("power").await.expect("a start");
    until_event(&mut events, "power", MachineEventKind::Started).await;
    assert_eq!(kind(on.start("power").await), Some(NoMachine), "it runs already");
    assert_eq!(lab.owned().await, [("power".to_owned(), true)]);
    let early = on.vitals("power").await.expect("vitals");
    until("the console says something", || async { on.vitals("power").await.is_ok_and(|now| now.console_bytes > early.console_bytes) })
        .await;
    until("its processor works", || async { on.vitals("power").await.is_ok_and(|now| now.running && now.cpu_ns > early.cpu_ns) }).await;
    let all = on.console("power", 0).await.expect("the console");
    let rest = on.console("power", 1).await.expect("the console");
    assert!(!all.is_empty() && rest.starts_with(&all[1..]), "an offset skips that much");
    assert_eq!(on.console("power", 1 << 40).await, Ok(Vec::new()), "past the end is nothing");
    assert!(on.screenshot("power").await.is_ok());

    on.power_off("power").await.expect("power off");
    until_event(&mut events, "power", MachineEventKind::Stopped).await;
    assert_eq!(on.power_off("power").await, Ok(()));
    assert_eq!(on.vitals("power").await.map(|vitals| vitals.running), Ok(false));
    assert_eq!(lab.owned().await, [("power".to_owned(), false)]);
    assert!(!on.console("power", 0).await.expect("the console").is_empty(), "what it said stays");

    on.start("power").await.expect("a second start");
    until_event(&mut events, "power", MachineEventKind::Started).await;
    assert_eq!(on.vitals("power").await.map(|vitals| vitals.running), Ok(true));
    lab.destroy("power").await;
}

pub async fn machines_are_made_at_the_same_time(lab: &Lab) {
    let names = ["a", "b", "c", "d"].map(|letter| format!("crowd-{letter}"));
    let specs = names.clone().map(|name| lab.spec(&name));
    let [a, b, c, d] = specs.each_ref().map(|spec| lab.hypervisor.create(spec));
    let made = tokio::join!(a, b, c, d);
    assert!(made.0.is_ok() && made.1.is_ok() && made.2.is_ok() && made.3.is_ok(), "{made:?}");
    assert_eq!(lab.owned().await, names.clone().map(|name| (name, false)));
    let [a, b, c, d] = names.each_ref().map(|name| lab.hypervisor.destroy(name));
    assert_eq!(tokio::join!(a, b, c, d), (Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(lab.owned().await, []);
}

pub async fn a_lab_sees_and_removes_its_own_alone(lab: &Lab) {
    let Some((neighbour, id)) = &lab.neighbour else { return };
    lab.create("ours").await;
    neighbour.create(&lab.spec_of("theirs", id)).await.expect("a machine");
    assert_eq!(lab.owned().await, [("ours".to_owned(), false)]);
    assert_eq!(kind(lab.hypervisor.destroy("theirs").await), Some(Refused));
    assert_eq!(neighbour.owned().await.map(|owned| owned.len()), Ok(1));
    neighbour.destroy("theirs").await.expect("a removal");
    lab.destroy("ours").await;
}
