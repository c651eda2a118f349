//! The lab's clock: wall time where machines are real, virtual time in the simulator.
//!
//! The simulator's is built on tokio's clock, so that a paused runtime clock carries the timestamps along. The wall clock is asked each
//! time: one that was wrong when a server started, and was put right since, is right.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time for the journal.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What a clock of its own showed, and when.
    own: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// A clock that shows `origin` now and runs with tokio's time.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { own: Some((origin, Instant::now())) }
    }

    /// The wall clock.
    pub const fn wall() -> Self {
        Self { own: None }
    }

    pub fn now(&self) -> Timestamp {
        let Some((origin, started)) = self.own else { return Timestamp::now() };
        let elapsed = SignedDuration::try_from(started.elapsed()).unwrap_or(SignedDuration::MAX);
        origin.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// The time between two moments; zero when they are the wrong way round.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
