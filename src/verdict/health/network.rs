//! The network as the guest sees it: ports, interfaces, addresses, routes, name servers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::text::{joined, missing_in, unified};
use super::{Outcome, Report, View};
use crate::verdict::health::facts::{Facts, Unmeasured};

/// The ports that Linux gives by chance, if nobody set others.
const EPHEMERAL: RangeInclusive<u32> = 32_768..=60_999;

#[derive(Default)]
struct Sockets {
    /// `tcp 0.0.0.0:80` and the program's name.
    fixed: BTreeMap<String, String>,
    /// Protocol and program of those whose port was given by chance.
    high: BTreeSet<(String, String)>,
}

fn ephemeral(facts: &Facts) -> RangeInclusive<u32> {
    let set = facts.value("kernel-settings", "net/ipv4/ip_local_port_range").and_then(|range| {
        let (first, last) = range.split_once(char::is_whitespace)?;
        Some(first.parse().ok()?..=last.trim().parse().ok()?)
    });
    set.unwrap_or(EPHEMERAL)
}

fn sockets(facts: &Facts, ephemeral: &RangeInclusive<u32>) -> Result<Sockets, Unmeasured> {
    let mut sockets = Sockets::default();
    for line in facts.measured("listening")? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [protocol, _state, _receive, _send, local, ..] = words[..] else { continue };
        let port: u32 = local.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        let program = line.split("((\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("unknown");
        if ephemeral.contains(&port) {
            sockets.high.insert((protocol.to_owned(), program.to_owned()));
        } else {
            sockets.fixed.insert(format!("{protocol} {local}"), program.to_owned());
        }
    }
    Ok(sockets)
}

pub(super) fn ports(view: &View<'_>) -> Outcome {
    let range = ephemeral(view.change.as_ref().map_or(view.now, |change| change.before));
    let Sockets { fixed: now, high } = sockets(view.now, &range)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let Sockets { fixed: before, high: high_before } = sockets(change.before, &range)?;
    for (protocol, program) in high_before.difference(&high) {
        let lost = format!("{program} listens to no high {protocol} port any more");
        // A client that waits for an answer looks like a listener: a time or name service has such a socket now and then.
        if protocol == "tcp" { report.problem(lost) } else { report.note(lost) }
    }
    for (socket, program) in &before {
        let everywhere =
            socket.split_once(' ').zip(socket.rsplit_once(':')).map(|((protocol, _), (_, port))| format!("{protocol} *:{port}"));
        if let Some(other) = now.get(socket) {
            if other != program {
                report.note(format!("{socket} is served by {other}, before by {program}"));
            }
        } else if !everywhere.is_some_and(|everywhere| now.contains_key(&everywhere)) {
            report.problem(format!("{program} no longer listens on {socket}"));
        }
    }
    for (socket, program) in now.iter().filter(|(socket, _)| !before.contains_key(*socket)) {
        report.note(format!("{program} newly listens on {socket}"));
    }
    let listed =
        |sockets: &BTreeMap<String, String>| sockets.iter().map(|(socket, program)| format!("{socket} {program}\n")).collect::<String>();
    report.detail = unified("/listening", &listed(&before), &listed(&now));
    Ok(report)
}

/// Interfaces: name to hardware address and whether it is up.
fn links(facts: &Facts) -> Result<BTreeMap<String, (String, bool)>, Unmeasured> {
    let mut links = BTreeMap::new();
    for line in facts.measured("links")? {
        let mut words = line.split_whitespace();
        let Some(name) = words.nth(1).map(|name| name.trim_end_matches(':').split('@').next().unwrap_or_default().to_owned()) else {
            continue;
        };
        let up = words.next().is_some_and(|flags| flags.trim_matches(['<', '>']).split(',').any(|flag| flag == "UP"));
        let address = line.split("link/").nth(1).and_then(|rest| rest.split_whitespace().nth(1)).unwrap_or_default().to_owned();
        links.insert(name, (address, up));
    }
    Ok(links)
}

pub(super) fn interfaces(view: &View<'_>) -> Outcome {
    let now = links(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = links(change.before)?;
    for (name, (address, up)) in &before {
        match now.get(name) {
            None => {
                let renamed = now.iter().find(|(other, (other_address, _))| !before.contains_key(*other) && other_address == address);
                let fate = renamed.map_or_else(|| "is gone".to_owned(), |(other, _)| format!("is now called {other}"));
                report.problem(format!("interface {name} {fate}"));
            }
            Some((_, false)) if *up => report.problem(format!("interface {name} was up and is down")),
            Some((other, _)) if other != address => {
                report.problem(format!("interface {name} changed its hardware address from {address} to {other}"))
            }
            Some(_) => {}
        }
    }
    for name in now.keys().filter(|name| !before.contains_key(*name)) {
        report.note(format!("interface {name} is new"));
    }
    Ok(report)
}

/// `ens5 inet 10.0.0.1/24`. Addresses that the kernel makes up for privacy come and go.
fn address_list(facts: &Facts) -> Result<Vec<String>, Unmeasured> {
    let lines = facts.measured("addresses")?;
    let mut list: Vec<String> = lines
        .iter()
        .filter(|line| !line.split_whitespace().any(|word| word == "temporary"))
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some(format!("{} {} {}", words.next()?, words.next()?, words.next()?))
        })
        .collect();
    list.sort();
    Ok(list)
}

pub(super) fn addresses(view: &View<'_>) -> Outcome {
    let now = address_list(view.now)?;
    let Some(change) = &view.change else { return Ok(Report::default()) };
    let before = address_list(change.before)?;
    Ok(lost_and_new("address", "/addresses", &before, &now))
}

/// Routes and rules that someone set; the kernel's own local table follows from the addresses.
fn route_list(facts: &Facts) -> Result<Vec<String>, Unmeasured> {
    let mut list = Vec::new();
    for line in facts.measured("routes")? {
        if line.contains("table local") || line.starts_with("multicast ") || line.starts_with("anycast ") {
            continue;
        }
        let mut words = Vec::new();
        let mut all = line.split_whitespace();
        while let Some(word) = all.next() {
            match word {
                "expires" | "hoplimit" => {
                    all.next();
                }
                "linkdown" | "dead" | "onlink" => {}
                word => words.push(word),
            }
        }
        list.push(format!("route {}", words.join(" ")));
    }
    for line in facts.measured("rules")? {
        list.push(format!("rule {}", line.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    list.sort();
    Ok(list)
}

pub(super) fn routes(view: &View<'_>) -> Outcome {
    let now = route_list(view.now)?;
    let Some(change) = &view.change else { return Ok(Report::default()) };
    let before = route_list(change.before)?;
    Ok(lost_and_new("", "/routes", &before, &now))
}

/// What says which name servers are asked: `/etc/resolv.conf`, and systemd-resolved, whose stub may be all that stands there.
const RESOLVERS: [(&str, &[&str]); 2] = [
    ("/etc/resolv.conf", &["/etc/resolv.conf"]),
    (
        "systemd-resolved",
        &["/etc/resolv.conf", "/etc/systemd/resolved.conf", "/etc/systemd/resolved.conf.d", "/etc/systemd/network", "/etc/netplan"],
    ),
];

/// The lines of both resolvers. Those of systemd-resolved have `resolved` in front.
fn resolvers(facts: &Facts) -> Result<[Vec<String>; 2], Unmeasured> {
    let mut resolvers = [Vec::new(), Vec::new()];
    for line in facts.measured("dns")? {
        let (at, line) = line.strip_prefix("resolved ").map_or((0, line.as_str()), |line| (1, line));
        let line = line.trim();
        if !line.is_empty() && !line.starts_with(['#', ';']) {
            resolvers[at].push(line.to_owned());
        }
    }
    Ok(resolvers)
}

pub(super) fn dns(view: &View<'_>) -> Outcome {
    let now = resolvers(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = resolvers(change.before)?;
    for ((name, places), (before, now)) in RESOLVERS.iter().zip(before.iter().zip(&now)) {
        let mut problems = Vec::new();
        for line in missing_in(before, now) {
            problems.push(format!("{name} lost {line:?}"));
        }
        for line in missing_in(now, before) {
            problems.push(format!("{name} gained {line:?}"));
        }
        if problems.is_empty() && before != now {
            problems.push(format!("{name} lists its servers in another order"));
        }
        // Even a patch that says that it changes the file must not leave the build without all servers that it had.
        let server = |line: &&String| line.starts_with("nameserver");
        let keeps = !before.iter().any(|line| server(&line)) || before.iter().filter(server).any(|line| now.contains(line));
        if keeps && change.declares(places) {
            report.notes.append(&mut problems)
        } else {
            report.problems.append(&mut problems)
        }
        report.detail.push_str(&unified(&format!("/{}", name.trim_start_matches('/')), &joined(before), &joined(now)));
    }
    Ok(report)
}

fn lost_and_new(what: &str, name: &str, before: &[String], now: &[String]) -> Report {
    let mut report = Report::default();
    for line in missing_in(before, now) {
        report.problem(format!("{what} {line} is gone").trim_start());
    }
    for line in missing_in(now, before) {
        report.note(format!("{what} {line} is new").trim_start());
    }
    report.detail = unified(name, &joined(before), &joined(now));
    report
}
