use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(seconds).expect("a time")).expect("a time")
}

fn one(memory: u64) -> Room {
    Room { cores: 1, boots: 1, memory: memory * GIB, disk: 0 }
}

/// A cell of a customer, asked for at a second.
fn ask(customer: &str, expected: u64, since: u64) -> Ask {
    Ask {
        run: RunId::from_parts(1, [1; 10]),
        cell: CellId::new(&name(customer), &name("web"), &name(&format!("profile-{expected}"))),
        customer: name(customer),
        lane: Lane::WHENEVER,
        expected: Duration::from_secs(expected),
        since: at(since),
        needs: one(1),
        not_on: None,
        labels: BTreeSet::new(),
    }
}

fn hours(hours: u64) -> Lane {
    Lane(Duration::from_secs(hours * 3600))
}

fn begin(line: &mut Line, now: u64) -> Option<Ticket> {
    line.start(at(now)).map(|(ticket, _)| ticket)
}

/// All that start now, by customer and seconds.
fn started(line: &mut Line, now: u64) -> Vec<String> {
    let tickets: Vec<_> = std::iter::from_fn(|| begin(line, now)).collect();
    tickets.into_iter().map(|ticket| line.cells[&ticket].ask.cell.to_string()).collect()
}

fn cells(asks: &[(&str, u64)]) -> Vec<String> {
    asks.iter().map(|(customer, expected)| ask(customer, *expected, 0).cell.to_string()).collect()
}

#[test]
fn of_one_customer_the_longest_is_first() {
    let mut line = Line::new(vec![Room::cores(3)]);
    for expected in [10, 300, 20, 100] {
        line.ask(ask("acme", expected, 0));
    }
    assert_eq!(started(&mut line, 0), cells(&[("acme", 300), ("acme", 100), ("acme", 20)]));
}

#[test]
fn a_more_urgent_lane_is_first_whoever_has_had_most() {
    let mut line = Line::new(vec![Room::cores(1)]);
    let next = |line: &mut Line, expected: &[(&str, u64)]| {
        assert_eq!(started(line, 10), cells(expected));
        let at_work: Vec<_> = line.cells.iter().filter(|(_, place)| place.at_work.is_some()).map(|(ticket, _)| *ticket).collect();
        at_work.into_iter().for_each(|ticket| line.end(ticket, at(70)));
    };
    line.ask(ask("acme", 60, 0));
    line.ask(ask("bolt", 50, 0));
    next(&mut line, &[("acme", 60)]);
    line.ask(Ask { lane: hours(24), ..ask("acme", 30, 5) });
    line.ask(Ask { lane: hours(4), ..ask("acme", 20, 9) });
    next(&mut line, &[("acme", 20)]);
    next(&mut line, &[("acme", 30)]);
    next(&mut line, &[("bolt", 50)]);
}

#[test]
fn what_does_not_fit_lets_others_pass_until_its_turn_and_then_room_is_kept() {
    let mut line = Line::new(vec![Room { cores: 4, boots: 4, memory: 4 * GIB, disk: 0 }]);
    let large = Ask { needs: Room { cores: 2, boots: 2, memory: 4 * GIB, disk: 0 }, ..ask("acme", 100, 0) };
    let first = line.ask(ask("acme", 500, 0));
    assert_eq!(started(&mut line, 0).len(), 1);
    let large = line.ask(large);
    let others: Vec<_> = (0..6).map(|_| line.ask(ask("bolt", 10, 1))).collect();
    assert_eq!(started(&mut line, 1), cells(&[("bolt", 10); 3]), "they pass");
    let why = |line: &Line, ticket, now| line.why(ticket, &line.cells[&ticket].ask, at(now));
    let memory = Lack { what: super::super::room::Kind::Memory, needs: 4 * GIB, free: 0, all: 4 * GIB };
    assert!(matches!(why(&line, large, 1), Why::Lacks { lacks, kept: false } if lacks.contains(&memory) && lacks.len() == 2));
    // An hour later three have passed it: what is let go is kept.
    line.end(others[0], at(3700));
    assert_eq!(started(&mut line, 3700), cells(&[]));
    assert!(matches!(why(&line, large, 3700), Why::Lacks { kept: true, .. }));
    let behind = Why::Behind { run: RunId::from_parts(1, [1; 10]), cell: ask("acme", 100, 0).cell, since: at(0) };
    assert_eq!(why(&line, others[4], 3700), behind);
    for ticket in [others[1], others[2], first] {
        assert_eq!(started(&mut line, 3700), cells(&[]));
        line.end(ticket, at(3700));
    }
    assert_eq!(started(&mut line, 3700), cells(&[("acme", 100)]));
    assert_eq!(line.waiting(at(3700)).len(), 3);
}

#[test]
fn boots_are_let_go_when_they_are_over_and_the_rest_at_the_end() {
    let mut line = Line::new(vec![Room { boots: 1, ..Room::cores(3) }]);
    let (one, two) = (line.ask(ask("acme", 20, 0)), line.ask(ask("acme", 10, 0)));
    assert_eq!(begin(&mut line, 0), Some(one));
    assert_eq!(begin(&mut line, 0), None);
    line.booted(one);
    line.booted(one);
    assert_eq!(begin(&mut line, 0), Some(two));
    line.end(one, at(5));
    line.end(two, at(5));
    assert_eq!((line.room(0).1, line.is_waiting(one)), (Room::NONE, false));
}

#[test]
fn a_pause_lets_nothing_start_and_takes_nothing_away() {
    let mut line = Line::new(vec![Room::cores(1)]);
    let (one, two) = (line.ask(ask("acme", 20, 0)), line.ask(ask("acme", 10, 0)));
    assert_eq!(begin(&mut line, 0), Some(one));
    line.pause(true);
    line.end(one, at(5));
    assert_eq!(begin(&mut line, 5), None);
    let (ask, why) = (line.cells[&two].ask.clone(), Why::Paused);
    assert_eq!(line.waiting(at(5)), [(&ask, why)]);
    line.pause(false);
    assert_eq!(begin(&mut line, 5), Some(two));
}

#[test]
fn room_is_found_anew_only_while_nobody_is_at_work() {
    let mut line = Line::new(vec![Room::cores(1)]);
    let one = line.ask(Ask { needs: Room { cores: 3, ..one(1) }, ..ask("acme", 20, 0) });
    assert_eq!(begin(&mut line, 0), Some(one), "an environment of more machines than there are cores runs by itself");
    line.resize(0, Room::cores(8));
    assert_eq!(line.room(0).0, Room::cores(1));
    line.end(one, at(0));
    line.resize(0, Room::cores(8));
    assert_eq!(line.room(0), (Room::cores(8), Room::NONE));
}

#[test]
fn a_cell_starts_where_most_cores_are_free_and_never_in_parts_of_two_hosts() {
    let mut line = Line::new(vec![Room::cores(2), Room::cores(3)]);
    let pair = Ask { needs: Room { cores: 2, boots: 2, memory: 0, disk: 0 }, ..ask("acme", 50, 0) };
    let tickets: Vec<_> = [ask("acme", 90, 0), ask("acme", 80, 0), pair.clone(), ask("acme", 10, 0)].map(|ask| line.ask(ask)).into();
    let hosts: Vec<_> = std::iter::from_fn(|| line.start(at(0))).collect();
    // Ties go by order; the pair waits for no host's last cores.
    assert_eq!(hosts, [(tickets[0], 1), (tickets[1], 0), (tickets[2], 1), (tickets[3], 0)]);
    let late = line.ask(pair);
    line.end(tickets[1], at(5));
    line.end(tickets[0], at(5));
    assert_eq!(line.start(at(5)), None, "there are two free, on two hosts");
    let why = line.why(late, &line.cells[&late].ask, at(5));
    let Why::Each(each) = &why else { panic!("{why:?}") };
    assert!(each.iter().all(|why| matches!(why, Why::Lacks { lacks, .. } if lacks.len() == 1)), "{each:?}");
    assert_eq!(why.kind(), "cores");
    line.end(tickets[3], at(6));
    assert_eq!(line.start(at(6)), Some((late, 0)));
}

#[test]
fn a_host_that_is_closed_or_has_failed_a_cell_is_passed_over_and_says_so() {
    let mut line = Line::new(vec![Room::cores(4), Room::cores(1)]);
    line.open(0, false);
    let large = Ask { needs: Room { cores: 2, boots: 2, memory: 0, disk: 0 }, ..ask("acme", 90, 0) };
    let (large, small) = (line.ask(large), line.ask(ask("acme", 10, 0)));
    assert_eq!(line.start(at(0)), Some((small, 1)), "the other waits for the host that has enough");
    assert_eq!(line.start(at(0)), None);
    let told = line.why(large, &line.cells[&large].ask, at(0));
    assert!(matches!(&told, Why::Each(each) if each[0] == Why::Closed && matches!(each[1], Why::Small(_))), "{told:?}");
    assert_eq!(told.kind(), "host");
    line.end(small, at(1));
    line.end(large, at(1));

    let again = line.ask(Ask { not_on: Some(1), ..ask("acme", 10, 1) });
    assert_eq!(line.start(at(1)), Some((again, 1)), "there is no other");
    line.end(again, at(2));
    line.open(0, true);
    let filler = line.ask(Ask { needs: Room { cores: 4, boots: 4, memory: 0, disk: 0 }, ..ask("acme", 90, 2) });
    let again = line.ask(Ask { not_on: Some(1), ..ask("acme", 10, 2) });
    assert_eq!((line.start(at(2)), line.start(at(2))), (Some((filler, 0)), None));
    let told = line.why(again, &line.cells[&again].ask, at(2));
    assert!(matches!(&told, Why::Each(each) if matches!(each[0], Why::Lacks { .. }) && each[1] == Why::Failed), "{told:?}");
}

#[test]
fn a_cell_starts_only_where_its_labels_are() {
    let labels = |labels: &[&str]| labels.iter().map(|label| name(label)).collect::<BTreeSet<_>>();
    let mut line = Line::new(vec![Room::cores(1), Room::cores(8)]);
    line.label(0, labels(&["gpu", "site-a"]));
    line.label(1, labels(&["site-b"]));
    let asking = |wanted: &[&str], expected| Ask { labels: labels(wanted), ..ask("acme", expected, 0) };
    let (first, second) = (line.ask(asking(&["gpu"], 90)), line.ask(asking(&["gpu", "site-a"], 80)));
    let anywhere = line.ask(asking(&[], 10));
    let nowhere = line.ask(asking(&["gpu", "site-b"], 5));
    let hosts: Vec<_> = std::iter::from_fn(|| line.start(at(0))).collect();
    assert_eq!(hosts, [(first, 0), (anywhere, 1)], "who waits for a label holds nobody else up");
    let why = |ticket| line.why(ticket, &line.cells[&ticket].ask, at(0));
    let (waits, never) = (why(second), why(nowhere));
    assert!(
        matches!(&waits, Why::Each(each) if matches!(each[0], Why::Lacks { .. }) && each[1] == Why::Unlabelled(vec![name("gpu"), name("site-a")])),
        "{waits:?}"
    );
    assert!(matches!(&never, Why::Each(each) if each[0] == Why::Unlabelled(vec![name("site-b")])), "{never:?}");
    assert_eq!((waits.kind(), never.kind()), ("cores", "labels"));
    line.end(first, at(1));
    assert_eq!((line.start(at(1)), line.start(at(1))), (Some((second, 0)), None));
}

#[test]
fn what_no_host_of_several_has_memory_for_is_squeezed_in_nowhere() {
    let small = Room { cores: 4, boots: 4, memory: 2 * GIB, disk: 0 };
    let mut line = Line::new(vec![small, Room::NONE]);
    let large = line.ask(Ask { needs: one(8), ..ask("acme", 90, 0) });
    let other = line.ask(ask("acme", 10, 0));
    assert_eq!((line.start(at(0)), line.start(at(0))), (Some((other, 0)), None));
    let why = line.why(large, &line.cells[&large].ask, at(0));
    assert!(matches!(&why, Why::Each(each) if each.iter().all(|why| matches!(why, Why::Small(_)))), "{why:?}");
    assert_eq!((why.kind(), line.waiting(at(0)).len()), ("memory", 1));
    // The other is found to have enough.
    line.resize(1, Room { memory: 16 * GIB, ..small });
    assert_eq!(line.start(at(1)), Some((large, 1)));
}

#[test]
fn who_waits_for_a_closed_host_holds_nobody_else_up() {
    let mut line = Line::new(vec![Room::cores(4), Room::cores(1)]);
    line.open(0, false);
    line.ask(Ask { needs: Room { cores: 2, boots: 2, memory: 0, disk: 0 }, ..ask("acme", 90, 0) });
    let second = line.ask(ask("bolt", 1, 1));
    // Others are always more urgent: only the turn of who has waited longest lets it start, and that is not the first one's.
    let now = 2 * AGED.as_secs();
    let mut starts = 0;
    while line.is_waiting(second) {
        line.ask(Ask { lane: hours(1), ..ask("cask", 60, now) });
        let ticket = begin(&mut line, now).expect("a core is free");
        line.end(ticket, at(now));
        starts += 1;
        assert!(starts <= TURN, "{starts} starts");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Ask(Ask),
    End(usize),
    Booted(usize),
    Withdraw(usize),
    Pause(bool),
    Open(usize, bool),
    Wait(u64),
}

fn asks() -> impl Strategy<Value = Ask> {
    let needs = (1..5_u32, 0..6_u64, 0..6_u64).prop_map(|(cores, memory, disk)| Room { cores, boots: cores, memory, disk });
    let lane = prop_oneof![Just(Lane::WHENEVER), Just(hours(24)), Just(hours(4))];
    let customer = prop_oneof![Just("acme"), Just("bolt"), Just("cask")];
    (customer, lane, 1..600_u64, needs).prop_map(|(customer, lane, expected, needs)| Ask { lane, needs, ..ask(customer, expected, 0) })
}

fn labels() -> impl Strategy<Value = BTreeSet<Name>> {
    prop_oneof![3 => Just(""), 1 => Just("a"), 1 => Just("b"), 1 => Just("a b")]
        .prop_map(|labels| labels.split_whitespace().map(name).collect())
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (asks(), labels()).prop_map(|(ask, labels)| Act::Ask(Ask { labels, ..ask })),
        4 => (0..9_usize).prop_map(Act::End),
        2 => (0..9_usize).prop_map(Act::Booted),
        1 => (0..9_usize).prop_map(Act::Withdraw),
        1 => any::<bool>().prop_map(Act::Pause),
        1 => (0..9_usize, any::<bool>()).prop_map(|(host, open)| Act::Open(host, open)),
        3 => (1..4000_u64).prop_map(Act::Wait),
    ];
    vec(act, 1..80)
}

fn rooms() -> impl Strategy<Value = Room> {
    (1..5_u32, 1..5_u32, 1..8_u64, 1..8_u64).prop_map(|(cores, boots, memory, disk)| Room { cores, boots, memory, disk })
}

proptest! {
    #[test]
    fn no_more_is_taken_of_a_host_than_it_has_and_nothing_that_fits_waits(hosts in vec((rooms(), labels()), 1..4), acts in acts()) {
        let (rooms, labels): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        let mut line = Line::new(rooms.clone());
        labels.iter().enumerate().for_each(|(host, labels)| line.label(host, labels.clone()));
        let (mut now, mut at_work, mut waiting) = (0, Vec::new(), Vec::new());
        for act in acts {
            let nth = |of: &[Ticket], at: usize| of.get(at % of.len().max(1)).copied();
            match act {
                Act::Ask(ask) => waiting.push(line.ask(Ask { since: at(now), ..ask })),
                Act::End(which) => if let Some(ticket) = nth(&at_work, which) {
                    line.end(ticket, at(now));
                    at_work.retain(|one| *one != ticket);
                },
                Act::Booted(which) => if let Some(ticket) = nth(&at_work, which) { line.booted(ticket) },
                Act::Withdraw(which) => if let Some(ticket) = nth(&waiting, which) {
                    line.end(ticket, at(now));
                    waiting.retain(|one| *one != ticket);
                },
                Act::Pause(paused) => line.pause(paused),
                Act::Open(host, open) => line.open(host % rooms.len(), open),
                Act::Wait(seconds) => now += seconds,
            }
            while let Some((ticket, host)) = line.start(at(now)) {
                prop_assert!(!line.paused && line.sites[host].open && waiting.contains(&ticket) && !line.is_waiting(ticket));
                waiting.retain(|one| *one != ticket);
                at_work.push(ticket);
            }
            for (host, room) in rooms.iter().enumerate() {
                let here = at_work.iter().filter_map(|ticket| line.cells[ticket].at_work).filter(|(.., on)| *on == host);
                let taken = here.fold(Room::NONE, |sum, (_, takes, _)| sum.plus(takes));
                prop_assert_eq!(line.room(host), (*room, taken));
                prop_assert!(taken.fits(*room));
            }
            for ticket in &at_work {
                let place = &line.cells[ticket];
                let (_, takes, host) = place.at_work.expect("at work");
                let (needs, room) = (place.ask.needs, rooms[host]);
                let all = needs.least(room);
                prop_assert!((Room { boots: all.boots, ..takes }) == all && [0, all.boots].contains(&takes.boots), "all of a cell's machines, or none");
                let asked = &place.ask.labels;
                prop_assert!(labels[host].is_superset(asked), "a host without its labels");
                let enough = rooms.iter().zip(&labels).any(|(other, labels)| needs.fits(*other) && labels.is_superset(asked));
                prop_assert!(needs.fits(room) || !enough, "squeezed in where another host has enough");
            }
            let told = line.waiting(at(now));
            prop_assert_eq!(told.len(), waiting.len());
            for (ask, why) in told {
                let each = match why {
                    Why::Paused => {
                        prop_assert!(line.paused);
                        continue;
                    }
                    Why::Each(each) => each,
                    one => vec![one],
                };
                prop_assert_eq!(each.len(), rooms.len());
                for (site, why) in line.sites.iter().zip(each) {
                    let fits = ask.needs.least(site.capacity).fits(site.free());
                    match why {
                        Why::Unlabelled(lacking) => prop_assert!(!lacking.is_empty() && !site.labels.is_superset(&ask.labels)),
                        Why::Closed => prop_assert!(!site.open),
                        Why::Small(lacks) => prop_assert!(!lacks.is_empty() && !ask.needs.fits(site.capacity)),
                        Why::Lacks { .. } => prop_assert!(site.open && !fits),
                        Why::Behind { since, .. } => prop_assert!(fits && now - since.as_second().unsigned_abs() >= AGED.as_secs()),
                        why => prop_assert!(false, "it fits and waits: {why:?} {ask:?}"),
                    }
                }
            }
        }
        for ticket in at_work.into_iter().chain(waiting) {
            line.end(ticket, at(now));
        }
        prop_assert!((0..rooms.len()).all(|host| line.room(host).1 == Room::NONE) && line.oldest.is_empty() && line.cells.is_empty());
        prop_assert!(line.accounts.values().all(|account| account.cells == 0 && account.waiting.is_empty()));
    }

    #[test]
    fn whatever_comes_in_a_cell_starts_once_those_before_it_had_their_turns(
        rooms in vec(rooms(), 1..4), closed in 0..6_usize, before in vec(asks(), 0..6), last in asks(), length in 1..5_u64,
        flood in vec(asks(), 1..4),
    ) {
        const STEP: u64 = 60;
        let mut line = Line::new(rooms.clone());
        // One that can bear it is open; others may be closed to some of those before it.
        let open: Vec<_> = (0..rooms.len()).filter(|host| rooms.len() == 1 || *host != closed).collect();
        (0..rooms.len()).for_each(|host| line.open(host, open.contains(&host)));
        let fits = |needs: Room, host: &usize| needs.fits(rooms[*host]);
        let slim = Room { cores: 0, boots: 0, ..last.needs };
        let all: Vec<_> = (0..rooms.len()).collect();
        let needs = if all.iter().any(|host| fits(last.needs, host)) { last.needs } else { slim };
        prop_assume!(rooms.len() == 1 || open.iter().any(|host| fits(needs, host)));
        for ask in &before {
            line.ask(ask.clone());
        }
        // The least that anybody would prefer.
        let mine = line.ask(Ask { lane: Lane::WHENEVER, expected: Duration::ZERO, since: at(0), ..last });
        let turns = before.len() as u64 + 1;
        // Each turn comes after so many starts, and there is a start or an end in every so many steps; then those at work end.
        let most = AGED.as_secs() / STEP + turns * (u64::from(TURN) + 1) * (length + 1);
        let (mut now, mut at_work) = (1, Vec::new());
        for step in 0.. {
            prop_assert!(step <= most, "{} steps", step);
            for ask in &flood {
                line.ask(Ask { lane: hours(1), expected: Duration::from_secs(600), since: at(now), ..ask.clone() });
            }
            while let Some(ticket) = begin(&mut line, now) {
                line.booted(ticket);
                at_work.push((ticket, step + length));
            }
            if !line.is_waiting(mine) {
                break;
            }
            now += STEP;
            for (ticket, _) in at_work.extract_if(.., |(_, until)| *until <= step) {
                line.end(ticket, at(now));
            }
        }
    }

    #[test]
    fn customers_who_want_as_much_get_as_much(
        customers in 2..5_usize, cores in 1..4_u32, order in vec(0..5_usize, 0..40), head_start in 0..30_usize, old in any::<bool>(),
    ) {
        const EACH: usize = 40;
        let names = ["acme", "bolt", "cask", "dyne"];
        let mut line = Line::new(vec![Room::cores(cores)]);
        let mut asked = [0; 4];
        let mut now = if old { 2 * AGED.as_secs() } else { 0 };
        // They come in any order, and one of them long before the others.
        let early = std::iter::repeat_n(0, head_start).chain(order);
        let all = early.chain((0..EACH).flat_map(|_| 0..customers));
        for customer in all.filter(|customer| *customer < customers) {
            if asked[customer] < EACH {
                asked[customer] += 1;
                line.ask(ask(names[customer], 60, if customer == 0 { 0 } else { now }));
            }
        }
        let mut had = [0_usize; 4];
        while had[..customers].iter().all(|had| *had < EACH) {
            let tickets: Vec<_> = std::iter::from_fn(|| begin(&mut line, now)).collect();
            prop_assert_eq!(tickets.len(), cores as usize);
            for ticket in &tickets {
                let customer = names.iter().position(|name| *name == line.cells[ticket].ask.customer.as_str()).expect("a customer");
                had[customer] += 1;
                let (least, most) = (had[..customers].iter().min(), had[..customers].iter().max());
                let apart = most.zip(least).map_or(0, |(most, least)| most - least);
                prop_assert!(apart <= 2, "{:?}", had);
            }
            if !old {
                prop_assert!(now < AGED.as_secs());
            }
            now += if old { 60 } else { 1 };
            for ticket in tickets {
                line.end(ticket, at(now));
            }
            if had.iter().sum::<usize>() + cores as usize > customers * EACH {
                break;
            }
        }
    }
}
