//! A segment's frames in a file that tcpdump and Wireshark read: classic pcap with nanoseconds.
//!
//! ```text
//!  switch -> Recorder: whole records into a batch -> bounded channel -> writer thread -> one file a segment
//!               ^------------------ emptied batches ----------------------+
//! ```
//!
//! Invariants: the switch never waits for the disk; a file never grows beyond its cap and holds whole records only; what it lacks
//! is counted. A frame too many for the cap ends the capture, so that it has no hole before its end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::mac::LONGEST;

/// A batch is handed to the writer before it grows beyond this.
const BATCH: usize = 256 << 10;
/// Batches of one segment that may wait for the writer: what a flood sends while the disk is busy elsewhere.
const WAITING: usize = 64;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// What a capture holds and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CaptureStats {
    pub file: PathBuf,
    pub frames: u64,
    /// The file's size when all is written.
    pub bytes: u64,
    /// Frames left out because the file had reached its cap.
    pub beyond_cap: u64,
    /// Frames left out because the disk was too slow or refused.
    pub missed: u64,
    /// Why writing ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Batch {
    records: Vec<u8>,
    frames: u64,
    /// Let go once it is written.
    waited_for: Option<Sender<()>>,
}

/// Takes the frames of one segment.
#[derive(Debug)]
pub struct Recorder {
    file: PathBuf,
    cap: u64,
    batch: Batch,
    writer: Option<SyncSender<Batch>>,
    emptied: Receiver<Vec<u8>>,
    frames: u64,
    bytes: u64,
    beyond_cap: u64,
    missed: u64,
}

/// What the writer of one segment's file says at its end.
#[derive(Debug, Default)]
pub struct Written {
    lost: u64,
    error: Option<String>,
}

/// One segment's file, to be written by a thread of its own.
#[derive(Debug)]
pub struct Writer {
    file: File,
    batches: Receiver<Batch>,
    emptied: Sender<Vec<u8>>,
}

/// Makes the file, which must not be there yet, and both ends of the way to it.
pub fn begin(file: &Path, cap: u64) -> io::Result<(Recorder, Writer)> {
    let mut open = OpenOptions::new().write(true).create_new(true).open(file)?;
    if let Err(error) = open.write_all(&header()) {
        let _ = fs::remove_file(file);
        return Err(error);
    }
    let (writer, batches) = sync_channel(WAITING);
    let (give_back, emptied) = channel();
    let recorder = Recorder {
        file: file.to_owned(),
        cap,
        batch: Batch::default(),
        writer: Some(writer),
        emptied,
        frames: 0,
        bytes: FILE_HEADER as u64,
        beyond_cap: 0,
        missed: 0,
    };
    Ok((recorder, Writer { file: open, batches, emptied: give_back }))
}

fn header() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    // Magic number for nanoseconds, version 2.4, no zone offset, no accuracy, longest frame, Ethernet.
    header[0..4].copy_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
    header[4..6].copy_from_slice(&2_u16.to_le_bytes());
    header[6..8].copy_from_slice(&4_u16.to_le_bytes());
    header[16..20].copy_from_slice(&(LONGEST as u32).to_le_bytes());
    header[20..24].copy_from_slice(&1_u32.to_le_bytes());
    header
}

impl Recorder {
    /// Takes a frame, or counts it.
    pub fn record(&mut self, at: Timestamp, frame: &[u8]) {
        let record = RECORD_HEADER + frame.len();
        if self.beyond_cap > 0 || self.bytes + record as u64 > self.cap {
            self.beyond_cap += 1;
            return;
        }
        if self.batch.records.len() + record > BATCH {
            self.flush();
        }
        // Not flushed, so the writer is behind.
        if self.batch.records.len() + record > BATCH {
            self.missed += 1;
            return;
        }
        if self.batch.records.capacity() == 0 {
            self.batch.records = self.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        }
        let seconds = u32::try_from(at.as_second()).unwrap_or_default();
        let nanos = u32::try_from(at.subsec_nanosecond()).unwrap_or_default();
        let length = frame.len() as u32;
        for word in [seconds, nanos, length, length] {
            self.batch.records.extend_from_slice(&word.to_le_bytes());
        }
        self.batch.records.extend_from_slice(frame);
        self.batch.frames += 1;
        self.frames += 1;
        self.bytes += record as u64;
    }

    /// Whether something waits to be handed over.
    pub fn is_dirty(&self) -> bool {
        self.batch.frames > 0
    }

    /// Hands over what there is, unless the writer is behind.
    pub fn flush(&mut self) {
        let Some(writer) = self.writer.as_ref().filter(|_| self.batch.frames > 0) else { return };
        match writer.try_send(std::mem::take(&mut self.batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => self.batch = batch,
            Err(TrySendError::Disconnected(batch)) => self.lose(&batch),
        }
    }

    /// Hands over what there is. The channel closes once it is in the file; `None` while the writer is behind.
    pub fn flush_and_tell(&mut self) -> Option<Receiver<()>> {
        let (tell, told) = channel();
        let batch = Batch { waited_for: Some(tell), ..std::mem::take(&mut self.batch) };
        match self.writer.as_ref().map(|writer| writer.try_send(batch)) {
            Some(Err(TrySendError::Full(batch))) => {
                self.batch = Batch { waited_for: None, ..batch };
                return None;
            }
            Some(Err(TrySendError::Disconnected(batch))) => self.lose(&batch),
            Some(Ok(())) | None => {}
        }
        Some(told)
    }

    /// Hands over what there is, waiting for the writer until then, and lets the writer end.
    pub fn finish(&mut self, deadline: Instant) {
        self.flush();
        while self.batch.frames > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            // A batch comes back when another was written: then there is room.
            if self.emptied.recv_timeout(left).is_err() {
                break;
            }
            self.flush();
        }
        let left = std::mem::take(&mut self.batch);
        self.lose(&left);
        self.writer = None;
    }

    fn lose(&mut self, batch: &Batch) {
        self.frames -= batch.frames;
        self.bytes -= batch.records.len() as u64;
        self.missed += batch.frames;
    }

    /// What was taken so far, with what the writer said if it has ended.
    pub fn stats(&self, written: Option<&Written>) -> CaptureStats {
        let lost = written.map_or(0, |written| written.lost);
        let on_disk = written.and_then(|_| fs::metadata(&self.file).ok()).map(|meta| meta.len());
        CaptureStats {
            file: self.file.clone(),
            frames: self.frames - lost,
            bytes: on_disk.unwrap_or(self.bytes),
            beyond_cap: self.beyond_cap,
            missed: self.missed + lost,
            error: written.and_then(|written| written.error.clone()),
        }
    }
}

impl Written {
    /// What is known of a writer that did not end in time.
    pub fn unknown(waited: Duration) -> Self {
        Self { lost: 0, error: Some(format!("the last of it was not written within {waited:?}: the file may be short")) }
    }
}

impl Writer {
    /// Writes until the recorder has finished. After an error it only counts.
    pub fn run(mut self) -> Written {
        let mut written = Written::default();
        let mut whole = FILE_HEADER as u64;
        for Batch { mut records, frames, waited_for } in self.batches {
            if written.error.is_none() {
                match self.file.write_all(&records) {
                    Ok(()) => whole += records.len() as u64,
                    Err(error) => {
                        written.error = Some(error.to_string());
                        // Half a record at the end would make readers complain.
                        let _ = self.file.set_len(whole);
                    }
                }
            }
            if written.error.is_some() {
                written.lost += frames;
            }
            drop(waited_for);
            records.clear();
            let _ = self.emptied.send(records);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 1000] = [2; 1000];

    fn begun() -> (tempfile::TempDir, Recorder, Writer) {
        let folder = tempfile::tempdir().expect("a folder");
        let (recorder, writer) = begin(&folder.path().join("lan.pcap"), 1 << 30).expect("a capture");
        (folder, recorder, writer)
    }

    fn record(recorder: &mut Recorder, frames: usize) {
        (0..frames).for_each(|_| recorder.record(Timestamp::UNIX_EPOCH, &FRAME));
    }

    #[test]
    fn a_disk_that_is_full_ends_the_capture_and_is_told() {
        let (_folder, mut recorder, mut writer) = begun();
        writer.file = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        record(&mut recorder, 300);
        let end = std::thread::spawn(|| writer.run());
        recorder.finish(Instant::now() + Duration::from_secs(30));
        let stats = recorder.stats(Some(&end.join().expect("the writer ends")));
        assert_eq!((stats.frames, stats.missed, stats.bytes), (0, 300, FILE_HEADER as u64));
        assert!(stats.error.is_some_and(|error| error.contains("No space left")));
    }

    #[test]
    fn a_writer_that_is_stuck_costs_frames_but_neither_memory_nor_time() {
        let (_folder, mut recorder, _writer) = begun();
        let fit = (WAITING + 1) * (BATCH / (RECORD_HEADER + FRAME.len()));
        record(&mut recorder, fit + 50);
        let stats = recorder.stats(None);
        assert_eq!((stats.frames, stats.missed), (fit as u64, 50));
        recorder.finish(Instant::now());
        assert_eq!(recorder.stats(None).missed, 50 + (fit / (WAITING + 1)) as u64);
    }
}
