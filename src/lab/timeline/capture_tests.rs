use std::fs;

use super::*;

/// A capture of these frames, one a second from the start of the epoch on.
fn capture(frames: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let mut bytes = [&0xa1b2_3c4d_u32.to_le_bytes()[..], &[2, 0, 4, 0], &[0; 8], &[0, 0x24, 0, 0], &[1, 0, 0, 0]].concat();
    for (second, frame) in frames.iter().enumerate() {
        for word in [second as u32, 500, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), bytes).expect("written");
    file
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(second, 500).expect("a moment")
}

fn window(from: i64, to: i64) -> Window {
    Window { from: at(from), to: at(to) }
}

fn syn(port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let built = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(port, 80, 1, 1).syn();
    built.write(&mut frame, &[]).expect("memory takes it");
    frame
}

fn read(file: &Path, offset: u64, windows: &[Window]) -> (Vec<Told>, u64) {
    lines(file, offset, windows, &Names::default()).expect("read")
}

#[test]
fn each_window_has_its_frames_and_what_is_sent_again_is_one_line() {
    let file = capture(&[syn(1), syn(2), syn(2), syn(2), syn(3)]);
    let (told, end) = read(file.path(), 0, &[window(0, 0), window(1, 3)]);
    let ends: Vec<Vec<_>> =
        told.iter().map(|lines| lines.iter().map(|(stamp, line)| (*stamp, &line[line.len() - 14..])).collect()).collect();
    assert_eq!(ends, [vec![(at(0), "TCP 1 > 80 SYN")], vec![(at(1), "(sent 3 times)")]]);
    assert_eq!(end, fs::metadata(file.path()).expect("a size").len());
    assert_eq!(read(file.path(), end, &[window(0, 9)]), (vec![Vec::new()], end), "nothing is read twice");
}

#[test]
fn a_record_that_is_half_written_waits_for_the_next_time() {
    let file = capture(&[syn(1), syn(2)]);
    let whole = fs::read(file.path()).expect("read");
    let first = FILE_HEADER + RECORD_HEADER + syn(1).len();
    for cut in [first + 3, first + RECORD_HEADER + 5] {
        fs::write(file.path(), &whole[..cut]).expect("cut");
        let (told, end) = read(file.path(), 0, &[window(0, 9)]);
        assert_eq!((told[0].len(), end), (1, first as u64), "{cut}");
    }
    fs::write(file.path(), &whole).expect("whole");
    assert_eq!(read(file.path(), first as u64, &[window(0, 9)]).0[0].len(), 1);
}

#[test]
fn a_flood_is_shown_by_its_ends() {
    let file = capture(&(0..1000).map(syn).collect::<Vec<_>>());
    let (told, _) = read(file.path(), 0, &[window(0, 2000)]);
    let lines: Vec<_> = told[0].iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines.len(), 2 * LINES + 1);
    assert!(lines[0].ends_with("TCP 0 > 80 SYN") && lines[2 * LINES].ends_with("TCP 999 > 80 SYN"));
    assert_eq!(lines[LINES], "[... 700 frames left out here: 700 TCP; the capture has them ...]");
    // What is sent again after its first line has given way is a line of its own.
    let again = capture(&(0..1000).chain([500, 999]).map(syn).collect::<Vec<_>>());
    let (told, _) = read(again.path(), 0, &[window(0, 2000)]);
    let last: Vec<_> = told[0].iter().rev().take(2).map(|(_, line)| line.as_str()).collect();
    assert!(last[0].ends_with("TCP 500 > 80 SYN") && last[1].ends_with("TCP 999 > 80 SYN (sent 2 times)"), "{last:?}");
}

#[test]
fn pieces_are_captures() {
    let frames: Vec<_> = (0..10).map(syn).collect();
    let file = capture(&frames);
    let (all, whole) = piece(file.path(), None, 1 << 20).expect("read");
    assert_eq!((all, whole), (fs::read(file.path()).expect("read"), true));
    let each = RECORD_HEADER + syn(0).len();
    let (cut, whole) = piece(file.path(), None, FILE_HEADER + 2 * each + 5).expect("read");
    assert_eq!((cut.len(), whole), (FILE_HEADER + 2 * each, false));
    let (part, whole) = piece(file.path(), Some(window(3, 4)), 1 << 20).expect("read");
    assert_eq!((part.len(), whole), (FILE_HEADER + 2 * each, true));
    fs::write(file.path(), part).expect("written");
    let (told, _) = read(file.path(), 0, &[window(0, 9)]);
    assert!(told[0][0].1.ends_with("TCP 3 > 80 SYN") && told[0].len() == 2);
}

#[test]
fn what_is_no_capture_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for bytes in [&b""[..], b"short", &[7; 100]] {
        fs::write(file.path(), bytes).expect("written");
        assert!(lines(file.path(), 0, &[], &Names::default()).is_err(), "{bytes:?}");
    }
}
