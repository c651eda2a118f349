//! Frames that are on their way: those that a fault delays.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

/// The most that is on its way to one port. A guest that floods a slow line fills only the queues it sends to.
const FRAMES: usize = 4096;
const BYTES: usize = 8 << 20;

/// A frame on its way. Ordered by its time, and by its turn among those of one time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Late {
    pub at: Duration,
    turn: u64,
    pub from: usize,
    pub to: usize,
    pub frame: Arc<[u8]>,
}

/// The frames on their way in one segment.
#[derive(Debug)]
pub struct Held {
    heap: BinaryHeap<Reverse<Late>>,
    /// For each port, how many frames and bytes are on their way to it.
    load: Vec<(usize, usize)>,
    turn: u64,
}

impl Held {
    pub fn new(ports: usize) -> Self {
        Self { heap: BinaryHeap::new(), load: vec![(0, 0); ports], turn: 0 }
    }

    /// Keeps a frame until its time. `false` when the queue to that port is full.
    pub fn push(&mut self, at: Duration, from: usize, to: usize, frame: Arc<[u8]>) -> bool {
        let (frames, bytes) = &mut self.load[to];
        if *frames >= FRAMES || *bytes + frame.len() > BYTES {
            return false;
        }
        *frames += 1;
        *bytes += frame.len();
        self.turn += 1;
        self.heap.push(Reverse(Late { at, turn: self.turn, from, to, frame }));
        true
    }

    /// When the next frame is due.
    pub fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(late)| late.at)
    }

    /// The next frame, if it is due.
    pub fn pop(&mut self, now: Duration) -> Option<Late> {
        if self.next()? > now {
            return None;
        }
        let Reverse(late) = self.heap.pop()?;
        let (frames, bytes) = &mut self.load[late.to];
        *frames -= 1;
        *bytes -= late.frame.len();
        Some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn frames_come_out_by_time_and_then_in_their_turn() {
        let mut held = Held::new(2);
        for (at, byte) in [(3, 0), (1, 1), (3, 2), (2, 3), (1, 4)] {
            assert!(held.push(MS * at, 0, 1, Arc::from([byte])));
        }
        assert_eq!(held.next(), Some(MS));
        assert!(held.pop(Duration::ZERO).is_none());
        let order: Vec<_> = std::iter::from_fn(|| held.pop(MS * 3)).map(|late| late.frame[0]).collect();
        assert_eq!(order, [1, 4, 3, 0, 2]);
        assert_eq!(held.load, [(0, 0), (0, 0)]);
    }

    #[test]
    fn a_full_queue_takes_no_more_and_leaves_the_others_alone() {
        let mut held = Held::new(2);
        let frame: Arc<[u8]> = Arc::from([0; 60]);
        let taken = (0..2 * FRAMES).filter(|_| held.push(MS, 0, 1, frame.clone())).count();
        assert_eq!(taken, FRAMES);
        assert!(held.push(MS, 1, 0, frame.clone()));
        assert!(held.pop(MS).is_some());
        assert!(held.push(MS, 0, 1, frame), "one came out, one goes in");
        let big: Arc<[u8]> = Arc::from(vec![0; 9000]);
        let mut held = Held::new(1);
        let taken = (0..FRAMES).filter(|_| held.push(MS, 0, 0, big.clone())).count();
        assert_eq!(taken, BYTES / 9000);
    }
}
