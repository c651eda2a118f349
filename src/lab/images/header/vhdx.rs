//! Whether a VHDX file holds all that its tables say it holds. Names and numbers from [MS-VHDX] 2.1 to 2.6.
//!
//! QEMU itself refuses a VHDX that has a parent, and there is no other way for one to name a file.

use std::fs::File;
use std::io;

use super::{Objection, array, le16, le32, le64, objection, read_at};

/// The first of the two region tables.
const REGION_TABLE: u64 = 192 * 1024;
const MIB: u64 = 1 << 20;
/// GUIDs in their bytes on disk: the block allocation table, the metadata region, and in it the file parameters.
const BAT: [u8; 16] = [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08];
const METADATA: [u8; 16] = [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
const FILE_PARAMETERS: [u8; 16] = [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
/// States of a block that is in the file.
const FULLY_PRESENT: u64 = 6;
const PARTIALLY_PRESENT: u64 = 7;
/// A table for 64 TiB in blocks of 1 MiB, the largest there is.
const LARGEST_TABLE: u64 = 513 * MIB;

pub(super) fn objections(file: &mut File, size: u64) -> io::Result<Option<Objection>> {
    let table = read_at(file, REGION_TABLE, 64 * 1024)?;
    if !table.starts_with(b"regi") {
        return Ok(objection("a VHDX region table", "none: the file is truncated or damaged"));
    }
    let count = le32(&table, 8).unwrap_or(0).min(2047) as usize;
    let region = |wanted: [u8; 16]| {
        let entry = (0..count).map(|slot| 16 + slot * 32).find(|at| array(&table, *at) == Some(wanted))?;
        Some((le64(&table, entry + 16)?, u64::from(le32(&table, entry + 24)?)))
    };
    let (Some((bat, bat_length)), Some((metadata, _))) = (region(BAT), region(METADATA)) else {
        return Ok(objection("a VHDX with a block table and metadata", "one without"));
    };
    let Some(block) = block_size(file, metadata)? else {
        return Ok(objection("the block size among a VHDX's metadata", "none"));
    };
    let mut end = bat.saturating_add(bat_length);
    if bat_length <= LARGEST_TABLE && end <= size {
        for entry in read_at(file, bat, bat_length)?.chunks_exact(8) {
            let entry = le64(entry, 0).unwrap_or(0);
            if matches!(entry & 7, FULLY_PRESENT | PARTIALLY_PRESENT) {
                // Sector bitmaps share the table and take 1 MiB; a bitmap is never the last thing in a file without a parent.
                end = end.max((entry & !(MIB - 1)).saturating_add(block));
            }
        }
    }
    if end > size {
        return Ok(objection(format!("at least {end} bytes, as its block table says"), format!("{size} bytes: the file is truncated")));
    }
    Ok(None)
}

fn block_size(file: &mut File, metadata: u64) -> io::Result<Option<u64>> {
    let table = read_at(file, metadata, 64 * 1024)?;
    let count = le16(&table, 10).unwrap_or(0).min(2047) as usize;
    let entry = (0..count).map(|slot| 32 + slot * 32).find(|at| array(&table, *at) == Some(FILE_PARAMETERS));
    let Some(offset) = entry.and_then(|entry| le32(&table, entry + 16)) else { return Ok(None) };
    let parameters = read_at(file, metadata.saturating_add(u64::from(offset)), 8)?;
    Ok(le32(&parameters, 0).map(u64::from))
}
