//! Somebody who listens for webhooks, and does not always behave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver as Channel, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What is done with a delivery.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Answer(u16),
    /// A redirect to where it is answered well.
    Redirect,
    /// No answer; the connection stays open.
    Hang,
    /// Closes without an answer.
    Close,
    /// Two answers to one request.
    Twice(u16, u16),
}

#[derive(Debug)]
pub struct Delivery {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub text: String,
}

impl Delivery {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

pub struct Receiver {
    pub url: String,
    deliveries: Channel<Delivery>,
    manners: Arc<Mutex<Vec<Manner>>>,
}

/// An authority of one's own: who it certifies.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut about = CertificateParams::new(Vec::new()).expect("a certificate");
        about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = about.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(about, key), pem }
    }

    /// What somebody of this name speaks TLS by.
    fn certify(&self, name: &str) -> rustls::ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec![name.to_owned()]).expect("a name").signed_by(&key, &self.issuer).expect("signed");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).expect("they belong together")
    }
}

impl Receiver {
    /// Behaves in these manners one after the other, and well from then on.
    pub fn new(manners: &[Manner]) -> Self {
        Self::open(manners, None)
    }

    /// The same under TLS, with a certificate for this name.
    pub fn secure(authority: &Authority, name: &str) -> Self {
        Self::open(&[], Some(Arc::new(authority.certify(name))))
    }

    fn open(manners: &[Manner], tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/hook", listener.local_addr().expect("an address"));
        let (tell, deliveries) = channel();
        let manners = Arc::new(Mutex::new(manners.iter().rev().copied().collect::<Vec<_>>()));
        let next = manners.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (tell, next, tls, stream) = (tell.clone(), next.clone(), tls.clone(), stream.expect("a connection"));
                std::thread::spawn(move || match tls {
                    None => one(stream, &tell, &next),
                    Some(tls) => {
                        let talk = rustls::ServerConnection::new(tls).expect("a configuration");
                        one(rustls::StreamOwned::new(talk, stream), &tell, &next);
                    }
                });
            }
        });
        Self { url, deliveries, manners }
    }

    /// From now on.
    pub fn behave(&self, manners: &[Manner]) {
        *self.manners.lock().expect("unbroken") = manners.iter().rev().copied().collect();
    }

    pub fn next(&self) -> Delivery {
        self.deliveries.recv_timeout(Duration::from_secs(60)).expect("a delivery")
    }

    pub fn nothing_for(&self, time: Duration) {
        let delivery = self.deliveries.recv_timeout(time);
        assert!(delivery.is_err(), "{delivery:?}");
    }
}

fn one(stream: impl Read + Write, tell: &Sender<Delivery>, manners: &Mutex<Vec<Manner>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    // Whoever does not trust the certificate says nothing.
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let manner = manners.lock().expect("unbroken").pop().unwrap_or(Manner::Answer(204));
    // Whoever tests may have gone on.
    let _ = tell.send(Delivery { path, headers, text: String::from_utf8(body).expect("UTF-8") });
    let answer = |status: u16, more: &str| format!("HTTP/1.1 {status} x\r\n{more}content-length: 0\r\n\r\n");
    let text = match manner {
        Manner::Answer(status) => answer(status, ""),
        Manner::Redirect => answer(307, "location: /elsewhere\r\n"),
        Manner::Twice(first, second) => answer(first, "") + &answer(second, ""),
        Manner::Close => String::new(),
        Manner::Hang => {
            // Until the other end gives up.
            let _ = reader.read(&mut [0]);
            String::new()
        }
    };
    let _ = reader.get_mut().write_all(text.as_bytes());
    let _ = reader.get_mut().flush();
}
