//! libvirt's file of a saved machine, as far as the lab has to change it: which machine it is, not what is in its memory. Pure but for
//! the copying.
//!
//! ```text
//! 92 bytes of header | definition, 0 | cookie, 0 | padding | QEMU's stream to the end of the file
//! ```
//! Source: `virQEMUSaveHeader` in libvirt's `src/qemu/qemu_saveimage.h` (version 2). Numbers are in the byte order of the host that wrote
//! them; the lab uses such a file on no other.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const MAGIC: &[u8; 16] = b"LibvirtQemudSave";
const VERSION: u32 = 2;
const HEADER: usize = 92;
/// Where the numbers stand in the header.
const AT_VERSION: usize = 16;
const AT_LENGTH: usize = 20;
const AT_COMPRESSED: usize = 28;
const AT_COOKIE: usize = 32;
/// More than any definition and cookie need.
const LONGEST: u32 = 16 << 20;

/// What stands before the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Preamble {
    header: [u8; HEADER],
    /// Definition, cookie and padding.
    data: Vec<u8>,
}

impl Preamble {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).map_err(|error| bad(format!("it has no whole header ({error})")))?;
        if !header.starts_with(MAGIC) {
            return Err(bad("it does not begin as libvirt's saved machines do".to_owned()));
        }
        let (version, length, compressed) = (number(&header, AT_VERSION), number(&header, AT_LENGTH), number(&header, AT_COMPRESSED));
        if version != VERSION || compressed != 0 {
            return Err(bad(format!("its format is {version}, compression {compressed}: expected {VERSION} and 0")));
        }
        if length == 0 || length > LONGEST || number(&header, AT_COOKIE) > length {
            return Err(bad(format!("its definition is said to take {length} bytes")));
        }
        let mut data = vec![0; length as usize];
        from.read_exact(&mut data).map_err(|error| bad(format!("it ends within its definition ({error})")))?;
        Ok(Self { header, data })
    }

    /// The same for another machine.
    fn of(&self, definition: &str) -> io::Result<Self> {
        // What follows the cookie is padding: room for a longer definition.
        let cookie: &[u8] = match number(&self.header, AT_COOKIE) {
            0 => &[],
            at => self.data.get(at as usize..).and_then(|rest| rest.split_inclusive(|byte| *byte == 0).next()).unwrap_or_default(),
        };
        let mut data = definition.as_bytes().to_vec();
        data.push(0);
        let at = data.len();
        data.extend(cookie);
        let fits = |length: usize| u32::try_from(length).ok().filter(|length| *length <= LONGEST);
        let (Some(at), Some(length)) = (fits(at), fits(data.len())) else {
            return Err(bad("the machine's definition is too long for it".to_owned()));
        };
        let mut header = self.header;
        header[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_ne_bytes());
        let at = if cookie.is_empty() { 0 } else { at };
        header[AT_COOKIE..AT_COOKIE + 4].copy_from_slice(&at.to_ne_bytes());
        Ok(Self { header, data })
    }
}

/// A file of a saved machine, as another machine's.
pub struct Resumed {
    is: Preamble,
    stream: File,
    /// The bytes before the memory in the file.
    room: usize,
}

impl Resumed {
    /// Opens the file `from`, for the machine of this definition.
    ///
    /// # Errors
    /// The disk's, and what is wrong with `from`.
    pub fn open(definition: &str, from: &Path) -> io::Result<Self> {
        let mut stream = File::open(from)?;
        let was = Preamble::read(&mut stream)?;
        let is = was.of(definition)?;
        let room = HEADER + was.data.len();
        if stream.metadata()?.len() <= room as u64 {
            return Err(bad("no memory follows its definition".to_owned()));
        }
        stream.seek(SeekFrom::Start(room as u64))?;
        Ok(Self { is, stream, room })
    }

    /// What stands before the memory, as long as it was, to be written over it.
    ///
    /// # Errors
    /// The definition is too long for that. libvirt leaves at least 1 KiB for it to grow.
    pub fn in_place(self) -> io::Result<Vec<u8>> {
        let mut written = [self.is.header.as_slice(), &self.is.data].concat();
        if written.len() > self.room {
            return Err(bad(format!("the machine's definition takes {} bytes too many", written.len() - self.room)));
        }
        written.resize(self.room, 0);
        let length = u32::try_from(self.room - HEADER).map_err(io::Error::other)?;
        written[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_ne_bytes());
        Ok(written)
    }

    /// Hands it all on. Into a pipe, the memory goes without being copied.
    ///
    /// # Errors
    /// Those of either side.
    pub fn write(mut self, to: &mut File) -> io::Result<()> {
        to.write_all(&self.is.header)?;
        to.write_all(&self.is.data)?;
        io::copy(&mut self.stream, to).map(drop)
    }
}

fn number(header: &[u8; HEADER], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_ne_bytes(bytes)
}

fn bad(found: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(definition: &str, cookie: &str, stream: &[u8]) -> Vec<u8> {
        let mut header = [0; HEADER];
        header[..16].copy_from_slice(MAGIC);
        let mut data = [definition.as_bytes(), &[0], cookie.as_bytes(), &[0]].concat();
        data.resize(data.len() + 100, 0);
        for (at, value) in [(AT_VERSION, 2), (AT_LENGTH, data.len()), (AT_COOKIE, definition.len() + 1)] {
            header[at..at + 4].copy_from_slice(&u32::try_from(value).expect("small").to_ne_bytes());
        }
        [header.as_slice(), &data, stream].concat()
    }

    fn copied(bytes: &[u8], definition: &str) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, bytes).expect("written");
        Resumed::open(definition, &from)?.write(&mut File::create(&to)?)?;
        std::fs::read(&to)
    }

    #[test]
    fn another_machine_gets_the_same_cookie_and_memory() {
        for definition in ["<d/>", &"<much-longer-than-before/>".repeat(50)] {
            let copy = copied(&saved("<domain/>", "<cookie/>", b"QEVM and so on"), definition).expect("copied");
            let read = Preamble::read(&mut copy.as_slice()).expect("readable");
            let cookie = number(&read.header, AT_COOKIE) as usize;
            assert_eq!(&read.data[..cookie], format!("{definition}\0").as_bytes());
            assert!(read.data[cookie..].starts_with(b"<cookie/>\0"));
            assert_eq!(&copy[HEADER + read.data.len()..], b"QEVM and so on");
        }
    }

    #[test]
    fn in_place_the_memory_stays_where_it_is() {
        let whole = saved("<domain/>", "<cookie/>", b"QEVM and so on");
        let folder = tempfile::tempdir().expect("a folder");
        let from = folder.path().join("from");
        std::fs::write(&from, &whole).expect("written");
        let in_place = |definition: &str| Resumed::open(definition, &from)?.in_place();
        let written = in_place("<a-longer-one/>").expect("there is room");
        let mut changed = whole.clone();
        changed[..written.len()].copy_from_slice(&written);
        assert_eq!((changed.len(), &changed[written.len()..]), (whole.len(), &b"QEVM and so on"[..]));
        let read = Preamble::read(&mut changed.as_slice()).expect("readable");
        let cookie = number(&read.header, AT_COOKIE) as usize;
        assert!(read.data.starts_with(b"<a-longer-one/>\0") && read.data[cookie..].starts_with(b"<cookie/>\0"));
        let refused = in_place(&"<too-long/>".repeat(20)).expect_err("there is no room");
        assert!(refused.to_string().contains("bytes too many"), "{refused}");
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let whole = saved("<domain/>", "<cookie/>", b"QEVM");
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        let ends = HEADER + number(whole[..HEADER].try_into().expect("a header"), AT_LENGTH) as usize;
        for (bytes, found) in [
            (Vec::new(), "no whole header"),
            (whole[..50].to_vec(), "no whole header"),
            (whole[..ends - 1].to_vec(), "within its definition"),
            (whole[..ends].to_vec(), "no memory"),
            (with(0, b'l'), "does not begin"),
            (with(AT_VERSION, 3), "format is 3"),
            (with(AT_COMPRESSED, 1), "compression 1"),
            (with(AT_LENGTH + 3, 0x7f), "is said to take"),
            (with(AT_COOKIE + 2, 0x7f), "is said to take"),
        ] {
            let error = copied(&bytes, "<d/>").expect_err("refused");
            assert!(error.to_string().contains(found), "{error}: no {found}");
        }
    }
}
