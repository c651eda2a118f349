//! The segments' switch, capturing, against the plainest forwarder: one blocking `recv` and one `send` a frame between two sockets.
//!
//! One thread plays both machines and keeps a window of frames on their way, so nothing is lost and either side sets the pace. Both are
//! measured in turn on the same mix of frames, and their medians compared.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, bind, recvmmsg, sendmmsg, setsockopt, socket,
    sockopt,
};
use patchlab::hypervisor::segments::{Ends, Mac, Network, NetworkSpec, NicSpec, SegmentSpec};

/// The least part of the forwarder's throughput that the switch has to reach.
const LEAST: f64 = 2.0 / 3.0;
const ROUNDS: usize = 9;
const FRAMES: usize = 100_000;
const LENGTHS: [usize; 2] = [1500, 64];
const BURST: usize = 32;
const WINDOW: usize = 2 * BURST;
const PATIENCE: Duration = Duration::from_secs(10);

const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SERVER: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn main() -> ExitCode {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].push(forwarded());
        times[1].push(switched());
    }
    let [forwarder, switch] = times.map(median);
    let ratio = forwarder.as_secs_f64() / switch.as_secs_f64();
    let rate = |time: Duration| FRAMES as f64 / time.as_secs_f64() / 1000.0;
    let good = ratio >= LEAST;
    let word = if good { "ok" } else { "short" };
    eprintln!("switch {:.0}, forwarder {:.0} thousand frames a second, medians of {ROUNDS}", rate(switch), rate(forwarder));
    println!("switch {ratio:.2} of a plain forwarder, at least {LEAST:.2}: {word}");
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The time that the plain forwarder takes.
fn forwarded() -> Duration {
    let [client, server, input, output] = [(); 4].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    let join = |from: &UdpSocket, to: &UdpSocket| from.connect(to.local_addr().expect("an address")).expect("loopback");
    join(&client, &input);
    join(&input, &client);
    join(&output, &server);
    join(&server, &output);
    let forwarder = thread::spawn(move || {
        let mut frame = [0; 65536];
        loop {
            let length = input.recv(&mut frame).expect("a frame");
            if length == 0 {
                break;
            }
            output.send(&frame[..length]).expect("loopback");
        }
    });
    let time = drive(&client, &server);
    client.send(&[]).expect("loopback");
    forwarder.join().expect("the forwarder ends");
    time
}

/// The time that the switch takes, with capture. Frames that the disk was too slow for don't count: leaving them out costs nothing.
fn switched() -> Duration {
    let name = |text: &str| text.parse().expect("a name");
    let nics = [("client", CLIENT), ("server", SERVER)].map(|(nic, mac)| NicSpec { name: name(nic), mac });
    let segments = vec![SegmentSpec { name: name("lan"), nics: nics.into() }];
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(&NetworkSpec { seed: 1, capture_cap: 1 << 30, segments }, folder.path()).expect("a network");
    let [client, server] = [0, 1].map(|at| machine(network.plugs()[at].ends));
    let time = drive(&client, &server);
    let report = network.close();
    let segment = &report.segments[0];
    assert_eq!(report.broken, None);
    assert_eq!(segment.ports[1].frames_out, FRAMES as u64);
    assert_eq!(segment.capture.frames + segment.capture.missed, FRAMES as u64);
    time.mul_f64(FRAMES as f64 / segment.capture.frames as f64)
}

/// A socket as QEMU makes it.
fn machine(ends: Ends) -> UdpSocket {
    let made = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&made, sockopt::ReuseAddr, &true).expect("an option");
    bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, ends.local)).expect("the port");
    let made = UdpSocket::from(made as OwnedFd);
    made.connect((Ipv4Addr::LOCALHOST, ends.remote)).expect("loopback");
    made
}

/// Sends all frames from one socket and takes them from the other.
fn drive(client: &UdpSocket, server: &UdpSocket) -> Duration {
    server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let frames = LENGTHS.map(|length| {
        let mut frame = [&SERVER.0[..], &CLIENT.0, &[8, 0]].concat();
        frame.resize(length, 0);
        frame
    });
    let burst: Vec<_> = (0..BURST).map(|n| [IoSlice::new(&frames[n % frames.len()])]).collect();
    let mut room = vec![[0; 2048]; WINDOW];
    let mut outgoing = MultiHeaders::<()>::preallocate(BURST, None);
    let mut incoming = MultiHeaders::<()>::preallocate(WINDOW, None);
    let started = Instant::now();
    let (mut sent, mut got) = (0, 0);
    while got < FRAMES {
        while sent < FRAMES && sent + BURST - got <= WINDOW {
            const NO_CONTROL: [ControlMessage<'_>; 0] = [];
            let results = sendmmsg(client.as_raw_fd(), &mut outgoing, &burst, [None; BURST], NO_CONTROL, MsgFlags::empty());
            sent += results.expect("loopback").count();
        }
        let mut slots: Vec<_> = room.iter_mut().map(|slot| [IoSliceMut::new(slot)]).collect();
        let results = recvmmsg(server.as_raw_fd(), &mut incoming, &mut slots, MsgFlags::MSG_WAITFORONE, None);
        got += results.expect("no frame is lost").count();
    }
    started.elapsed()
}
