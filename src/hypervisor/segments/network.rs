//! The network of one cell: its segments, the thread that carries their frames, and the handle to both.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};

use super::capture::{self, Recorder, Writer, Written};
use super::fault::Fault;
use super::mac::Mac;
use super::pump::{self, lock};
use super::stats::{Reason, SegmentStats};
use super::switch::Switch;
use super::wire::{Ends, Wire, overruns};
use crate::hypervisor::{HypervisorError, HypervisorErrorKind};
use crate::id::Name;

/// How long closing waits for what is under way.
const CLOSING: Duration = Duration::from_secs(10);
/// Between two tries to hand something to a writer that is behind.
const BEHIND: Duration = Duration::from_millis(5);
/// Each NIC costs two sockets.
const MOST_NICS: usize = 256;

/// What a cell's network is made of, as its plan has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkSpec {
    /// Where the chance in faults comes from.
    pub seed: u64,
    /// The most bytes that the capture of one segment takes.
    pub capture_cap: u64,
    pub segments: Vec<SegmentSpec>,
}

/// A segment: the NICs in it see each other and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SegmentSpec {
    /// Unique in the network; its capture is `<name>.pcap`.
    pub name: Name,
    pub nics: Vec<NicSpec>,
}

/// A NIC's place in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NicSpec {
    /// Unique in its segment: the machine's role, say.
    pub name: Name,
    /// Unique in its segment.
    pub mac: Mac,
}

/// What the definition of a machine needs of a NIC's wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    pub segment: Name,
    pub nic: Name,
    pub mac: Mac,
    pub ends: Ends,
}

/// Something that happened to the network, for the timeline of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LinkEvent {
    pub at: Timestamp,
    pub what: Happening,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Happening {
    Opened,
    /// The first frame of this NIC.
    Heard {
        segment: Name,
        nic: Name,
    },
    /// In force from here on.
    Done(Fault),
    Closed,
}

/// All that is known of a network when it is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkReport {
    pub segments: Vec<SegmentStats>,
    pub timeline: Vec<LinkEvent>,
    /// Why it stopped carrying frames before it was closed: the lab is to blame for what was seen since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// What the handle and the pump share.
#[derive(Debug)]
pub struct Shared {
    pub clock: Clock,
    pub segments: Vec<Segment>,
    timeline: Mutex<Vec<LinkEvent>>,
}

/// One segment: its own wires, its own switch.
#[derive(Debug)]
pub struct Segment {
    pub name: Name,
    pub nics: Vec<Name>,
    /// One for each NIC.
    pub wires: Vec<Wire>,
    pub state: Mutex<State>,
}

#[derive(Debug)]
pub struct State {
    pub switch: Switch,
    pub recorder: Recorder,
    /// Which NICs have sent something.
    pub heard: Vec<bool>,
}

/// Time since the network was opened, and what the wall clock shows with it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: Instant,
}

impl Clock {
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn stamp(&self, now: Duration) -> Timestamp {
        SignedDuration::try_from(now).ok().and_then(|now| self.origin.checked_add(now).ok()).unwrap_or(Timestamp::MAX)
    }
}

impl Shared {
    pub fn happened(&self, at: Timestamp, what: Happening) {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner).push(LinkEvent { at, what });
    }
}

/// The network of one cell, open until closed or dropped.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    plugs: Vec<Plug>,
    running: Option<Running>,
}

/// The threads, each with the channel that tells how it ended.
#[derive(Debug)]
struct Running {
    stop: Arc<EventFd>,
    pump: JoinHandle<()>,
    pumped: Receiver<Result<(), nix::errno::Errno>>,
    /// One for each segment.
    written: Vec<Receiver<Written>>,
}

impl Network {
    /// Opens the wires and begins to carry frames, captured into `captures`. On error nothing is left.
    pub fn open(spec: &NetworkSpec, captures: &Path) -> Result<Self, HypervisorError> {
        check(spec)?;
        let mut made = Vec::new();
        Self::assemble(spec, captures, &mut made).inspect_err(|_| {
            for file in made {
                let _ = std::fs::remove_file(file);
            }
        })
    }

    fn assemble(spec: &NetworkSpec, captures: &Path, made: &mut Vec<PathBuf>) -> Result<Self, HypervisorError> {
        let mut seeds = fastrand::Rng::with_seed(spec.seed);
        let (mut segments, mut writers, mut plugs) = (Vec::new(), Vec::new(), Vec::new());
        std::fs::create_dir_all(captures).map_err(|error| cannot(&format!("make the folder {}", captures.display()), error))?;
        for segment in &spec.segments {
            let wires = segment.nics.iter().map(|_| Wire::open()).collect::<Result<Vec<_>, _>>();
            let wires = wires.map_err(|error| cannot(&format!("open the wires of the segment {}", segment.name), error))?;
            let file = captures.join(format!("{}.pcap", segment.name));
            let begun = capture::begin(&file, spec.capture_cap);
            let (recorder, writer) = begun.map_err(|error| cannot(&format!("make the capture {}", file.display()), error))?;
            made.push(file);
            writers.push(writer);
            for (nic, wire) in segment.nics.iter().zip(&wires) {
                plugs.push(Plug { segment: segment.name.clone(), nic: nic.name.clone(), mac: nic.mac, ends: wire.ends });
            }
            let switch = Switch::new(seeds.u64(..), segment.nics.iter().map(|nic| (nic.name.clone(), nic.mac)));
            segments.push(Segment {
                name: segment.name.clone(),
                nics: segment.nics.iter().map(|nic| nic.name.clone()).collect(),
                state: Mutex::new(State { switch, recorder, heard: vec![false; wires.len()] }),
                wires,
            });
        }
        let clock = Clock { origin: Timestamp::now(), started: Instant::now() };
        let opened = LinkEvent { at: clock.origin, what: Happening::Opened };
        let shared = Arc::new(Shared { clock, segments, timeline: Mutex::new(vec![opened]) });
        let running = start(&shared, writers)?;
        Ok(Self { shared, plugs, running: Some(running) })
    }

    /// The wires, one for each NIC, in the order of the specification.
    pub fn plugs(&self) -> &[Plug] {
        &self.plugs
    }

    /// Does a fault. It is in force when this returns.
    pub fn apply(&self, fault: &Fault) -> Result<(), HypervisorError> {
        let tried = || format!("{:?} on {}", fault.verb, fault.nic.as_ref().unwrap_or(&fault.segment));
        if let Some(found) = self.broken() {
            let hint = "the network has to be opened anew".to_owned();
            return Err(HypervisorError { kind: HypervisorErrorKind::Gone, tried: tried(), found, hint });
        }
        let refused = |found, hint| HypervisorError { kind: HypervisorErrorKind::Refused, tried: tried(), found, hint };
        let segment = self.shared.segments.iter().find(|segment| segment.name == fault.segment).ok_or_else(|| {
            let known: Vec<_> = self.shared.segments.iter().map(|segment| segment.name.as_str()).collect();
            refused(format!("no segment {}", fault.segment), format!("name one of {}", known.join(", ")))
        })?;
        let mut state = lock(segment);
        state.switch.apply(fault.nic.as_ref(), &fault.verb).map_err(|bad| refused(bad.found, bad.hint))?;
        self.shared.happened(self.shared.clock.stamp(self.shared.clock.now()), Happening::Done(fault.clone()));
        Ok(())
    }

    /// The counters by now. What the host threw away is looked up at this call, so it is not known of machines that ended before.
    pub fn stats(&self) -> Vec<SegmentStats> {
        self.stats_with(&[])
    }

    fn stats_with(&self, written: &[Written]) -> Vec<SegmentStats> {
        let overruns = overruns();
        let thrown_away = |port| overruns.get(&port).copied().unwrap_or_default();
        let mut all = Vec::new();
        for (at, segment) in self.shared.segments.iter().enumerate() {
            let mut state = lock(segment);
            for (port, wire) in segment.wires.iter().enumerate() {
                state.switch.raise(port, Reason::Overrun, thrown_away(wire.ends.remote));
                state.switch.raise(port, Reason::Untaken, thrown_away(wire.ends.local));
            }
            let capture = state.recorder.stats(written.get(at));
            all.push(SegmentStats { segment: segment.name.clone(), ports: state.switch.stats(), capture });
        }
        all
    }

    /// What happened so far, in order.
    pub fn timeline(&self) -> Vec<LinkEvent> {
        let mut events = self.shared.timeline.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The pump takes its time before it has the lock.
        events.sort_by_key(|event| event.at);
        events
    }

    /// Waits until the captures hold every frame that was carried so far, but no longer than `within`. Whether they do.
    pub fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.shared.segments.iter().all(|segment| {
            loop {
                let handed = lock(segment).recorder.flush_and_tell();
                let left = deadline.saturating_duration_since(Instant::now());
                match handed {
                    Some(written) => return written.recv_timeout(left) == Err(RecvTimeoutError::Disconnected),
                    None if left.is_zero() => return false,
                    None => thread::sleep(BEHIND.min(left)),
                }
            }
        })
    }

    /// Why no more frames are carried, if so.
    pub fn broken(&self) -> Option<String> {
        let ended = self.running.as_ref().is_some_and(|running| running.pump.is_finished());
        ended.then(|| "the switch has stopped by itself".to_owned())
    }

    /// Stops carrying frames, and completes the captures.
    pub fn close(mut self) -> NetworkReport {
        let (written, broken) = self.end();
        NetworkReport { segments: self.stats_with(&written), timeline: self.timeline(), broken }
    }

    fn end(&mut self) -> (Vec<Written>, Option<String>) {
        let Some(running) = self.running.take() else { return (Vec::new(), None) };
        let deadline = Instant::now() + CLOSING;
        let left = || deadline.saturating_duration_since(Instant::now());
        let signalled = running.stop.write(1);
        let ended = running.pumped.recv_timeout(left());
        let broken = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("the switch stopped: {error}")),
            Err(RecvTimeoutError::Disconnected) => Some("the switch panicked".to_owned()),
            Err(RecvTimeoutError::Timeout) => Some(format!("the switch did not end within {CLOSING:?} ({signalled:?})")),
        };
        if ended != Err(RecvTimeoutError::Timeout) {
            // It has told its end; only its share of the sockets is still to be let go.
            let _ = running.pump.join();
        }
        for segment in &self.shared.segments {
            lock(segment).recorder.finish(deadline);
        }
        let wait = |end: &Receiver<Written>| end.recv_timeout(left()).unwrap_or_else(|_| Written::unknown(CLOSING));
        let written: Vec<Written> = running.written.iter().map(wait).collect();
        self.shared.happened(self.shared.clock.stamp(self.shared.clock.now()), Happening::Closed);
        (written, broken)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(shared: &Arc<Shared>, writers: Vec<Writer>) -> Result<Running, HypervisorError> {
    let failed = |error| cannot("start a thread of the switch", error);
    let mut written = Vec::new();
    for writer in writers {
        let (tell, end) = channel();
        let run = move || {
            let _ = tell.send(writer.run());
        };
        thread::Builder::new().name("capture".to_owned()).spawn(run).map_err(failed)?;
        written.push(end);
    }
    let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
    let stop = Arc::new(stop.map_err(|error| cannot("make an eventfd", error.into()))?);
    let (tell, pumped) = channel();
    let pump = {
        let (shared, stop) = (Arc::clone(shared), Arc::clone(&stop));
        let run = move || {
            let _ = tell.send(pump::run(&shared, &stop));
        };
        thread::Builder::new().name("switch".to_owned()).spawn(run).map_err(failed)?
    };
    Ok(Running { stop, pump, pumped, written })
}

/// Refuses what could not be told apart, or is too much.
fn check(spec: &NetworkSpec) -> Result<(), HypervisorError> {
    let refused = |found: String, hint: &str| HypervisorError {
        kind: HypervisorErrorKind::Refused,
        tried: "open the cell's network".to_owned(),
        found,
        hint: hint.to_owned(),
    };
    let nics: usize = spec.segments.iter().map(|segment| segment.nics.len()).sum();
    if nics > MOST_NICS {
        return Err(refused(format!("{nics} NICs, more than {MOST_NICS}"), "use smaller environments"));
    }
    for (at, segment) in spec.segments.iter().enumerate() {
        if spec.segments[..at].iter().any(|other| other.name == segment.name) {
            return Err(refused(format!("two segments {}", segment.name), "give each a name of its own"));
        }
        for (at, nic) in segment.nics.iter().enumerate() {
            let others = &segment.nics[..at];
            if others.iter().any(|other| other.name == nic.name) {
                return Err(refused(format!("two NICs {} in the segment {}", nic.name, segment.name), "give each a name of its own"));
            }
            if others.iter().any(|other| other.mac == nic.mac) || nic.mac.is_group() || nic.mac == Mac([0; 6]) {
                let found = format!("the address {} of {} in the segment {}", nic.mac, nic.name, segment.name);
                return Err(refused(found, "give each NIC of a segment a unicast address of its own"));
            }
        }
    }
    Ok(())
}

fn cannot(tried: &str, error: std::io::Error) -> HypervisorError {
    let (kind, hint) = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => (HypervisorErrorKind::NoSpace, "make room"),
        std::io::ErrorKind::AlreadyExists => (HypervisorErrorKind::Refused, "use a new folder for each network"),
        _ => (HypervisorErrorKind::Refused, "look at the limits of this process (ulimit -n, -u) and at the folder's owner"),
    };
    HypervisorError { kind, tried: tried.to_owned(), found: error.to_string(), hint: hint.to_owned() }
}
