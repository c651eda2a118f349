//! The wire between a NIC and its port: two UDP ports on loopback, one datagram a frame.
//!
//! ```text
//!  QEMU  bound to `local`, sends to `remote`   <--- frames --->   switch  bound to `remote`, connected to `local`
//! ```
//!
//! Who can be at the ends:
//! - `remote` is bound exclusively, and connected: the kernel turns away datagrams of any other source. Those that came in between
//!   the two calls carry the wrong source, which is looked at again for each datagram.
//! - `local` is found by binding it exclusively, so nobody holds it, a QEMU of an earlier cell included. The keeper stays bound and then
//!   lets in only sockets that ask to share the address, which QEMU's does. The keeper is connected to itself, so the kernel never
//!   hands it a frame. While no QEMU is bound, frames for it are refused, and counted.
//! - QEMU's own end takes datagrams from any process of this host, and an empty one makes it deaf for good. That is QEMU's; the
//!   switch sends no datagram shorter than an Ethernet header.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::socket::{self, ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use super::mac::LONGEST;

/// The most frames that one call to the kernel carries.
pub const BATCH: usize = 64;
/// What a port's queue in the kernel may hold, where the host lets it.
const RECEIVE_BUFFER: usize = 4 << 20;
/// One byte more than the longest frame, so that a longer datagram shows.
const SLOT: usize = LONGEST + 1;

/// The two UDP ports of a wire on 127.0.0.1, as the machine sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ends {
    /// QEMU binds this one: `<local>` in the domain XML.
    pub local: u16,
    /// QEMU sends to this one: `<source>` in the domain XML.
    pub remote: u16,
}

/// The switch's end of a wire.
#[derive(Debug)]
pub struct Wire {
    pub socket: UdpSocket,
    pub ends: Ends,
    /// Keeps `local` for QEMU.
    _keeper: UdpSocket,
}

impl Wire {
    pub fn open() -> io::Result<Self> {
        let keeper = bind()?;
        let local = keeper.local_addr()?;
        keeper.connect(local)?;
        setsockopt(&keeper, sockopt::ReuseAddr, &true)?;
        let socket = bind()?;
        let ends = Ends { local: local.port(), remote: socket.local_addr()?.port() };
        socket.connect(local)?;
        socket.set_nonblocking(true)?;
        // Only a privileged process may go beyond the host's limit.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        Ok(Self { socket, ends, _keeper: keeper })
    }
}

/// A port that nobody else has or can have.
fn bind() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
}

/// Room for a batch of frames.
pub struct Inbox {
    slots: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
    /// For each datagram received, its length and whether it came from the right source.
    received: Vec<(usize, bool)>,
}

impl Inbox {
    pub fn new() -> Self {
        Self { slots: vec![0; BATCH * SLOT], headers: MultiHeaders::preallocate(BATCH, None), received: Vec::with_capacity(BATCH) }
    }

    /// Takes what has come in by now.
    pub fn receive(&mut self, wire: &Wire) -> Result<(), Errno> {
        self.received.clear();
        let machine = SocketAddrV4::new(Ipv4Addr::LOCALHOST, wire.ends.local);
        let mut slots: Vec<_> = self.slots.chunks_exact_mut(SLOT).map(|slot| [IoSliceMut::new(slot)]).collect();
        let datagrams = socket::recvmmsg(wire.socket.as_raw_fd(), &mut self.headers, &mut slots, MsgFlags::MSG_DONTWAIT, None)?;
        self.received.extend(datagrams.map(|datagram| (datagram.bytes, datagram.address.map(SocketAddrV4::from) == Some(machine))));
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// The frame in this place; `None` if anyone but the machine sent it.
    pub fn frame(&self, at: usize) -> Option<&[u8]> {
        let (length, genuine) = self.received[at];
        genuine.then(|| &self.slots[at * SLOT..][..length])
    }
}

/// What became of frames that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// This many were taken.
    Taken(usize),
    /// One sent before was refused: nobody is at the machine's end.
    Refused,
    /// The host takes no more just now.
    Busy,
}

/// Sends batches of frames.
pub struct Outbox {
    headers: MultiHeaders<()>,
}

impl Outbox {
    pub fn new() -> Self {
        Self { headers: MultiHeaders::preallocate(BATCH, None) }
    }

    /// Offers frames to the machine, [`BATCH`] at the most.
    pub fn send(&mut self, wire: &Wire, frames: &[[IoSlice<'_>; 1]]) -> Sent {
        const NO_CONTROL: [ControlMessage<'_>; 0] = [];
        let fd = wire.socket.as_raw_fd();
        match socket::sendmmsg(fd, &mut self.headers, frames, [None; BATCH], NO_CONTROL, MsgFlags::MSG_DONTWAIT) {
            Ok(results) => Sent::Taken(results.count()),
            Err(Errno::ECONNREFUSED) => Sent::Refused,
            Err(_) => Sent::Busy,
        }
    }
}

/// For each UDP port on 127.0.0.1, the datagrams that the kernel threw away because its owner was too slow. Empty where it can't be told.
pub fn overruns() -> HashMap<u16, u64> {
    fs::read_to_string("/proc/self/net/udp").map_or_else(|_| HashMap::new(), |table| parse_overruns(&table))
}

fn parse_overruns(table: &str) -> HashMap<u16, u64> {
    let mut found = HashMap::new();
    for line in table.lines().skip(1) {
        let mut words = line.split_whitespace();
        let port = words.nth(1).and_then(|address| address.strip_prefix("0100007F:")).and_then(|port| u16::from_str_radix(port, 16).ok());
        let drops = words.last().and_then(|drops| drops.parse::<u64>().ok());
        if let (Some(port), Some(drops)) = (port, drops) {
            *found.entry(port).or_default() += drops;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A wire as [`Wire::open`] makes it, with something done between binding and connecting.
    fn wire(meanwhile: impl FnOnce(SocketAddrV4)) -> (Wire, UdpSocket) {
        let machine = bind().expect("a port");
        let socket = bind().expect("a port");
        let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
        let ends = Ends { local: port(&machine), remote: port(&socket) };
        meanwhile(SocketAddrV4::new(Ipv4Addr::LOCALHOST, ends.remote));
        socket.connect((Ipv4Addr::LOCALHOST, ends.local)).expect("loopback");
        machine.connect((Ipv4Addr::LOCALHOST, ends.remote)).expect("loopback");
        (Wire { socket, ends, _keeper: bind().expect("a port") }, machine)
    }

    #[test]
    fn what_came_in_before_the_socket_was_connected_is_known_as_foreign() {
        let stranger = bind().expect("a port");
        let (wire, machine) = wire(|to| {
            stranger.send_to(b"early stranger", to).expect("loopback");
        });
        machine.send(b"machine").expect("loopback");
        assert!(stranger.send_to(b"late stranger", (Ipv4Addr::LOCALHOST, wire.ends.remote)).is_ok());
        let mut inbox = Inbox::new();
        inbox.receive(&wire).expect("two datagrams");
        let frames: Vec<_> = (0..inbox.len()).map(|at| inbox.frame(at)).collect();
        assert_eq!(frames, [None, Some(&b"machine"[..])]);
    }

    #[test]
    fn a_datagram_too_long_shows_and_leaves_the_next_one_whole() {
        let (wire, machine) = wire(|_| {});
        for length in [65_507, LONGEST, 0, 20] {
            machine.send(&vec![7; length]).expect("loopback");
        }
        let mut inbox = Inbox::new();
        inbox.receive(&wire).expect("datagrams");
        let lengths: Vec<_> = (0..inbox.len()).map(|at| inbox.frame(at).expect("genuine").len()).collect();
        assert_eq!(lengths, [SLOT, LONGEST, 0, 20]);
        assert_eq!(inbox.receive(&wire), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_machine_that_is_not_there_refuses() {
        let wire = Wire::open().expect("a wire");
        let frame = [7; 60];
        let frames = [[IoSlice::new(&frame)]; 3];
        let mut outbox = Outbox::new();
        assert_eq!(outbox.send(&wire, &frames[..1]), Sent::Taken(1));
        assert_eq!(outbox.send(&wire, &frames), Sent::Refused);
    }

    #[test]
    fn nobody_takes_the_machines_port_but_one_who_shares_it() {
        let wire = Wire::open().expect("a wire");
        for port in [wire.ends.local, wire.ends.remote] {
            let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect_err("the port is kept");
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        }
        let machine = super::super::tests::machine(wire.ends);
        let frame = [7; 60];
        assert_eq!(Outbox::new().send(&wire, &[[IoSlice::new(&frame)]]), Sent::Taken(1));
        machine.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut buffer = [0; 100];
        assert_eq!(machine.recv(&mut buffer).expect("the frame, not the keeper's"), 60);
        let again = Wire::open().expect("another wire");
        assert_ne!((again.ends.local, again.ends.remote), (wire.ends.local, wire.ends.remote));
    }

    #[test]
    fn the_kernels_table_is_read_by_port() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            6851: 0100007F:6D8E 00000000:0000 07 00000000:00000000 00:00000000 00000000 64055        0 848478 2 00000000b9c30d8f 3\n\
            6851: 0100007F:6D8E 0100007F:0001 07 00000000:00000000 00:00000000 00000000 64055        0 848478 2 00000000b9c30d8f 4\n\
            1: 00000000:0001 00000000:0000 07 0:0 00:0 0 0 0 1 2 0 9\nnonsense\n";
        assert_eq!(parse_overruns(table), HashMap::from([(0x6d8e, 7)]));
    }
}
