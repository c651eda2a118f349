//! The door: connections, TLS, and what keeps a slow or greedy other end from holding it open.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use nix::sys::socket::{setsockopt, sockopt};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::ServiceExt;

use super::caller::Peer;
use super::crowd::{Crowd, Held};
use super::decisions::poll::Polls;
use super::leftover;
use super::patience::Patience;
use super::problem::Problem;
use crate::catalog::settings::Server;

/// How long one who has too many connections may take to ask and to read that.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);
/// How long the head of a request may take, and how long a connection may idle between two requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long the other end may leave what was sent to it unread.
const UNREAD_MS: u32 = 30_000;
/// The largest head of a request.
const LARGEST_HEAD: usize = 32 * 1024;
/// How long requests under way may take to end when the server stops.
const LAST_ORDERS: Duration = Duration::from_secs(10);

/// The server could not be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    #[error("could not listen on {address}: {source}")]
    Address { address: SocketAddr, source: io::Error },
    #[error("could not use the {what} {}: {found}", path.display())]
    File { what: &'static str, path: PathBuf, found: String },
    #[error("the certificate and the private key can't be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// What requests are answered by.
#[derive(Clone)]
pub struct Inside {
    /// What is at hand for those who poll.
    pub polls: Option<Polls>,
    pub routes: Router,
}

/// An address that connections come in by, and how.
pub struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    /// Those who come when all are taken wait in the kernel's queue.
    places: Arc<Semaphore>,
    crowd: Crowd,
    pub address: SocketAddr,
}

impl Door {
    /// # Errors
    /// When the address is taken, or a file can't be used.
    pub async fn open(address: SocketAddr, identity: Option<(&Path, &Path)>, limits: &Server) -> Result<Self, ListenError> {
        let tls = identity.map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
        let failed = |source| ListenError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let places = usize::try_from(limits.connections).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Ok(Self { listener, tls, places: Arc::new(Semaphore::new(places)), crowd: Crowd::new(limits), address })
    }

    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Where it is, as clients write it.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_secure() { "https" } else { "http" }, self.address)
    }

    /// Serves until told to stop; then requests under way may end, and nobody new comes in.
    pub async fn serve(self, inside: Inside, mut stopping: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        loop {
            let place = tokio::select! {
                place = self.places.clone().acquire_owned() => place,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            let Ok(place) = place else { break };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            match accepted {
                Ok((stream, peer)) => match self.crowd.admit(peer.ip()) {
                    Some(held) => {
                        let watcher = graceful.watcher();
                        tokio::spawn(connection(stream, Peer(peer), self.tls.clone(), inside.clone(), watcher, (place, held)));
                    }
                    None => {
                        tracing::warn!(%peer, "too many connections from one address");
                        // Where TLS is spoken nothing can be said before a handshake, which is what it is not to cost.
                        if self.tls.is_none() {
                            tokio::spawn(refuse(stream, place));
                        }
                    }
                },
                Err(error) => {
                    // For example no file descriptors left: others have to end first.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(LAST_ORDERS, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests had not ended when the server stopped");
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    tls: Option<TlsAcceptor>,
    inside: Inside,
    watcher: hyper_util::server::graceful::Watcher,
    place: (OwnedSemaphorePermit, Held),
) {
    // Both are improvements only; without them it works too.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &UNREAD_MS);
    match tls {
        None => talk(stream, peer, inside, watcher).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, peer, inside, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, ?peer, "no TLS"),
            Err(_) => tracing::debug!(?peer, "the TLS handshake took too long"),
        },
    }
    drop(place);
}

/// Says that there are too many connections, whatever is asked.
async fn refuse(stream: TcpStream, place: OwnedSemaphorePermit) {
    let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| async {
        // What is closed with something unread is reset, and the answer with it.
        let (body, leftover) = leftover::lend(Body::new(request.into_body()));
        drop(body);
        leftover.discard().await;
        let detail = "there are too many connections from this address at once; use those that there are, or come back";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-connections", detail).retry_after(1);
        Ok::<_, Infallible>(problem.into_response())
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(REFUSAL_DEADLINE, connection).await;
    drop(place);
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    inside: Inside,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        let answering = match inside.polls.as_ref().and_then(|polls| polls.answer(&request)) {
            Some(answer) => Ok(answer),
            None => {
                request.extensions_mut().insert(peer);
                let request: Request = request.map(Body::new);
                Err(inside.routes.clone().oneshot(request))
            }
        };
        async {
            match answering {
                Ok(answer) => Ok::<_, Infallible>(answer),
                Err(answering) => answering.await,
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(Patience::default())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, ?peer, "a connection ended early");
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ListenError> {
    let failed = |what: &'static str, path: &Path, found: &dyn std::fmt::Display| ListenError::File {
        what,
        path: path.to_owned(),
        found: found.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| failed("certificate", certificate, &error))?;
    if chain.is_empty() {
        return Err(failed("certificate", certificate, &"expected a PEM file with a certificate, found none"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed("private key", key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant as Real;

    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;
    use crate::api::extract::Json;

    /// On a paused clock: it jumps to the next deadline when both ends wait.
    async fn answered(sent: &str) -> (String, Duration) {
        let door = Door::open("127.0.0.1:0".parse().expect("an address"), None, &Server::default()).await.expect("open");
        let address = door.address;
        let router = Router::new().route("/", post(async |Json(value): Json<serde_json::Value>| value.to_string()));
        let (_stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(door.serve(Inside { polls: None, routes: router }, stopping));
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let (started, mut answer) = (Instant::now(), Vec::new());
        // It may be reset instead of closed.
        let _ = stream.read_to_end(&mut answer).await;
        serving.abort();
        (String::from_utf8_lossy(&answer).into_owned(), started.elapsed())
    }

    #[tokio::test]
    async fn who_has_too_many_connections_is_told_so_and_gets_in_when_one_ends() {
        const ASKED: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]";
        let limits = Server { connections_from_this_host: 2, ..Server::default() };
        let door = Door::open("127.0.0.1:0".parse().expect("an address"), None, &limits).await.expect("open");
        let address = door.address;
        let router = Router::new().route("/", post(async |Json(value): Json<serde_json::Value>| value.to_string()));
        let (_stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(door.serve(Inside { polls: None, routes: router }, stopping));
        let connect = async || TcpStream::connect(address).await.expect("a connection");
        let ask = async |stream: &mut TcpStream| {
            stream.write_all(ASKED.as_bytes()).await.expect("sent");
            let mut answer = vec![0; 4096];
            let length = stream.read(&mut answer).await.expect("an answer");
            String::from_utf8_lossy(&answer[..length]).into_owned()
        };
        let (mut first, mut second) = (connect().await, connect().await);
        assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"));
        assert!(ask(&mut second).await.starts_with("HTTP/1.1 200"));
        let mut third = connect().await;
        let refused = ask(&mut third).await;
        assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: 1\r\n"), "{refused}");
        assert!(refused.ends_with('}') && refused.contains("urn:patchlab:problem:too-many-connections"), "{refused}");
        assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"), "those who are in stay");
        drop(second);
        // When the server has seen that it is gone is the kernel's to say.
        let again = async {
            loop {
                let mut stream = connect().await;
                if ask(&mut stream).await.starts_with("HTTP/1.1 200") {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("in again");
        serving.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_holds_the_door_open() {
        let real = Real::now();
        for (sent, status) in [
            ("", None),
            ("POST / HTTP/1.1\r\nhost: x\r\nx-slow: ", None),
            ("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n[1", Some("408")),
            ("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]", Some("200")),
        ] {
            let (answer, took) = answered(sent).await;
            assert_eq!(answer.split(' ').nth(1).filter(|_| answer.starts_with("HTTP")), status, "{sent:?}: {answer}");
            assert!(took <= HEAD_DEADLINE * 2 + Duration::from_secs(5), "{sent:?}: {took:?}");
        }
        assert!(real.elapsed() < HEAD_DEADLINE, "no real time went by");
    }
}
