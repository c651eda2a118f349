//! What TLS says before it is encrypted: hellos with their versions, and alerts. Lenient: a hello may be cut by the end of a segment,
//! so what is there is told.

use super::printable;

/// Messages told of one segment.
const TOLD: usize = 5;
const SUPPORTED_VERSIONS: u16 = 43;

/// What is left of some bytes. Reading beyond the end gives `None`.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(length)?;
        self.0 = left;
        Some(taken)
    }

    /// As many of `length` bytes as there are.
    fn up_to(&mut self, length: usize) -> Rest<'a> {
        let (taken, left) = self.0.split_at(length.min(self.0.len()));
        self.0 = left;
        Rest(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn version(&mut self) -> Option<u16> {
        self.number(2).and_then(|number| u16::try_from(number).ok())
    }
}

/// The TLS messages that begin in a segment; `None` for bytes that are no TLS.
pub fn told(payload: &[u8]) -> Option<String> {
    let mut rest = Rest(payload);
    let mut messages = Vec::new();
    while let Some([kind, 3, 0..=4, high, low]) = rest.take(5).map(|head| [head[0], head[1], head[2], head[3], head[4]]) {
        let mut body = rest.up_to(usize::from(u16::from_be_bytes([high, low])));
        match kind {
            20 => messages.push("change cipher".to_owned()),
            21 => messages.push(alert(body)),
            22 => handshake(&mut body, &mut messages),
            23 => messages.push("data".to_owned()),
            _ => return None,
        }
    }
    messages.dedup();
    let more = if messages.len() > TOLD { ", …" } else { "" };
    messages.truncate(TOLD);
    (!messages.is_empty()).then(|| format!("TLS {}{more}", messages.join(", ")))
}

fn alert(body: Rest<'_>) -> String {
    let name = |code: u8| match code {
        0 => "close notify",
        10 => "unexpected message",
        20 => "bad record MAC",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "certificate revoked",
        45 => "certificate expired",
        46 => "certificate unknown",
        47 => "illegal parameter",
        48 => "unknown CA",
        51 => "decrypt error",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        86 => "inappropriate fallback",
        109 => "missing extension",
        112 => "unrecognized name",
        116 => "certificate required",
        120 => "no application protocol",
        _ => "",
    };
    match body.0 {
        [1 | 2, code] if !name(*code).is_empty() => format!("alert {}", name(*code)),
        [1 | 2, code] => format!("alert {code}"),
        _ => "alert (encrypted)".to_owned(),
    }
}

/// The messages of one handshake record. An encrypted one begins with what is no message.
fn handshake(record: &mut Rest<'_>, messages: &mut Vec<String>) {
    while let (Some(kind), Some(length)) = (record.number(1), record.number(3)) {
        let body = record.up_to(length);
        messages.push(match kind {
            1 => hello("ClientHello", body, true),
            2 => hello("ServerHello", body, false),
            4 => "NewSessionTicket".to_owned(),
            11 => "Certificate".to_owned(),
            12 => "ServerKeyExchange".to_owned(),
            13 => "CertificateRequest".to_owned(),
            14 => "ServerHelloDone".to_owned(),
            15 => "CertificateVerify".to_owned(),
            16 => "ClientKeyExchange".to_owned(),
            20 => "Finished".to_owned(),
            _ => {
                messages.push("handshake (encrypted)".to_owned());
                return;
            }
        });
    }
}

fn hello(what: &str, mut body: Rest<'_>, client: bool) -> String {
    let old = body.version();
    let mut versions = Vec::new();
    let mut server = None;
    let mut extensions = |body: &mut Rest<'_>| -> Option<()> {
        body.take(32)?;
        let session = body.number(1)?;
        body.take(session)?;
        let suites = if client { body.number(2)? } else { 2 };
        body.take(suites)?;
        let compressions = if client { body.number(1)? } else { 1 };
        body.take(compressions)?;
        let length = body.number(2)?;
        let mut all = body.up_to(length);
        while let (Some(kind), Some(length)) = (all.version(), all.number(2)) {
            let mut one = all.up_to(length);
            if kind == SUPPORTED_VERSIONS {
                if client {
                    one.number(1)?;
                }
                versions.extend(std::iter::from_fn(|| one.version()));
            } else if kind == 0 && client {
                one.take(3)?;
                let length = one.number(2)?;
                server = one.take(length).map(|name| printable(name, 80));
            }
        }
        Some(())
    };
    // What is missing at the end is not told.
    let _ = extensions(&mut body);
    if versions.is_empty() {
        versions.extend(old);
    }
    let versions: Vec<_> = versions.into_iter().filter_map(named).collect();
    let server = server.map(|name| format!(" for {name}")).unwrap_or_default();
    format!("{what} {}{server}", versions.join(" ")).trim_end().to_owned()
}

/// Reserved numbers, which clients mix in to keep servers tolerant, have no name.
fn named(version: u16) -> Option<&'static str> {
    match version {
        0x0300 => Some("SSL 3"),
        0x0301 => Some("1.0"),
        0x0302 => Some("1.1"),
        0x0303 => Some("1.2"),
        0x0304 => Some("1.3"),
        _ => None,
    }
}
