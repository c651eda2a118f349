//! Reads the first bytes of a disk file that someone else made, before any tool opens it.
//!
//! A disk file can name other files, and the tools would follow: a qcow2 header names a backing file or an external data file, a VMDK
//! descriptor names extents and a parent. So a host's file could be read through an "image". What names anything is refused here.
//!
//! A truncated file can also look whole to the tools: they read zeros beyond its end. So what the header says of the length is held
//! against the length.
//!
//! Offsets: qcow2 from QEMU's docs/interop/qcow2.txt, VMDK from VMware's "Virtual Disk Format 5.0", VHDX from [MS-VHDX].

mod vhdx;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::catalog::image::DiskFormat;

/// Why a file is refused: what was expected, what was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Objection {
    pub expected: String,
    pub found: String,
}

fn objection(expected: impl Into<String>, found: impl Into<String>) -> Option<Objection> {
    Some(Objection { expected: expected.into(), found: found.into() })
}

const QCOW2: &[u8] = b"QFI\xfb";
const VMDK_SPARSE: &[u8] = b"KDMV";
const VMDK_COWD: &[u8] = b"COWD";
const VMDK_TEXT: &[u8] = b"# Disk DescriptorFile";
const VHDX: &[u8] = b"vhdxfile";

/// Of a qcow2's incompatible features the lab takes: dirty, corrupt (left to the check), compression type, extended L2.
const QCOW2_KNOWN: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4;
const QCOW2_EXTERNAL_DATA: u64 = 1 << 2;
const QCOW2_DATA_FILE_NAME: u32 = 0x4441_5441;
const QCOW2_BACKING_FORMAT: u32 = 0xe279_2aca;
const SECTOR: u64 = 512;
/// Headers are small. More is not read.
const HEAD: u64 = 64 * 1024;

/// What speaks against opening this file as this format; `None` when nothing does.
pub(super) fn objections(file: &mut File, format: DiskFormat) -> io::Result<Option<Objection>> {
    let size = file.seek(SeekFrom::End(0))?;
    let head = read_at(file, 0, HEAD)?;
    if size == 0 {
        return Ok(objection("a disk", "an empty file"));
    }
    let is = found_format(&head);
    if is != Some(format) && (is.is_some() || format != DiskFormat::Raw) {
        let found = is.map_or("something else".to_owned(), |is| format!("a {} file", is.as_str()));
        return Ok(objection(format!("a {} file, as image.toml says", format.as_str()), found));
    }
    match format {
        DiskFormat::Qcow2 => Ok(qcow2(&head, size)),
        DiskFormat::Vmdk => vmdk(file, &head, size),
        DiskFormat::Vhdx => vhdx::objections(file, size),
        DiskFormat::Raw => raw(file, &head, size),
    }
}

/// How large the disk of a qcow2 is for its guest.
pub(super) fn guest_size(file: &mut File) -> io::Result<u64> {
    let head = read_at(file, 0, 32)?;
    match head.get(24..32).map(<[u8; 8]>::try_from) {
        Some(Ok(size)) if head.starts_with(QCOW2) => Ok(u64::from_be_bytes(size)),
        _ => Err(io::Error::other("expected a qcow2 file, found something else")),
    }
}

fn found_format(head: &[u8]) -> Option<DiskFormat> {
    if head.starts_with(QCOW2) {
        Some(DiskFormat::Qcow2)
    } else if [VMDK_SPARSE, VMDK_COWD, VMDK_TEXT].iter().any(|magic| head.starts_with(magic)) {
        Some(DiskFormat::Vmdk)
    } else if head.starts_with(VHDX) {
        Some(DiskFormat::Vhdx)
    } else {
        None
    }
}

fn qcow2(head: &[u8], size: u64) -> Option<Objection> {
    let whole = || objection("a whole qcow2 header", "a truncated one");
    let (Some(version), Some(backing), Some(crypt)) = (be32(head, 4), be64(head, 8), be32(head, 32)) else { return whole() };
    if !(2..=3).contains(&version) {
        return objection("qcow2 version 2 or 3", format!("version {version}"));
    }
    if backing != 0 {
        return objection("a disk that stands alone", "a backing file");
    }
    if crypt != 0 {
        return objection("a disk that is not encrypted", format!("encryption method {crypt}"));
    }
    let (Some(bits), Some(entries), Some(table)) = (be32(head, 20), be32(head, 36), be64(head, 40)) else { return whole() };
    let (Some(counts), Some(clusters)) = (be64(head, 48), be32(head, 56)) else { return whole() };
    if !(9..=21).contains(&bits) {
        return objection("clusters of 512 bytes to 2 MiB", format!("cluster bits {bits}"));
    }
    let tables = [(table, u64::from(entries) * 8), (counts, u64::from(clusters) << bits)];
    if let Some(end) = tables.iter().map(|(at, length)| at.saturating_add(*length)).max().filter(|end| *end > size) {
        return objection("its tables within the file", format!("one that ends at byte {end} of {size}: the file is truncated"));
    }
    if version == 2 {
        return None;
    }
    let (Some(features), Some(length)) = (be64(head, 72), be32(head, 100)) else { return whole() };
    if features & QCOW2_EXTERNAL_DATA != 0 {
        return objection("a disk that stands alone", "an external data file");
    }
    if features & !QCOW2_KNOWN != 0 {
        return objection("features that the lab knows", format!("incompatible features {features:#x}"));
    }
    // Header extensions: type, length, data padded to 8, up to type 0.
    let mut at = length as usize;
    loop {
        let (Some(kind), Some(length)) = (be32(head, at), be32(head, at.saturating_add(4))) else { return whole() };
        match kind {
            0 => return None,
            QCOW2_DATA_FILE_NAME => return objection("a disk that stands alone", "the name of an external data file"),
            QCOW2_BACKING_FORMAT => return objection("a disk that stands alone", "the format of a backing file"),
            _ => at = at.saturating_add(8).saturating_add((length as usize).div_ceil(8).saturating_mul(8)),
        }
    }
}

fn vmdk(file: &mut File, head: &[u8], size: u64) -> io::Result<Option<Objection>> {
    if !head.starts_with(VMDK_SPARSE) {
        return Ok(objection("a VMDK that stands alone (monolithicSparse or streamOptimized)", "a descriptor that names other files"));
    }
    let (Some(capacity), Some(at), Some(sectors)) = (le64(head, 12), le64(head, 28), le64(head, 36)) else {
        return Ok(objection("a whole VMDK header", "a truncated one"));
    };
    if capacity == 0 {
        return Ok(objection("a VMDK that holds its own disk", "a descriptor that names other files"));
    }
    let end = at.saturating_add(sectors).saturating_mul(SECTOR);
    if end > size || sectors.saturating_mul(SECTOR) > HEAD * 16 {
        return Ok(objection("a VMDK descriptor within the file", format!("one that ends at byte {end} of {size}")));
    }
    let text = read_at(file, at.saturating_mul(SECTOR), sectors * SECTOR)?;
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| {
        let line = text.lines().map(str::trim).find(|line| line.to_ascii_lowercase().starts_with(&key.to_ascii_lowercase()))?;
        line.split_once('=').map(|(_, value)| value.trim().trim_matches('"').to_owned())
    };
    if value("parentFileNameHint").is_some() || value("parentCID").is_some_and(|parent| !parent.eq_ignore_ascii_case("ffffffff")) {
        return Ok(objection("a disk that stands alone", "a parent disk"));
    }
    match value("createType").as_deref() {
        Some("monolithicSparse" | "streamOptimized") => Ok(None),
        other => Ok(objection("a VMDK of type monolithicSparse or streamOptimized", other.unwrap_or("no type").to_owned())),
    }
}

/// A raw disk says nothing of its own length, but its partition table does.
fn raw(file: &mut File, head: &[u8], size: u64) -> io::Result<Option<Objection>> {
    if !size.is_multiple_of(SECTOR) {
        return Ok(objection("a raw disk of whole sectors of 512 bytes", format!("{size} bytes: it may be truncated")));
    }
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return Ok(None);
    }
    let partitions = (0..4).filter_map(|slot| {
        let entry = 446 + slot * 16;
        let (start, sectors) = (le32(head, entry + 8)?, le32(head, entry + 12)?);
        // A protective entry (0xee) may claim all there can be; GPT's own header says where it ends.
        (head.get(entry + 4) != Some(&0) && head.get(entry + 4) != Some(&0xee)).then_some(u64::from(start) + u64::from(sectors))
    });
    let mut end = partitions.max().unwrap_or(0);
    let gpt = read_at(file, SECTOR, SECTOR)?;
    if gpt.starts_with(b"EFI PART") {
        // The other header is in the disk's last sector.
        end = end.max(le64(&gpt, 32).unwrap_or(0).saturating_add(1));
    }
    let needed = end.saturating_mul(SECTOR);
    if needed > size {
        return Ok(objection(format!("at least {needed} bytes, as its partition table says"), format!("{size} bytes: it is truncated")));
    }
    Ok(None)
}

fn read_at(file: &mut File, offset: u64, most: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}
