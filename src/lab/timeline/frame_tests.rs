use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

const CLIENT: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const SERVER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const EVERYONE: [u8; 6] = [0xff; 6];

fn names() -> Names {
    let mut names = Names::default();
    names.add("client", Mac(CLIENT), Some([10, 0, 0, 1].into()));
    names.add("server", Mac(SERVER), Some([10, 0, 0, 2].into()));
    names
}

fn told(frame: &[u8]) -> String {
    decode(frame, &names()).line
}

fn tcp(
    flags: impl FnOnce(etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> etherparse::PacketBuilderStep<etherparse::TcpHeader>,
    payload: &[u8],
) -> Vec<u8> {
    let built = PacketBuilder::ethernet2(CLIENT, SERVER).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(40_000, 443, 7, 1000);
    let mut frame = Vec::new();
    flags(built).write(&mut frame, payload).expect("memory takes it");
    frame
}

fn udp(from: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let built = PacketBuilder::ethernet2(CLIENT, SERVER).ipv4(from, [10, 0, 0, 2], 64).udp(ports.0, ports.1);
    built.write(&mut frame, payload).expect("memory takes it");
    frame
}

fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [&EVERYONE[..], &CLIENT, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    [&head[..], &CLIENT, &sender, &[0; 6], &target].concat()
}

/// A record of TLS with one handshake message in it.
fn record(kind: u8, message: u8, body: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).expect("short").to_be_bytes();
    let inner = [&[message, 0], &length(body.len())[..], body].concat();
    [&[kind, 3, 3], &length(inner.len())[..], &inner].concat()
}

fn client_hello() -> Vec<u8> {
    let name = [&[0, 0, 0, 8, 0, 6, 0, 0, 3][..], b"web"].concat();
    // A reserved number between the versions.
    let versions = [0, 43, 0, 7, 6, 0x3a, 0x3a, 3, 4, 3, 3];
    let extensions = [&name[..], &versions].concat();
    let body = [&[3, 3][..], &[9; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &[0, extensions.len() as u8], &extensions].concat();
    record(22, 1, &body)
}

#[test]
fn frames_are_told_by_roles() {
    assert_eq!(told(&arp(1, [10, 0, 0, 1], [10, 0, 0, 2])), "client -> all  ARP who has 10.0.0.2 (server)?");
    assert_eq!(told(&arp(1, [10, 0, 0, 1], [10, 0, 0, 1])), "client -> all  ARP I am 10.0.0.1 (client)");
    assert_eq!(told(&arp(2, [10, 0, 0, 9], [0; 4])), "client -> all  ARP 10.0.0.9 is here");
    assert_eq!(told(&tcp(|tcp| tcp.syn(), b"")), "client -> server  TCP 40000 > 443 SYN");
    assert_eq!(told(&tcp(|tcp| tcp.rst().ack(1), b"")), "client -> server  TCP 40000 > 443 RST ACK");
    assert_eq!(told(&tcp(|tcp| tcp.ack(1), b"GET /")), "client -> server  TCP 40000 > 443, 5 bytes");
    assert_eq!(told(&udp([10, 0, 0, 1], (68, 67), b"xyz")), "client -> server  UDP 68 > 67, 3 bytes");
    assert_eq!(told(&udp([10, 9, 9, 9], (1, 2), b"")), "client as 10.9.9.9 -> server  UDP 1 > 2, 0 bytes");
    let mut ping = Vec::new();
    let built = PacketBuilder::ethernet2(CLIENT, [1, 0, 0x5e, 0, 0, 1]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4_echo_request(1, 5);
    built.write(&mut ping, b"12345678").expect("memory takes it");
    assert_eq!(told(&ping), "client -> many  ICMP echo request 5, 8 bytes");
    assert_eq!(told(&[SERVER, CLIENT].concat()), "a frame of 12 bytes, too short for Ethernet");
    assert_eq!(told(&[&SERVER[..], &CLIENT, &[0x88, 0xcc, 1]].concat()), "client -> server  type 0x88cc, 15 bytes");
}

#[test]
fn only_bare_acknowledgements_are_bare() {
    let bare = |frame: &[u8]| decode(frame, &names()).bare;
    assert!(bare(&tcp(|tcp| tcp.ack(1), b"")));
    assert!(![tcp(|tcp| tcp.ack(1), b"x"), tcp(|tcp| tcp.syn().ack(1), b""), tcp(|tcp| tcp.fin().ack(1), b"")].iter().any(|one| bare(one)));
}

#[test]
fn names_are_asked_for_and_answered() {
    let question = b"\x03web\x04acme\x07example\x00\x00\x01\x00\x01";
    let query = [&b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"[..], question].concat();
    assert_eq!(told(&udp([10, 0, 0, 1], (5000, 53), &query)), "client -> server  DNS query A web.acme.example");
    let answer = [&b"\0\x07\x81\x83\0\x01\0\0\0\0\0\0"[..], question].concat();
    assert_eq!(told(&udp([10, 0, 0, 1], (53, 5000), &answer)), "client -> server  DNS answer A web.acme.example: NameError, 0 records");
    assert_eq!(told(&udp([10, 0, 0, 1], (5000, 53), b"junk")), "client -> server  UDP 5000 > 53, 4 bytes");
}

#[test]
fn tls_tells_versions_and_alerts() {
    let said = |payload: &[u8]| tls::told(payload).unwrap_or_default();
    let whole = client_hello();
    assert_eq!(said(&whole), "TLS ClientHello 1.3 1.2 for web");
    let old = record(22, 2, &[&[3, 1][..], &[9; 32], &[0, 0xc0, 0x13, 0]].concat());
    assert_eq!(
        said(&[&old[..], &record(22, 11, b"..."), &record(22, 14, b"")].concat()),
        "TLS ServerHello 1.0, Certificate, ServerHelloDone"
    );
    assert_eq!(said(&[21, 3, 3, 0, 2, 2, 70]), "TLS alert protocol version");
    assert_eq!(said(&[21, 3, 3, 0, 3, 9, 9, 9]), "TLS alert (encrypted)");
    assert_eq!(said(b"GET / HTTP/1.1"), "");
    assert!(told(&tcp(|tcp| tcp.ack(1), &whole)).ends_with("bytes: TLS ClientHello 1.3 1.2 for web"));
    // Cut by the end of a segment at any place, it is still told as far as it goes.
    (6..whole.len()).for_each(|end| assert!(said(&whole[..end]).starts_with("TLS") || end < 9, "{end}"));
}

/// Frames that are nearly right, so that decoding gets far.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let good = vec![
        arp(1, [10, 0, 0, 1], [10, 0, 0, 2]),
        tcp(|tcp| tcp.ack(1), &client_hello()),
        udp(
            [10, 0, 0, 1],
            (53, 53),
            b"\0\x07\x81\x83\0\x01\0\x01\0\0\0\0\x03web\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x01\x01\x01\x01",
        ),
    ];
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(good), damage, any::<prop::sample::Index>()).prop_map(|(mut frame, damage, end)| {
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(end.index(frame.len()) + 1);
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_frame_is_too_hostile(frame in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), nearly_right()]) {
        let seen = decode(&frame, &names());
        prop_assert!(!seen.line.is_empty());
        prop_assert!(!seen.line.chars().any(char::is_control), "{:?}", seen.line);
    }
}
