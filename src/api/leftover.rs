//! What an answer leaves unread of its request's body. It is read to its end, within bounds: else the connection would be closed under a
//! client that is about to use it again, or that still sends and so never reads the answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

/// Bytes that are read and thrown away.
const LARGEST: usize = 8 * 1024 * 1024;
/// How long they may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// Where a lent body comes back to.
pub struct Leftover(Arc<Mutex<Option<Body>>>);

struct Lent {
    body: Body,
    back: Arc<Mutex<Option<Body>>>,
}

/// The body to give to a handler, and what will be left of it.
pub fn lend(body: Body) -> (Body, Leftover) {
    let back = Arc::new(Mutex::new(None));
    (Body::new(Lent { body, back: back.clone() }), Leftover(back))
}

impl Leftover {
    /// Reads what was not read. Whatever comes of it, the answer is the same.
    pub async fn discard(self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut left) = left.filter(|left| !left.is_end_stream()) else { return };
        let read = async {
            let mut size = 0;
            while let Some(Ok(frame)) = left.frame().await {
                size += frame.data_ref().map_or(0, Bytes::len);
                if size > LARGEST {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(DEADLINE, read).await;
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::mem::take(&mut self.body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endless() -> Body {
        Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096]))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_holds_nothing_up() {
        let (body, leftover) = lend(endless());
        drop(body);
        leftover.discard().await;
        let (body, leftover) = lend(Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>()));
        drop(body);
        leftover.discard().await;
    }

    #[tokio::test]
    async fn what_is_read_is_not_read_twice() {
        let (mut body, leftover) = lend(Body::from("all of it"));
        let frame = body.frame().await.expect("a frame").expect("data");
        assert_eq!(frame.data_ref().map(Bytes::as_ref), Some(&b"all of it"[..]));
        drop(body);
        leftover.discard().await;
    }
}
