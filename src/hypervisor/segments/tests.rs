//! Whole networks, with sockets in the place of QEMU.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt};
use pcap_parser::{Linktype, PcapCapture, traits::PcapReaderIterator};

use super::mac::HEADER;
use super::*;
use crate::hypervisor::{HypervisorError, HypervisorErrorKind};
use crate::id::Name;

/// Longer than anything here takes on a busy host.
const PATIENCE: Duration = Duration::from_secs(30);
const EVERYONE: Mac = Mac([0xff; 6]);

/// A socket where QEMU would have its own, made as QEMU makes it.
pub fn machine(ends: Ends) -> UdpSocket {
    let made = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&made, sockopt::ReuseAddr, &true).expect("the address is shared");
    bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, ends.local)).expect("the keeper shares it");
    let made = UdpSocket::from(made as OwnedFd);
    made.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    made
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn frame(to: Mac, from: Mac, text: &str) -> Vec<u8> {
    [&to.0[..], &from.0, &[0x88, 0xb5], text.as_bytes()].concat()
}

fn spec(segments: &[(&str, &[&str])]) -> NetworkSpec {
    let nic = |(n, nic): (usize, &&str)| NicSpec { name: name(nic), mac: mac(n as u8 + 1) };
    let segment = |(segment, nics): &(&str, &[&str])| SegmentSpec { name: name(segment), nics: nics.iter().enumerate().map(nic).collect() };
    NetworkSpec { seed: 1, capture_cap: 1 << 20, segments: segments.iter().map(segment).collect() }
}

/// A network and the machines on it.
struct Lab {
    network: Network,
    machines: Vec<UdpSocket>,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new(spec: &NetworkSpec) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let network = Network::open(spec, folder.path()).expect("a network");
        let machines = network.plugs().iter().map(|plug| machine(plug.ends)).collect();
        Self { network, machines, folder }
    }

    fn send(&self, from: usize, frame: &[u8]) {
        let port = self.network.plugs()[from].ends.remote;
        self.machines[from].send_to(frame, (Ipv4Addr::LOCALHOST, port)).expect("loopback");
    }

    fn get(&self, at: usize) -> Vec<u8> {
        receive(&self.machines[at])
    }

    fn fault(&self, nic: Option<&str>, verb: Verb) {
        self.network.apply(&Fault { segment: name("lan"), nic: nic.map(name), verb }).expect("a good fault");
    }

    fn port(&self, at: usize) -> PortStats {
        self.network.stats()[0].ports[at].clone()
    }

    /// Ends the network, so that nothing is under way, and gives what a machine had not read.
    fn close(self) -> (NetworkReport, Vec<Vec<Vec<u8>>>, tempfile::TempDir) {
        let report = self.network.close();
        (report, self.machines.iter().map(unread).collect(), self.folder)
    }
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let length = socket.recv(&mut buffer).expect("a frame in time");
    buffer.truncate(length);
    buffer
}

fn unread(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_nonblocking(true).expect("an option");
    let mut buffer = vec![0; 1 << 16];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// The frames of a capture, as someone else's reader finds them, with their times.
fn captured(file: &Path) -> Vec<(Duration, Vec<u8>)> {
    let bytes = fs::read(file).expect("the capture");
    let capture = PcapCapture::from_file(&bytes).expect("a capture that others read");
    assert_eq!(capture.header.network, Linktype::ETHERNET);
    assert!(capture.header.is_nanosecond_precision());
    let mut reader = pcap_parser::LegacyPcapReader::new(1 << 16, &bytes[..]).expect("a header");
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok((size, block)) => {
                if let pcap_parser::PcapBlockOwned::Legacy(record) = block {
                    assert_eq!(record.caplen, record.origlen);
                    frames.push((Duration::new(record.ts_sec.into(), record.ts_usec), record.data.to_vec()));
                }
                reader.consume(size);
            }
            Err(pcap_parser::PcapError::Incomplete(_)) => reader.refill().expect("bytes in memory"),
            Err(pcap_parser::PcapError::Eof) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(frames.len(), capture.blocks.len());
    frames
}

fn frames_in(file: &Path) -> Vec<Vec<u8>> {
    captured(file).into_iter().map(|(_, frame)| frame).collect()
}

#[test]
fn frames_go_where_they_belong_and_are_captured() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server", "other"]), ("backend", &["server", "database"])]));
    let question = frame(EVERYONE, mac(1), "who has it?");
    let answer = frame(mac(1), mac(2), &"x".repeat(9000));
    let elsewhere = frame(EVERYONE, mac(1), "backend");
    lab.send(0, &question);
    assert_eq!((lab.get(1), lab.get(2)), (question.clone(), question.clone()));
    lab.send(1, &answer);
    assert_eq!(lab.get(0), answer);
    lab.send(3, &elsewhere);
    assert_eq!(lab.get(4), elsewhere);
    let (report, unread, folder) = lab.close();
    assert!(unread.iter().all(Vec::is_empty), "{unread:?}");
    assert_eq!(report.broken, None);
    assert_eq!(frames_in(&folder.path().join("lan.pcap")), [question.clone(), answer.clone()]);
    assert_eq!(frames_in(&folder.path().join("backend.pcap")), [elsewhere]);
    let lan = &report.segments[0];
    let counts: Vec<_> = lan.ports.iter().map(|port| (port.frames_in, port.bytes_in, port.frames_out, port.bytes_out)).collect();
    let (q, a) = (question.len() as u64, answer.len() as u64);
    assert_eq!(counts, [(1, q, 1, a), (1, a, 1, q), (0, 0, 1, q)]);
    assert!(lan.ports.iter().all(|port| port.dropped.is_empty()));
    assert_eq!((lan.capture.frames, lan.capture.missed, lan.capture.beyond_cap, &lan.capture.error), (2, 0, 0, &None));
    assert_eq!(lan.capture.bytes, fs::metadata(&lan.capture.file).expect("the capture").len());
    let times: Vec<_> = captured(&lan.capture.file).into_iter().map(|(at, _)| at.as_nanos()).collect();
    let span = report.timeline.first().expect("opened").at.as_nanosecond()..=report.timeline.last().expect("closed").at.as_nanosecond();
    assert!(times.is_sorted() && times.iter().all(|at| span.contains(&(*at as i128))), "{times:?} in {span:?}");
    let heard: Vec<_> = report.timeline.iter().filter(|event| matches!(event.what, Happening::Heard { .. })).collect();
    assert_eq!(heard.len(), 3);
}

#[test]
fn two_networks_with_the_same_addresses_never_hear_of_each_other() {
    let spec = spec(&[("lan", &["client", "server"])]);
    let labs = [Lab::new(&spec), Lab::new(&spec)];
    const ROUNDS: usize = 50;
    for round in 0..ROUNDS {
        for (which, lab) in labs.iter().enumerate() {
            lab.send(0, &frame(EVERYONE, mac(1), &format!("lab {which} asks {round}")));
            lab.send(1, &frame(mac(1), mac(2), &format!("lab {which} answers {round}")));
            // To an address that nobody has: flooded, and still only at home.
            lab.send(1, &frame(mac(99), mac(2), &format!("lab {which} gropes {round}")));
        }
        for lab in &labs {
            for at in [1, 0, 0] {
                lab.get(at);
            }
        }
    }
    for (which, lab) in labs.into_iter().enumerate() {
        let (report, unread, folder) = lab.close();
        assert!(unread.iter().all(Vec::is_empty), "{unread:?}");
        let frames = frames_in(&folder.path().join("lan.pcap"));
        assert_eq!(frames.len(), 3 * ROUNDS);
        for frame in frames {
            let text = String::from_utf8_lossy(&frame[HEADER..]).into_owned();
            assert!(text.starts_with(&format!("lab {which} ")), "{text}");
        }
        assert!(report.segments[0].ports.iter().all(|port| port.dropped.is_empty()));
    }
}

#[test]
fn datagrams_from_anyone_but_the_machine_never_enter() {
    let (lab, neighbour) = (Lab::new(&spec(&[("lan", &["client", "server"])])), Lab::new(&spec(&[("lan", &["client", "server"])])));
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let spoofed = frame(EVERYONE, mac(1), "spoofed");
    for plug in lab.network.plugs() {
        // Some are refused at once, which the next call tells.
        for socket in [&stranger, &neighbour.machines[0], &neighbour.machines[1]] {
            let _ = socket.send_to(&spoofed, (Ipv4Addr::LOCALHOST, plug.ends.remote));
        }
    }
    // A machine of this very cell, at the other's port.
    let _ = lab.machines[1].send_to(&spoofed, (Ipv4Addr::LOCALHOST, lab.network.plugs()[0].ends.remote));
    let genuine = frame(EVERYONE, mac(1), "genuine");
    lab.send(0, &genuine);
    assert_eq!(lab.get(1), genuine);
    let (report, unread, folder) = lab.close();
    assert!(unread.iter().all(Vec::is_empty), "{unread:?}");
    assert_eq!(frames_in(&folder.path().join("lan.pcap")), [genuine]);
    assert_eq!(report.segments[0].ports.iter().map(|port| port.frames_in).sum::<u64>(), 1);
    let (report, unread, _folder) = neighbour.close();
    assert!(unread.iter().all(Vec::is_empty), "{unread:?}");
    assert_eq!(report.segments[0].capture.frames, 0);
}

#[test]
fn every_socket_is_on_loopback() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server"])]));
    let ours: BTreeSet<_> = lab.network.plugs().iter().flat_map(|plug| [plug.ends.local, plug.ends.remote]).collect();
    // What this process has open: the kernel's table of all sockets is not read at one moment, and others come and go.
    let open = fs::read_dir("/proc/self/fd").expect("the kernel's list").flatten();
    let addresses = open.filter_map(|one| getsockname::<SockaddrIn>(one.file_name().to_str()?.parse().ok()?).ok());
    let found: Vec<_> = addresses.filter(|address| ours.contains(&address.port())).collect();
    assert!(found.len() >= 6, "a socket, a keeper and a machine for each NIC: {found:?}");
    assert!(found.iter().all(|address| address.ip() == Ipv4Addr::LOCALHOST), "{found:?}");
}

#[test]
fn a_delayed_frame_comes_late_but_comes() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server", "other"])]));
    let by = Duration::from_millis(40);
    lab.fault(Some("server"), Verb::Delay { by });
    let sent = Instant::now();
    let ping = frame(EVERYONE, mac(1), "ping");
    lab.send(0, &ping);
    assert_eq!(lab.get(2), ping);
    assert_eq!(lab.get(1), ping);
    assert!(sent.elapsed() >= by, "{:?}", sent.elapsed());
    lab.fault(None, Verb::Clear);
    lab.send(1, &ping);
    assert_eq!(lab.get(0), ping);
}

#[test]
fn what_is_on_its_way_to_a_link_that_goes_down_is_lost() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server", "other"])]));
    lab.fault(None, Verb::Delay { by: Duration::from_millis(300) });
    let ping = frame(EVERYONE, mac(1), "ping");
    lab.send(0, &ping);
    until("the frame is in the switch", || lab.port(0).frames_in == 1);
    lab.fault(Some("server"), Verb::LinkDown);
    assert_eq!(lab.get(2), ping);
    let (report, unread, _folder) = lab.close();
    assert!(unread.iter().all(Vec::is_empty), "{unread:?}");
    assert_eq!(report.segments[0].ports[1].dropped, [(Reason::LinkDown, 1)].into());
    let done: Vec<_> = report.timeline.iter().filter(|event| matches!(event.what, Happening::Done(_))).collect();
    assert_eq!(done.len(), 2);
    assert!(report.timeline.is_sorted_by_key(|event| event.at));
}

#[test]
fn a_fault_is_in_force_when_the_call_returns() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server", "other"])]));
    for round in 0..20 {
        let groups = vec![BTreeSet::from([name("client"), name("other")])];
        lab.fault(None, Verb::Partition { groups });
        let hidden = frame(EVERYONE, mac(1), &format!("hidden {round}"));
        lab.send(0, &hidden);
        assert_eq!(lab.get(2), hidden);
        lab.fault(None, Verb::Partition { groups: Vec::new() });
        let seen = frame(EVERYONE, mac(1), &format!("seen {round}"));
        lab.send(0, &seen);
        assert_eq!((lab.get(2), lab.get(1)), (seen.clone(), seen));
    }
    assert_eq!(lab.port(1).dropped, [(Reason::Partitioned, 20)].into());
}

#[test]
fn loss_replays_from_the_seed() {
    let run = || {
        let lab = Lab::new(&spec(&[("lan", &["client", "server"])]));
        lab.fault(Some("client"), Verb::Loss { chance: Chance::percent(50.0).expect("a chance") });
        for n in 0..40 {
            lab.send(0, &frame(mac(2), mac(1), &format!("frame {n}")));
        }
        lab.close().1.swap_remove(1)
    };
    let first = run();
    assert!((5..35).contains(&first.len()), "{} of 40 arrived", first.len());
    assert_eq!(first, run());
}

#[test]
fn frames_for_a_machine_that_is_off_are_counted_and_it_may_come_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(&spec(&[("lan", &["client", "server"])]), folder.path()).expect("a network");
    let client = machine(network.plugs()[0].ends);
    let ping = frame(EVERYONE, mac(1), "ping");
    let send = || client.send_to(&ping, (Ipv4Addr::LOCALHOST, network.plugs()[0].ends.remote)).expect("loopback");
    send();
    until("the refusal is counted", || network.stats()[0].ports[1].dropped.contains_key(&Reason::NoMachine));
    let server = machine(network.plugs()[1].ends);
    send();
    assert_eq!(receive(&server), ping);
}

#[test]
fn what_the_host_throws_away_is_counted_at_both_ends() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server"])]));
    let big = frame(mac(2), mac(1), &"x".repeat(9000));
    const SENT: u64 = 2000;
    (0..SENT).for_each(|_| lab.send(0, &big));
    let (report, unread, _folder) = lab.close();
    let [client, server] = &report.segments[0].ports[..] else { panic!("two ports") };
    let lost = |port: &PortStats, reason| port.dropped.get(&reason).copied().unwrap_or_default();
    assert_eq!(client.frames_in + lost(client, Reason::Overrun), SENT);
    assert_eq!(server.frames_out, client.frames_in);
    assert_eq!(unread[1].len() as u64 + lost(server, Reason::Untaken), server.frames_out);
    assert!(lost(server, Reason::Untaken) > 0, "a machine that never reads has no room for all");
}

/// Ends with the test.
struct Qemu(std::process::Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn qemu_takes_its_port_from_the_keeper_and_frames_pass() {
    // There is no guest: QEMU's own hub joins two of its wires, so what goes in by one comes out by the other.
    let folder = tempfile::tempdir().expect("a folder");
    let spec = spec(&[("left", &["client", "qemu"]), ("right", &["server", "qemu"])]);
    let network = Network::open(&spec, folder.path()).expect("a network");
    let plugs = network.plugs();
    let mut command = std::process::Command::new("qemu-system-x86_64");
    command.args(["-machine", "none", "-nodefaults", "-display", "none"]);
    for (id, ends) in [("a", plugs[1].ends), ("b", plugs[3].ends)] {
        let Ends { local, remote } = ends;
        command.args(["-netdev", &format!("socket,id={id},udp=127.0.0.1:{remote},localaddr=127.0.0.1:{local}")]);
        command.args(["-netdev", &format!("hubport,id=hub{id},hubid=0,netdev={id}")]);
    }
    let _qemu = Qemu(command.stderr(std::process::Stdio::null()).spawn().expect("QEMU"));
    let (left, right) = (machine(plugs[0].ends), machine(plugs[2].ends));
    left.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let ping = frame(EVERYONE, mac(1), "through QEMU");
    let mut buffer = [0; 100];
    until("QEMU passes a frame on", || {
        right.send_to(&ping, (Ipv4Addr::LOCALHOST, plugs[2].ends.remote)).expect("loopback");
        left.recv(&mut buffer).is_ok_and(|length| buffer[..length] == ping[..])
    });
}

#[test]
fn a_guest_that_floods_fills_the_capture_to_its_cap_and_no_further() {
    let mut spec = spec(&[("lan", &["client", "server"])]);
    spec.capture_cap = 10_000;
    let lab = Lab::new(&spec);
    let big = frame(mac(2), mac(1), &"x".repeat(1000));
    for _ in 0..30 {
        lab.send(0, &big);
        assert_eq!(lab.get(1), big);
    }
    lab.send(0, &frame(mac(2), mac(1), "small enough, but after the end"));
    lab.get(1);
    let (report, _, folder) = lab.close();
    let capture = &report.segments[0].capture;
    let fit = (10_000 - 24) / (16 + big.len());
    assert_eq!((capture.frames, capture.beyond_cap, capture.missed), (fit as u64, 31 - fit as u64, 0));
    let file = folder.path().join("lan.pcap");
    assert_eq!(frames_in(&file).len(), fit);
    assert_eq!(capture.bytes, fs::metadata(file).expect("the capture").len());
    assert!(capture.bytes <= 10_000);
}

#[test]
fn bad_datagrams_go_nowhere_and_the_port_lives_on() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server"])]));
    for bad in [vec![], vec![2; 13], vec![2; 65_507], vec![2; LONGEST + 1], vec![0xff; 60]] {
        lab.send(0, &bad);
    }
    let good = frame(EVERYONE, mac(1), "good");
    lab.send(0, &good);
    assert_eq!(lab.get(1), good);
    assert_eq!(lab.port(0).dropped, [(Reason::Malformed, 3), (Reason::Oversize, 2)].into());
    assert_eq!(lab.network.stats()[0].capture.frames, 1);
}

#[test]
fn a_network_that_is_dropped_is_closed() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server"])]));
    let plugs = lab.network.plugs().to_vec();
    lab.send(0, &frame(EVERYONE, mac(1), "last words"));
    drop(lab.network);
    assert_eq!(frames_in(&lab.folder.path().join("lan.pcap")).len(), 1);
    drop(lab.machines);
    for plug in plugs {
        for port in [plug.ends.local, plug.ends.remote] {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
        }
    }
}

fn refusal(spec: &NetworkSpec, folder: &Path) -> HypervisorError {
    Network::open(spec, folder).map(|_| ()).expect_err("a refusal")
}

#[test]
fn a_network_that_cannot_be_opened_leaves_nothing_and_takes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("two.pcap"), "someone's").expect("a file");
    let error = refusal(&spec(&[("one", &["a"]), ("two", &["a"])]), folder.path());
    assert!(error.to_string().contains("two.pcap"), "{error}");
    let left: Vec<_> = fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["two.pcap"]);
    assert_eq!(fs::read_to_string(folder.path().join("two.pcap")).expect("the file"), "someone's");
}

#[test]
fn what_cannot_be_told_apart_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = |mac| {
        let mut spec = spec(&[("lan", &["a", "b"])]);
        spec.segments[0].nics[1].mac = mac;
        spec
    };
    for (spec, said) in [
        (spec(&[("lan", &["a"]), ("lan", &["b"])]), "two segments lan"),
        (spec(&[("lan", &["a", "a"])]), "two NICs a"),
        (with(mac(1)), "02:00:00:00:00:01"),
        (with(EVERYONE), "ff:ff:ff:ff:ff:ff"),
        (with(Mac([0; 6])), "00:00:00:00:00:00"),
    ] {
        let error = refusal(&spec, folder.path());
        assert_eq!(error.kind, HypervisorErrorKind::Refused);
        assert!(error.found.contains(said), "{error:?}");
    }
}

#[test]
fn a_fault_on_what_is_not_there_is_refused_with_what_is() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server"])]));
    for (segment, nic, hint) in [("wan", None, "lan"), ("lan", Some("printer"), "client, server")] {
        let fault = Fault { segment: name(segment), nic: nic.map(name), verb: Verb::LinkDown };
        let error = lab.network.apply(&fault).expect_err("a refusal");
        assert!(error.hint.contains(hint), "{error:?}");
    }
    assert_eq!(lab.network.timeline().len(), 1, "what was refused did not happen");
}

#[test]
fn a_capture_can_be_read_up_to_now_while_frames_go_on() {
    let lab = Lab::new(&spec(&[("lan", &["client", "server"])]));
    for sent in 1..=3 {
        lab.send(0, &frame(mac(2), mac(1), "again"));
        lab.get(1);
        assert!(lab.network.flush(PATIENCE));
        assert_eq!(captured(&lab.folder.path().join("lan.pcap")).len(), sent);
    }
    lab.close();
}
