//! Everything about a run in one archive, for the auditor. It is sent while it is packed, so however large it is, the server holds a file
//! of it at a time.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::attestation::attested;
use super::caller::Caller;
use super::extract::RunPath;
use super::problem::{Conflicts, Problem};
use super::runs::found;
use super::schema::BinaryText;
use super::{Role, Service};
use crate::id::{Name, RunId};
use crate::lab::keys;
use crate::report::Source;
use crate::report::archive::{self, Contents, MEDIA_TYPE};
use crate::verdict::judge::judge;

/// Archives that are packed at once, each for somebody else. Each has a thread of its own.
const MOST_PACKED: usize = 4;
/// How long a further one waits for one of these to end.
const PLACE_DEADLINE: Duration = Duration::from_secs(15);
const PIECE: usize = 64 * 1024;
/// What is sent after the last piece.
const END: Bytes = Bytes::new();
/// How long the other end may take to read a piece.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);
/// What it has to read a second, on the whole: whoever reads a little now and then would hold a place for days.
const LEAST_RATE: u64 = 128 * 1024;
/// What it may take beyond that, in all.
const GRACE: Duration = Duration::from_secs(60);

/// Places for those who have an archive packed: one for each of them, and a few in all.
pub(super) struct Places {
    all: Arc<Semaphore>,
    callers: Mutex<BTreeMap<Name, Arc<Semaphore>>>,
}

/// Somebody's place, for as long as it is kept.
struct Place(#[expect(dead_code, reason = "held for their drop")] [OwnedSemaphorePermit; 2]);

impl Places {
    pub(super) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(MOST_PACKED)), callers: Mutex::default() }
    }

    async fn take(&self, caller: &Name) -> Result<Place, Problem> {
        let busy = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(10);
        let own = {
            let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
            callers.entry(caller.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
        };
        let deadline = Instant::now() + PLACE_DEADLINE;
        let Ok(Ok(own)) = timeout_at(deadline, own.acquire_owned()).await else {
            return Err(busy(format!("another archive is being sent to {caller}, who gets one at a time")));
        };
        let Ok(Ok(place)) = timeout_at(deadline, self.all.clone().acquire_owned()).await else {
            return Err(busy(format!("{MOST_PACKED} archives are being packed already")));
        };
        Ok(Place([own, place]))
    }
}

/// Everything about a run in one archive: reports, signed statements, the journal's entries, every kept file, and how to check it all.
#[utoipa::path(get, path = "/api/v1/runs/{run}/evidence", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 200, description = "a .tar.gz, sent as it is packed; `MISSING.txt` in it names what is gone", body = inline(BinaryText),
        content_type = MEDIA_TYPE, headers(("Content-Disposition" = String, description = "its name"))), Conflicts))]
pub async fn evidence(State(service): State<Arc<Service>>, caller: Caller, RunPath(run): RunPath) -> Result<Response, Problem> {
    caller.require(Role::Viewer)?;
    archived(&service, &caller, run).await
}

/// The archive of a run; for whoever has seen to the caller.
///
/// # Errors
/// When there is no such run, it has not ended, the lab can't read something, or too many are packed already.
pub async fn archived(service: &Service, caller: &Caller, run: RunId) -> Result<Response, Problem> {
    let state = Arc::new(found(service, run).await?);
    let attestation = attested(service, state.clone()).await?;
    // Nobody waits for a place to hear that there is nothing to pack.
    let place = service.packing.take(&caller.name).await?;
    let entries = service.journal.entries(state.run).await?;
    let key = service.signer()?;
    let public_key = keys::pem(&key.verifying_key()).map_err(Problem::fault)?;
    let name = archive::file_name(state.run);
    let store = service.evidence.clone();
    let (sender, pieces) = mpsc::channel(2);
    let pipe = Pipe::new(sender);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let judgement = judge(&state);
        let source = Source { run: &state, judgement: &judgement, evidence: &|sha256| store.get(sha256) };
        let contents = Contents { attestation: &attestation, entries: &entries, key: &key, public_key: &public_key };
        let mut to = BufWriter::with_capacity(PIECE, pipe);
        let packed = archive::write(&mut to, &source, &contents).and_then(|lost| to.flush().map(|()| lost));
        // What is written only now would follow what was left out.
        let (mut pipe, _) = to.into_parts();
        match packed {
            Ok(lost) => {
                if !lost.is_empty() {
                    tracing::warn!(run = %state.run, lost, "an archive lacks what is gone from the store");
                }
                // Who is gone by now misses nothing.
                let _ = pipe.send(END);
            }
            Err(error) => tracing::warn!(run = %state.run, %error, "an archive was not sent to its end"),
        }
    });
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).map_err(Problem::fault)?),
    ];
    Ok((headers, Body::from_stream(unfold(Some(pieces), next))).into_response())
}

/// The next piece to send. Where the last was not [`END`], nobody may take what was sent for a whole archive.
async fn next(pieces: Option<mpsc::Receiver<Bytes>>) -> Option<(io::Result<Bytes>, Option<mpsc::Receiver<Bytes>>)> {
    let mut pieces = pieces?;
    match pieces.recv().await {
        Some(piece) if piece == END => None,
        Some(piece) => Some((Ok(piece), Some(pieces))),
        None => Some((Err(io::Error::other("the archive was not packed to its end")), None)),
    }
}

/// The way from the thread that packs to the one that sends.
struct Pipe {
    sender: mpsc::Sender<Bytes>,
    handle: Handle,
    sent: u64,
    /// What all of it took the other end so far.
    waited: Duration,
}

/// How long the next piece may take the other end.
fn patience(sent: u64, waited: Duration) -> Duration {
    let earned = Duration::from_millis(sent.saturating_mul(1000) / LEAST_RATE);
    earned.saturating_add(GRACE).saturating_sub(waited).min(PIECE_DEADLINE)
}

impl Pipe {
    fn new(sender: mpsc::Sender<Bytes>) -> Self {
        Self { sender, handle: Handle::current(), sent: 0, waited: Duration::ZERO }
    }

    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        let (length, began) = (piece.len() as u64, Instant::now());
        let sent = self.handle.block_on(timeout(patience(self.sent, self.waited), self.sender.send(piece)));
        self.waited += began.elapsed();
        self.sent += length;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the other end is gone")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the other end reads too slowly")),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Bytes::copy_from_slice(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    async fn sent(pieces: &[&'static [u8]]) -> Result<Vec<u8>, String> {
        let (sender, receiver) = mpsc::channel(8);
        for piece in pieces {
            sender.send(Bytes::from_static(piece)).await.expect("room");
        }
        drop(sender);
        let all: Vec<_> = unfold(Some(receiver), next).collect().await;
        let all: io::Result<Vec<_>> = all.into_iter().collect();
        all.map(|all| all.concat()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_archive_that_was_not_packed_to_its_end_does_not_end_well() {
        assert_eq!(sent(&[b"one", b"two", b""]).await, Ok(b"onetwo".to_vec()));
        for cut in [&[][..], &[&b"one"[..]], &[b"one", b"two"]] {
            assert!(sent(cut).await.is_err_and(|error| error.contains("not packed to its end")), "{cut:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_holds_no_thread() {
        let (sender, _unread) = mpsc::channel(1);
        let mut pipe = Pipe::new(sender);
        let mut packing = tokio::task::spawn_blocking(move || {
            pipe.write_all(b"one")?;
            pipe.write_all(b"two")
        });
        // Time does not jump by itself while such a thread is at work.
        let packed = loop {
            tokio::select! {
                biased;
                packed = &mut packing => break packed.expect("no panic"),
                () = tokio::time::advance(PIECE_DEADLINE) => {}
            }
        };
        let kind = packed.map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::TimedOut));
    }

    #[test]
    fn who_reads_a_little_at_a_time_holds_no_thread_for_long() {
        let mut worst = (0, Duration::ZERO);
        let piece = PIECE_DEADLINE - Duration::from_secs(1);
        while patience(worst.0, worst.1) > piece {
            worst = (worst.0 + PIECE as u64, worst.1 + piece);
        }
        assert!(worst.1 <= GRACE * 2, "{worst:?}");
        // Whoever keeps up gets an archive of any size, and may rest now and then.
        for seconds in [0, 60, 3600, 1_000_000] {
            let sent = seconds * LEAST_RATE;
            assert_eq!(patience(sent, Duration::from_secs(seconds)), PIECE_DEADLINE);
            assert_eq!(patience(sent, Duration::from_secs(seconds) + GRACE), Duration::ZERO);
        }
        assert_eq!(patience(u64::MAX, Duration::MAX), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_one_archive_packed_at_a_time_and_all_a_few() {
        let places = Places::new();
        let take = async |name: &str| places.take(&name.parse().expect("a name")).await.map_err(|problem| problem.detail().to_owned());
        let first = take("ann").await.expect("a place");
        assert!(take("ann").await.is_err_and(|told| told.contains("being sent to ann")));
        let _others = [take("bob").await, take("cid").await, take("dan").await].map(|place| place.expect("a place"));
        assert!(take("eve").await.is_err_and(|told| told.contains("4 archives are being packed")));
        let (again, ()) = tokio::join!(take("ann"), async { drop(first) });
        assert!(again.is_ok(), "who waits gets the place that is let go");
        drop(again);
        assert!(take("eve").await.is_ok(), "and keeps none while waiting in vain");
    }
}
