//! A frame in a line: who to whom, and what. Pure.
//!
//! Invariant: whatever bytes a guest sends, decoding ends, without a panic, in a line without control characters.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, Icmpv6Type, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice, UdpSlice};
use simple_dns::{Packet, PacketFlag, QTYPE};

use super::{printable, tls};
use crate::hypervisor::segments::Mac;

/// Where names are asked for.
const DNS: u16 = 53;
/// Characters of a name that is asked for.
const NAME: usize = 80;

/// Who is behind the addresses of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    macs: BTreeMap<Mac, String>,
    addresses: BTreeMap<Ipv4Addr, String>,
}

/// What is told of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// For example `client -> server  TCP 40312 > 443 SYN`.
    pub line: String,
    /// For counts: `TCP`, `ARP`.
    pub kind: &'static str,
    /// Equal for what is sent again because no answer came.
    pub again: Option<Again>,
    /// It does nothing but acknowledge.
    pub bare: bool,
}

/// What a TCP segment that is sent again has in common with the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Again {
    ends: (Option<IpAddr>, Option<IpAddr>, u16, u16),
    sequence: u32,
    length: usize,
    flags: (bool, bool, bool),
}

impl Names {
    pub fn add(&mut self, name: &str, mac: Mac, address: Option<Ipv4Addr>) {
        self.macs.insert(mac, name.to_owned());
        self.addresses.extend(address.map(|address| (address, name.to_owned())));
    }

    fn who(&self, mac: [u8; 6]) -> String {
        let mac = Mac(mac);
        let known = || self.macs.get(&mac).cloned().unwrap_or_else(|| mac.to_string());
        if mac.0 == [0xff; 6] {
            "all".to_owned()
        } else if mac.is_group() {
            "many".to_owned()
        } else {
            known()
        }
    }

    /// An address, by name where it has one.
    fn place(&self, address: Ipv4Addr) -> String {
        self.addresses.get(&address).map_or_else(|| address.to_string(), |name| format!("{address} ({name})"))
    }

    /// What stands behind a name that speaks for an address other than its own.
    fn alias(&self, name: &str, address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) if self.addresses.get(&address).is_none_or(|of| of != name) => format!(" as {address}"),
            IpAddr::V4(_) | IpAddr::V6(_) => String::new(),
        }
    }
}

/// Tells a frame.
pub fn decode(frame: &[u8], names: &Names) -> Seen {
    let strange = |line: String, kind| Seen { line, kind, again: None, bare: false };
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return strange(format!("a frame of {} bytes, too short for Ethernet", frame.len()), "malformed");
    };
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else {
        return strange(format!("a frame of {} bytes that is not Ethernet", frame.len()), "malformed");
    };
    let (mut from, to) = (names.who(ethernet.source()), names.who(ethernet.destination()));
    let (source, target) = addresses(&packet);
    if let Some(address) = source {
        let alias = names.alias(&from, address);
        from.push_str(&alias);
    }
    let (what, kind, again, bare) = match (&packet.net, &packet.transport) {
        (Some(LaxNetSlice::Arp(arp)), _) => (told_arp(arp, names), "ARP", None, false),
        (_, Some(TransportSlice::Tcp(tcp))) => {
            let (line, again, bare) = told_tcp(tcp, source, target);
            (line, "TCP", Some(again), bare)
        }
        (_, Some(TransportSlice::Udp(udp))) => told_udp(udp),
        (_, Some(TransportSlice::Icmpv4(icmp))) => (told_icmp(&icmp.icmp_type(), icmp.payload()), "ICMP", None, false),
        (_, Some(TransportSlice::Icmpv6(icmp))) => (told_icmpv6(&icmp.icmp_type()), "ICMPv6", None, false),
        (_, Some(TransportSlice::Igmp(_))) => ("IGMP".to_owned(), "IGMP", None, false),
        (Some(LaxNetSlice::Ipv4(ip)), None) => {
            (format!("IP protocol {}, {} bytes", ip.payload_ip_number().0, frame.len()), "IP", None, false)
        }
        (Some(LaxNetSlice::Ipv6(ip)), None) => {
            (format!("IPv6 protocol {}, {} bytes", ip.payload().ip_number.0, frame.len()), "IPv6", None, false)
        }
        (None, _) => (format!("type 0x{:04x}, {} bytes", ethernet.ether_type().0, frame.len()), "other", None, false),
    };
    let tagged = if packet.link_exts.is_empty() { "" } else { " (tagged)" };
    Seen { line: format!("{from} -> {to}  {what}{tagged}"), kind, again, bare }
}

fn addresses(packet: &LaxSlicedPacket<'_>) -> (Option<IpAddr>, Option<IpAddr>) {
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => (Some(IpAddr::V4(ip.header().source_addr())), Some(IpAddr::V4(ip.header().destination_addr()))),
        Some(LaxNetSlice::Ipv6(ip)) => (Some(IpAddr::V6(ip.header().source_addr())), Some(IpAddr::V6(ip.header().destination_addr()))),
        Some(LaxNetSlice::Arp(_)) | None => (None, None),
    }
}

fn told_arp(arp: &etherparse::ArpPacketSlice<'_>, names: &Names) -> String {
    let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from);
    match (arp.operation().0, address(arp.sender_protocol_addr()), address(arp.target_protocol_addr())) {
        (1, Ok(sender), Ok(wanted)) if sender == wanted => format!("ARP I am {}", names.place(sender)),
        (1, Ok(_), Ok(wanted)) => format!("ARP who has {}?", names.place(wanted)),
        (2, Ok(sender), _) => format!("ARP {} is here", names.place(sender)),
        (operation, ..) => format!("ARP operation {operation}"),
    }
}

fn told_tcp(tcp: &TcpSlice<'_>, from: Option<IpAddr>, to: Option<IpAddr>) -> (String, Again, bool) {
    let payload = tcp.payload();
    let flags = [(tcp.syn(), " SYN"), (tcp.fin(), " FIN"), (tcp.rst(), " RST")];
    let marked = flags.iter().any(|(set, _)| *set);
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    let acknowledges = if marked && tcp.ack() { " ACK" } else { "" };
    let length = if payload.is_empty() { String::new() } else { format!(", {} bytes", payload.len()) };
    let inside = tls::told(payload).map(|told| format!(": {told}")).unwrap_or_default();
    let bare = payload.is_empty() && !marked;
    let again = Again {
        ends: (from, to, tcp.source_port(), tcp.destination_port()),
        sequence: tcp.sequence_number(),
        length: payload.len(),
        flags: (tcp.syn(), tcp.fin(), tcp.rst()),
    };
    (format!("TCP {} > {}{flags}{acknowledges}{length}{inside}", tcp.source_port(), tcp.destination_port()), again, bare)
}

fn told_udp(udp: &UdpSlice<'_>) -> (String, &'static str, Option<Again>, bool) {
    let is_dns = [udp.source_port(), udp.destination_port()].contains(&DNS);
    if let Some(told) = is_dns.then(|| told_dns(udp.payload())).flatten() {
        return (told, "DNS", None, false);
    }
    let line = format!("UDP {} > {}, {} bytes", udp.source_port(), udp.destination_port(), udp.payload().len());
    (line, "UDP", None, false)
}

fn told_dns(payload: &[u8]) -> Option<String> {
    let packet = Packet::parse(payload).ok()?;
    let asked = packet.questions.first().map(|question| {
        let name = printable(question.qname.to_string().as_bytes(), NAME);
        match question.qtype {
            QTYPE::TYPE(kind) => format!(" {kind:?} {name}"),
            other => format!(" {other:?} {name}"),
        }
    });
    let asked = asked.unwrap_or_default();
    Some(if packet.has_flags(PacketFlag::RESPONSE) {
        format!("DNS answer{asked}: {:?}, {} records", packet.rcode(), packet.answers.len())
    } else {
        format!("DNS query{asked}")
    })
}

fn told_icmp(kind: &Icmpv4Type, payload: &[u8]) -> String {
    match kind {
        Icmpv4Type::EchoRequest(echo) => format!("ICMP echo request {}, {} bytes", echo.seq, payload.len()),
        Icmpv4Type::EchoReply(echo) => format!("ICMP echo reply {}", echo.seq),
        Icmpv4Type::DestinationUnreachable(why) => {
            let why = match why {
                DestUnreachableHeader::Network => "network",
                DestUnreachableHeader::Host => "host",
                DestUnreachableHeader::Protocol => "protocol",
                DestUnreachableHeader::Port => "port",
                DestUnreachableHeader::FragmentationNeeded { .. } => "without fragments",
                _ => "filtered",
            };
            format!("ICMP unreachable: {why}")
        }
        Icmpv4Type::TimeExceeded(_) => "ICMP time exceeded".to_owned(),
        Icmpv4Type::Redirect(_) => "ICMP redirect".to_owned(),
        Icmpv4Type::Unknown { type_u8, .. } => format!("ICMP type {type_u8}"),
        Icmpv4Type::ParameterProblem(_) | Icmpv4Type::TimestampRequest(_) | Icmpv4Type::TimestampReply(_) => "ICMP".to_owned(),
    }
}

fn told_icmpv6(kind: &Icmpv6Type) -> String {
    match kind {
        Icmpv6Type::EchoRequest(echo) => format!("ICMPv6 echo request {}", echo.seq),
        Icmpv6Type::EchoReply(echo) => format!("ICMPv6 echo reply {}", echo.seq),
        Icmpv6Type::NeighborSolicitation => "ICMPv6 who has?".to_owned(),
        Icmpv6Type::NeighborAdvertisement(_) => "ICMPv6 neighbour is here".to_owned(),
        Icmpv6Type::RouterSolicitation => "ICMPv6 is there a router?".to_owned(),
        Icmpv6Type::RouterAdvertisement(_) => "ICMPv6 router is here".to_owned(),
        Icmpv6Type::DestinationUnreachable(_) => "ICMPv6 unreachable".to_owned(),
        Icmpv6Type::Unknown { type_u8, .. } => format!("ICMPv6 type {type_u8}"),
        _ => "ICMPv6".to_owned(),
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
