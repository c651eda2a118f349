//! Reading captures: the frames of each case as lines, and pieces of a capture that are captures themselves.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError};

use super::frame::{Again, Names, Seen, decode};

/// Lines kept from the start of a case, and as many from its end.
const LINES: usize = 150;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// More than any frame with its header.
const BUFFER: usize = 1 << 17;

/// A span of time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Window {
    pub fn holds(&self, at: Timestamp) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

/// Frames as lines, each with its time.
pub type Told = Vec<(Timestamp, String)>;

/// A record of a capture.
struct Record<'a> {
    at: Timestamp,
    words: [u32; 4],
    frame: &'a [u8],
}

/// Shows each record from `offset` on (0 for the first) until told to stop. Returns where it stopped. A record that is not whole yet is
/// left for the next time.
fn each(file: &Path, offset: u64, mut see: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> io::Result<u64> {
    let mut file = File::open(file)?;
    let mut header = [0; FILE_HEADER];
    file.read_exact(&mut header)?;
    let mut at = offset.max(FILE_HEADER as u64);
    file.seek(SeekFrom::Start(at))?;
    let bad = |error: PcapError<&[u8]>| io::Error::new(io::ErrorKind::InvalidData, format!("not a capture: {error:?}"));
    let mut reader = LegacyPcapReader::new(BUFFER, header.chain(file)).map_err(bad)?;
    let mut nanoseconds = false;
    loop {
        match reader.next() {
            Ok((length, PcapBlockOwned::LegacyHeader(header))) => {
                nanoseconds = header.is_nanosecond_precision();
                reader.consume(length);
            }
            Ok((length, PcapBlockOwned::Legacy(block))) => {
                let fraction = if nanoseconds { block.ts_usec } else { block.ts_usec.saturating_mul(1000) };
                let stamp = Timestamp::new(i64::from(block.ts_sec), i32::try_from(fraction).unwrap_or_default()).unwrap_or_default();
                let words = [block.ts_sec, block.ts_usec, block.caplen, block.origlen];
                let seen = see(&Record { at: stamp, words, frame: block.data });
                if seen.is_break() {
                    return Ok(at);
                }
                at += length as u64;
                reader.consume(length);
            }
            Ok((length, PcapBlockOwned::NG(_))) => reader.consume(length),
            Err(PcapError::Incomplete(_)) => match reader.refill() {
                Ok(()) => {}
                Err(_) => return Ok(at),
            },
            Err(PcapError::Eof | PcapError::UnexpectedEof) => return Ok(at),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("byte {at} is no record: {error:?}"))),
        }
    }
}

/// The frames of each window as lines, and where the reading ended.
///
/// # Errors
/// When the file cannot be read or is no capture.
pub fn lines(file: &Path, offset: u64, windows: &[Window], names: &Names) -> io::Result<(Vec<Told>, u64)> {
    let mut all: Vec<Frames> = windows.iter().map(|_| Frames::default()).collect();
    let end = each(file, offset, |record| {
        let at = windows.iter().position(|window| window.holds(record.at));
        if let Some(frames) = at.and_then(|at| all.get_mut(at)) {
            frames.add(record.at, decode(record.frame, names));
        }
        ControlFlow::Continue(())
    })?;
    Ok((all.into_iter().map(Frames::lines).collect(), end))
}

/// A capture of its own with the frames of a window (all, for `None`) that fit into `cap` bytes, and whether all of them did.
///
/// # Errors
/// When the file cannot be read or is no capture.
pub fn piece(file: &Path, window: Option<Window>, cap: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = vec![0; FILE_HEADER];
    File::open(file)?.read_exact(&mut bytes)?;
    let mut whole = true;
    each(file, 0, |record| {
        if window.is_some_and(|window| !window.holds(record.at)) {
            return ControlFlow::Continue(());
        }
        if bytes.len() + RECORD_HEADER + record.frame.len() > cap {
            whole = false;
            return ControlFlow::Break(());
        }
        record.words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.extend_from_slice(record.frame);
        ControlFlow::Continue(())
    })?;
    Ok((bytes, whole))
}

struct Line {
    at: Timestamp,
    text: String,
    again: Option<Again>,
    times: u32,
}

/// The frames of one case on one segment: the first and the last as lines, the rest as counts.
#[derive(Default)]
struct Frames {
    head: Vec<Line>,
    tail: VecDeque<Line>,
    /// Lines of the tail that gave way to later ones.
    gone: usize,
    /// Where a line is that may be sent again: counted over all lines.
    known: BTreeMap<Again, usize>,
    left_out: BTreeMap<&'static str, u64>,
    kinds: VecDeque<&'static str>,
    bare: u64,
}

impl Frames {
    fn add(&mut self, at: Timestamp, seen: Seen) {
        if seen.bare {
            self.bare += 1;
            return;
        }
        if let Some(line) = seen.again.as_ref().and_then(|again| self.known.get(again)).copied().and_then(|place| self.line(place)) {
            line.times += 1;
            return;
        }
        if let Some(again) = &seen.again {
            self.known.insert(again.clone(), self.head.len() + self.gone + self.tail.len());
        }
        let line = Line { at, text: seen.line, again: seen.again, times: 1 };
        if self.head.len() < LINES {
            self.head.push(line);
            return;
        }
        self.tail.push_back(line);
        self.kinds.push_back(seen.kind);
        if self.tail.len() > LINES {
            if let Some(again) = self.tail.pop_front().and_then(|line| line.again) {
                self.known.remove(&again);
            }
            self.gone += 1;
            *self.left_out.entry(self.kinds.pop_front().unwrap_or("other")).or_default() += 1;
        }
    }

    fn line(&mut self, place: usize) -> Option<&mut Line> {
        match place.checked_sub(self.head.len()) {
            None => self.head.get_mut(place),
            Some(place) => self.tail.get_mut(place.checked_sub(self.gone)?),
        }
    }

    fn lines(self) -> Told {
        let told = |line: Line| {
            let times = if line.times > 1 { format!(" (sent {} times)", line.times) } else { String::new() };
            (line.at, format!("{}{times}", line.text))
        };
        let gap = self.tail.front().filter(|_| self.gone > 0).map(|line| {
            let counts: Vec<_> = self.left_out.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            (line.at, format!("[... {} frames left out here: {}; the capture has them ...]", self.gone, counts.join(", ")))
        });
        let last = self.tail.back().or(self.head.last()).map(|line| line.at);
        let bare = last.filter(|_| self.bare > 0).map(|at| (at, format!("[{} bare TCP acknowledgements are not shown]", self.bare)));
        self.head.into_iter().map(told).chain(gap).chain(self.tail.into_iter().map(told)).chain(bare).collect()
    }
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
