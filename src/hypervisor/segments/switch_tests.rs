use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::hypervisor::segments::line::Chance;

const MS: Duration = Duration::from_millis(1);

fn name(port: usize) -> Name {
    format!("nic{port}").parse().expect("a name")
}

fn own(port: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, port as u8])
}

fn switch(seed: u64, ports: usize) -> Switch {
    Switch::new(seed, (0..ports).map(|port| (name(port), own(port))))
}

fn frame(to: Mac, source: Mac) -> Vec<u8> {
    [&to.0[..], &source.0, &[8, 0], &[0; 46]].concat()
}

fn send(switch: &mut Switch, now: Duration, from: usize, to: Mac, source: Mac) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    switch.forward(now, from, &frame(to, source), &mut deliveries);
    deliveries
}

fn reached(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(|delivery| delivery.to).collect()
}

const EVERYONE: Mac = Mac([0xff; 6]);

#[test]
fn unknown_and_group_addresses_are_flooded_and_known_ones_are_not() {
    let mut switch = switch(1, 4);
    let roaming = Mac([2, 0, 0, 0, 1, 1]);
    for to in [EVERYONE, Mac([1, 0, 0x5e, 0, 0, 1]), roaming] {
        assert_eq!(reached(&send(&mut switch, MS, 1, to, own(1))), [0, 2, 3], "{to}");
    }
    assert_eq!(reached(&send(&mut switch, MS, 1, own(3), own(1))), [3]);
    send(&mut switch, MS, 2, EVERYONE, roaming);
    assert_eq!(reached(&send(&mut switch, MS, 1, roaming, own(1))), [2]);
    assert!(reached(&send(&mut switch, MS, 2, roaming, own(2))).is_empty());
    assert_eq!(switch.stats()[2].dropped, [(Reason::SameSide, 1)].into());
}

#[test]
fn a_guest_that_poses_as_another_does_not_get_its_frames() {
    let mut switch = switch(1, 3);
    send(&mut switch, MS, 2, EVERYONE, own(0));
    assert_eq!(reached(&send(&mut switch, MS, 1, own(0), own(1))), [0]);
}

#[test]
fn malformed_frames_go_nowhere_and_are_not_learned() {
    let mut switch = switch(1, 2);
    let mut deliveries = Vec::new();
    for bad in [vec![], vec![2; 13], frame(EVERYONE, EVERYONE), frame(EVERYONE, Mac([3; 6])), vec![2; mac::LONGEST + 1]] {
        assert!(!switch.forward(MS, 0, &bad, &mut deliveries), "{bad:?}");
    }
    let mut longest = frame(EVERYONE, own(0));
    longest.resize(mac::LONGEST, 0);
    assert!(switch.forward(MS, 0, &longest, &mut deliveries));
    assert_eq!(reached(&deliveries), [1]);
    assert_eq!(switch.stats()[0].dropped, [(Reason::Malformed, 4), (Reason::Oversize, 1)].into());
}

#[test]
fn delays_of_both_links_and_of_the_segment_add_up() {
    let mut switch = switch(1, 3);
    for (nic, by) in [(Some(name(0)), MS), (Some(name(1)), MS * 10), (None, MS * 100)] {
        switch.apply(nic.as_ref(), &Verb::Delay { by }).expect("a good fault");
    }
    let there = send(&mut switch, MS * 1000, 0, EVERYONE, own(0));
    assert_eq!(there, [Delivery { to: 1, at: MS * 1111 }, Delivery { to: 2, at: MS * 1101 }]);
    assert_eq!(send(&mut switch, MS * 1000, 1, own(0), own(1)), [Delivery { to: 0, at: MS * 1111 }]);
    switch.apply(None, &Verb::Clear).expect("a good fault");
    assert_eq!(send(&mut switch, MS, 1, own(0), own(1)), [Delivery { to: 0, at: MS }]);
}

#[test]
fn a_link_that_is_down_carries_nothing_not_even_what_was_on_its_way() {
    let mut switch = switch(1, 3);
    let roaming = Mac([2, 0, 0, 0, 1, 1]);
    send(&mut switch, MS, 0, EVERYONE, roaming);
    switch.apply(Some(&name(0)), &Verb::LinkDown).expect("a good fault");
    assert!(!switch.arrives(1, 0));
    assert!(reached(&send(&mut switch, MS, 0, EVERYONE, own(0))).is_empty());
    assert_eq!(reached(&send(&mut switch, MS, 1, roaming, own(1))), [2], "forgotten, so flooded to whom it reaches");
    switch.apply(Some(&name(0)), &Verb::LinkUp).expect("a good fault");
    assert_eq!(reached(&send(&mut switch, MS, 1, own(0), own(1))), [0]);
    switch.apply(None, &Verb::LinkDown).expect("a good fault");
    assert!(reached(&send(&mut switch, MS, 1, own(0), own(1))).is_empty());
    assert!(!switch.arrives(1, 2));
}

#[test]
fn partitions_are_made_and_undone() {
    let mut switch = switch(1, 4);
    let group = |ports: &[usize]| ports.iter().map(|port| name(*port)).collect::<BTreeSet<_>>();
    let sees = |switch: &mut Switch| (0..4).map(|port| reached(&send(switch, MS, port, EVERYONE, own(port)))).collect::<Vec<_>>();
    switch.apply(None, &Verb::Partition { groups: vec![group(&[0, 3])] }).expect("a good fault");
    assert_eq!(sees(&mut switch), [vec![3], vec![2], vec![1], vec![0]]);
    switch.apply(Some(&name(0)), &Verb::Partition { groups: vec![] }).expect("a good fault");
    assert_eq!(sees(&mut switch), [vec![], vec![2], vec![1], vec![]]);
    switch.apply(None, &Verb::Partition { groups: vec![] }).expect("a good fault");
    assert_eq!(sees(&mut switch), [vec![1, 2, 3], vec![0, 2, 3], vec![0, 1, 3], vec![0, 1, 2]]);
}

#[test]
fn faults_that_make_no_sense_are_refused_and_change_nothing() {
    let mut switch = switch(1, 2);
    let both: BTreeSet<_> = [name(0), name(1)].into();
    let stranger: BTreeSet<_> = [name(0), name(7)].into();
    for (nic, verb, said) in [
        (Some(name(7)), Verb::LinkDown, "no NIC nic7"),
        (None, Verb::Partition { groups: vec![stranger] }, "no NIC nic7"),
        (None, Verb::Partition { groups: vec![both.clone(), both.clone()] }, "in two groups"),
        (Some(name(0)), Verb::Partition { groups: vec![both] }, "on the NIC nic0"),
        (None, Verb::Delay { by: MS * 60_001 }, "longer than 60s"),
        (None, Verb::Jitter { up_to: Duration::MAX }, "longer than 60s"),
    ] {
        let bad = switch.apply(nic.as_ref(), &verb).expect_err("a bad fault");
        assert!(bad.found.contains(said), "{bad:?}");
    }
    assert_eq!(send(&mut switch, MS, 0, own(1), own(0)), [Delivery { to: 1, at: MS }]);
}

const PORTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Frame { from: usize, to: Mac, source: Mac },
    Fault { nic: Option<usize>, verb: Verb },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mac = prop_oneof![
        6 => (0..PORTS).prop_map(own),
        2 => (0..8_u8).prop_map(|n| Mac([2, 0, 0, 0, 1, n])),
        2 => Just(EVERYONE),
    ];
    let time = (0..50_u64).prop_map(Duration::from_millis);
    let chance = (0..=4).prop_map(|n| Chance::percent(f64::from(n) * 25.0).expect("at most 100"));
    let groups = proptest::collection::vec(0..3_usize, PORTS).prop_map(|of| {
        let group = |n| (0..PORTS).filter(|port| of[*port] == n).map(name).collect();
        vec![group(0), group(1)]
    });
    let verb = prop_oneof![
        Just(Verb::LinkDown),
        Just(Verb::LinkUp),
        time.clone().prop_map(|by| Verb::Delay { by }),
        time.prop_map(|up_to| Verb::Jitter { up_to }),
        chance.clone().prop_map(|chance| Verb::Loss { chance }),
        chance.prop_map(|chance| Verb::Duplicate { chance }),
        groups.prop_map(|groups| Verb::Partition { groups }),
        Just(Verb::Clear),
    ];
    let step = prop_oneof![
        5 => (0..PORTS, mac.clone(), mac).prop_map(|(from, to, source)| Step::Frame { from, to, source }),
        1 => (proptest::option::of(0..PORTS), verb).prop_map(|(nic, verb)| Step::Fault { nic, verb }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What the links are like, told more simply than the switch does.
#[derive(Clone)]
struct Model {
    up: [bool; PORTS],
    all_up: bool,
    group: [usize; PORTS],
}

impl Model {
    fn apply(&mut self, nic: Option<usize>, verb: &Verb) {
        match (nic, verb) {
            (Some(nic), Verb::LinkDown) => self.up[nic] = false,
            (Some(nic), Verb::LinkUp) => self.up[nic] = true,
            (Some(nic), Verb::Clear) => (self.up[nic], self.group[nic]) = (true, 0),
            (None, Verb::LinkDown) => self.all_up = false,
            (None, Verb::LinkUp) => self.all_up = true,
            (None, Verb::Clear) => *self = Self { up: [true; PORTS], all_up: true, group: [0; PORTS] },
            (None, Verb::Partition { groups }) => {
                self.group = std::array::from_fn(|port| groups.iter().position(|group| group.contains(&name(port))).map_or(0, |n| n + 1));
            }
            _ => {}
        }
    }

    fn sees(&self, from: usize, to: usize) -> bool {
        self.all_up && self.up[from] && self.up[to] && self.group[from] == self.group[to] && from != to
    }
}

fn drops(switch: &Switch) -> u64 {
    switch.stats().iter().flat_map(|port| port.dropped.values()).sum()
}

proptest! {
    #[test]
    fn whatever_happens_frames_stay_between_ports_that_see_each_other(seed: u64, steps in steps()) {
        let mut switch = switch(seed, PORTS);
        let mut replay = switch.clone();
        let mut model = Model { up: [true; PORTS], all_up: true, group: [0; PORTS] };
        for (at, step) in steps.iter().enumerate() {
            let now = MS * at as u32;
            match step {
                Step::Fault { nic, verb } => {
                    let named = nic.map(name);
                    let done = switch.apply(named.as_ref(), verb);
                    prop_assert_eq!(&done, &replay.apply(named.as_ref(), verb));
                    if done.is_ok() {
                        model.apply(*nic, verb);
                    }
                }
                Step::Frame { from, to, source } => {
                    let before = drops(&switch);
                    let deliveries = send(&mut switch, now, *from, *to, *source);
                    prop_assert_eq!(&deliveries, &send(&mut replay, now, *from, *to, *source));
                    for delivery in &deliveries {
                        prop_assert!(model.sees(*from, delivery.to), "{} reached {}", from, delivery.to);
                        prop_assert!(delivery.at >= now && delivery.at < now + MS * 300);
                        prop_assert!(to.is_group() || *to != own(delivery.to) || deliveries.iter().all(|d| d.to == delivery.to));
                    }
                    for port in 0..PORTS {
                        prop_assert!(deliveries.iter().filter(|delivery| delivery.to == port).count() <= 8);
                    }
                    prop_assert!(!deliveries.is_empty() || drops(&switch) > before, "a frame vanished");
                }
            }
        }
    }

    #[test]
    fn without_faults_each_frame_arrives_once_and_at_once(frames in proptest::collection::vec((0..PORTS, 0..PORTS, any::<bool>()), 1..40)) {
        let mut switch = switch(0, PORTS);
        for (from, to, everyone) in frames {
            let deliveries = send(&mut switch, MS, from, if everyone { EVERYONE } else { own(to) }, own(from));
            let expected: Vec<_> = (0..PORTS).filter(|port| *port != from && (everyone || *port == to)).collect();
            prop_assert_eq!(reached(&deliveries), expected);
            prop_assert!(deliveries.iter().all(|delivery| delivery.at == MS));
        }
    }

    #[test]
    fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..64), from in 0..PORTS) {
        let mut deliveries = Vec::new();
        let mut switch = switch(0, PORTS);
        let heard = switch.forward(MS, from, &bytes, &mut deliveries);
        prop_assert_eq!(heard, bytes.len() >= 14 && bytes[6] & 1 == 0);
        prop_assert!(heard || deliveries.is_empty());
    }
}
