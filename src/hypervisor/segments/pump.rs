//! The thread that carries frames: takes them from the wires, asks the switch, sends them on when it is time.
//!
//! Invariants: one thread a network, and the only one that reads its wires; a segment is locked from the switch's word until the frames
//! are sent, so that a fault is in force when the call that does it returns; nothing here waits but for the wires and the next due frame.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;

use super::held::Held;
use super::network::{Happening, Segment, Shared, State};
use super::stats::Reason;
use super::switch::Delivery;
use super::wire::{BATCH, Inbox, Outbox, Sent, Wire};

/// A captured frame is on its way to the disk after this long, however few there are.
const CAPTURE_WAITS: Duration = Duration::from_millis(200);
/// When a network is closed, this many more batches are taken of each wire, so that what was sent before is still captured.
const LAST_BATCHES: usize = 64;

struct Pump<'a> {
    shared: &'a Shared,
    inbox: Inbox,
    outbox: Outbox,
    deliveries: Vec<Delivery>,
    /// For each port of the segment at hand, the places in the inbox of the frames it gets.
    going: Vec<Vec<usize>>,
    /// For each segment.
    held: Vec<Held>,
    flush_at: Option<Duration>,
}

/// Carries frames until `stop` is signalled.
pub fn run(shared: &Shared, stop: &EventFd) -> Result<(), Errno> {
    let places: Vec<_> =
        shared.segments.iter().enumerate().flat_map(|(at, segment)| (0..segment.wires.len()).map(move |port| (at, port))).collect();
    let wires = shared.segments.iter().flat_map(|segment| &segment.wires);
    let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    fds.extend(wires.map(|wire| PollFd::new(wire.socket.as_fd(), PollFlags::POLLIN)));
    let mut pump = Pump {
        shared,
        inbox: Inbox::new(),
        outbox: Outbox::new(),
        deliveries: Vec::new(),
        going: Vec::new(),
        held: shared.segments.iter().map(|segment| Held::new(segment.wires.len())).collect(),
        flush_at: None,
    };
    loop {
        let wake = pump.held.iter().filter_map(Held::next).chain(pump.flush_at).min();
        let patience = wake.map(|at| at.saturating_sub(shared.clock.now()).into());
        match ppoll(&mut fds, patience, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        for (fd, (segment, port)) in fds[1..].iter().zip(&places) {
            if fd.any().unwrap_or(true) {
                pump.take(*segment, *port)?;
            }
        }
        pump.release();
        pump.flush();
        if fds[0].any().unwrap_or(true) {
            break;
        }
    }
    for (segment, port) in places {
        for _ in 0..LAST_BATCHES {
            if !pump.take(segment, port)? {
                break;
            }
        }
    }
    pump.give_up();
    Ok(())
}

impl Pump<'_> {
    /// Takes a batch of frames from a wire and sends on what is not delayed. Whether there was anything.
    fn take(&mut self, at: usize, port: usize) -> Result<bool, Errno> {
        let segment = &self.shared.segments[at];
        match self.inbox.receive(&segment.wires[port]) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(Errno::ECONNREFUSED) => {
                lock(segment).switch.drop(port, Reason::NoMachine);
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
        let now = self.shared.clock.now();
        let stamp = self.shared.clock.stamp(now);
        let mut state = lock(segment);
        let State { switch, recorder, heard } = &mut *state;
        self.going.resize_with(segment.wires.len().max(self.going.len()), Vec::new);
        for place in 0..self.inbox.len() {
            let Some(frame) = self.inbox.frame(place) else {
                switch.drop(port, Reason::Foreign);
                continue;
            };
            self.deliveries.clear();
            if switch.forward(now, port, frame, &mut self.deliveries) {
                recorder.record(stamp, frame);
                if !std::mem::replace(&mut heard[port], true) {
                    self.shared.happened(stamp, Happening::Heard { segment: segment.name.clone(), nic: segment.nics[port].clone() });
                }
            }
            let mut late: Option<Arc<[u8]>> = None;
            for delivery in &self.deliveries {
                if delivery.at <= now {
                    self.going[delivery.to].push(place);
                    continue;
                }
                let copy = late.get_or_insert_with(|| Arc::from(frame)).clone();
                if !self.held[at].push(delivery.at, port, delivery.to, copy) {
                    switch.drop(delivery.to, Reason::QueueFull);
                }
            }
        }
        for (to, places) in self.going.iter_mut().enumerate().filter(|(_, places)| !places.is_empty()) {
            let frames: Vec<_> = places.drain(..).filter_map(|place| self.inbox.frame(place)).map(|frame| [IoSlice::new(frame)]).collect();
            send(&mut self.outbox, &mut state, &segment.wires[to], to, &frames);
        }
        if self.flush_at.is_none() && state.recorder.is_dirty() {
            self.flush_at = Some(now + CAPTURE_WAITS);
        }
        Ok(true)
    }

    /// Sends the delayed frames that are due, if their links are still up.
    fn release(&mut self) {
        let now = self.shared.clock.now();
        for (segment, held) in self.shared.segments.iter().zip(&mut self.held) {
            let mut due: VecDeque<_> = std::iter::from_fn(|| held.pop(now)).collect();
            if due.is_empty() {
                continue;
            }
            let mut state = lock(segment);
            due.retain(|late| state.switch.arrives(late.from, late.to));
            // Runs of frames to one port go together.
            while let Some(to) = due.front().map(|late| late.to) {
                let run = due.iter().take_while(|late| late.to == to).count();
                let run: Vec<_> = due.drain(..run).collect();
                let frames: Vec<_> = run.iter().map(|late| [IoSlice::new(&late.frame)]).collect();
                send(&mut self.outbox, &mut state, &segment.wires[to], to, &frames);
            }
        }
    }

    fn flush(&mut self) {
        let now = self.shared.clock.now();
        if self.flush_at.is_some_and(|at| at <= now) {
            let dirty = self.shared.segments.iter().filter(|segment| {
                let mut state = lock(segment);
                state.recorder.flush();
                state.recorder.is_dirty()
            });
            // What the writer had no room for is offered again.
            self.flush_at = (dirty.count() > 0).then(|| now + CAPTURE_WAITS);
        }
    }

    /// Counts what is still on its way.
    fn give_up(&mut self) {
        for (segment, held) in self.shared.segments.iter().zip(&mut self.held) {
            let mut state = lock(segment);
            while let Some(late) = held.pop(Duration::MAX) {
                state.switch.drop(late.to, Reason::Closed);
            }
        }
    }
}

/// Sends frames to one port and counts them.
fn send(outbox: &mut Outbox, state: &mut State, wire: &Wire, to: usize, frames: &[[IoSlice<'_>; 1]]) {
    for batch in frames.chunks(BATCH) {
        let mut rest = batch;
        // A refusal is told once, and about an earlier frame: so each frame is offered twice at the most.
        let mut offers = 2 * batch.len();
        while !rest.is_empty() && offers > 0 {
            offers -= 1;
            match outbox.send(wire, rest) {
                Sent::Taken(taken) => {
                    let (gone, left) = rest.split_at(taken.min(rest.len()));
                    gone.iter().for_each(|frame| state.switch.sent(to, frame[0].len()));
                    rest = left;
                }
                Sent::Refused => state.switch.drop(to, Reason::NoMachine),
                Sent::Busy => break,
            }
        }
        rest.iter().for_each(|_| state.switch.drop(to, Reason::Busy));
    }
}

/// A segment's state. A panic elsewhere does not make it unreadable: it ends the pump, which is told at close.
pub fn lock(segment: &Segment) -> MutexGuard<'_, State> {
    segment.state.lock().unwrap_or_else(PoisonError::into_inner)
}
