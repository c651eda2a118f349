//! How long a connection is waited for: one timer for all of its requests.
//!
//! hyper asks for a timer for each head that it waits for. To put one among the runtime's and to take it out again takes a lock each that all
//! connections share; to put off the one that is there takes none.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

/// The timer of one connection, which waits for one thing at a time.
pub struct Patience(Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>);

impl Default for Patience {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Box::pin(tokio::time::sleep(Duration::ZERO)))))
    }
}

impl Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait { timer: self.0.clone(), deadline: deadline.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

struct Wait {
    timer: Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>,
    deadline: Instant,
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if timer.deadline() != self.deadline {
            timer.as_mut().reset(self.deadline);
        }
        timer.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_time() {
        let (patience, began) = (Patience::default(), Instant::now());
        let waited = async |seconds: u64| {
            patience.sleep(Duration::from_secs(seconds)).await;
            began.elapsed().as_secs()
        };
        assert_eq!(waited(15).await, 15);
        // One that was given up holds up nobody, nor does it end another early.
        for _ in 0..3 {
            let given_up = tokio::time::timeout(Duration::from_secs(1), patience.sleep(Duration::from_secs(15))).await;
            assert!(given_up.is_err());
        }
        assert_eq!((waited(15).await, waited(2).await), (33, 35));
    }
}
