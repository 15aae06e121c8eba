//! Where the records of a zip archive lie, for archives whose records are stored as they are, as `torch.save` writes them.
//!
//! The `zip` crate is not used for this: it reads from a stream, while tensors here are parts of a mapped file, and the
//! table that it makes of a hostile archive is hundreds of times as large as the archive. This table takes a small
//! multiple of the directory's own bytes.
//!
//! Does not: check CRC-32s, which would read the whole file (and which torch can be told not to write); read archives in
//! parts, encrypted or compressed records.

use std::collections::BTreeMap;
use std::ops::Range;

/// Signatures of the structures.
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// Lengths of the structures without names and the like.
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const LOCATOR_64_BYTES: usize = 20;
/// The longest comment behind the end record.
const LONGEST_COMMENT: usize = u16::MAX as usize;
/// What 32 bits hold when the number is in a field of zip64.
const ELSEWHERE: u32 = u32::MAX;
/// The extra field of zip64.
const ZIP64_FIELD: u16 = 1;

/// Names of records to their bytes in the archive.
pub(super) type Directory<'a> = BTreeMap<&'a str, Range<usize>>;

/// True if `bytes` begin as an archive does.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    u32_at(bytes, 0) == Some(LOCAL)
}

/// The records of the archive `bytes`.
///
/// # Errors
/// What is wrong, as a clause: archives that are cut off, damaged, compressed or encrypted.
pub(super) fn read(bytes: &[u8]) -> Result<Directory<'_>, String> {
    let (mut at, count) = central_directory(bytes).ok_or(
        "it has no directory at its end, where a zip archive has it: it is truncated, or was changed",
    )?;
    let mut directory = Directory::new();
    for index in 0..count {
        let header = central_header(bytes, at)
            .ok_or_else(|| format!("its directory is damaged at record {index} of {count} (byte {at})"))?;
        if header.is_encoded {
            return Err(format!(
                "its record `{}` is compressed or encrypted; torch.save stores records as they are",
                header.name
            ));
        }
        let data = data_range(bytes, &header).ok_or_else(|| {
            format!("its record `{}` does not lie inside of the file, or has no header there", header.name)
        })?;
        if directory.insert(header.name, data).is_some() {
            return Err(format!("it has two records `{}`", header.name));
        }
        at = header.end;
    }
    Ok(directory)
}

/// Where the headers begin, and how many there are.
fn central_directory(bytes: &[u8]) -> Option<(usize, u64)> {
    let last = bytes.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(LONGEST_COMMENT);
    let is_end = |at: &usize| {
        let comment = u16_at(bytes, at + 20).map(usize::from);
        u32_at(bytes, *at) == Some(END) && comment == Some(last - at)
    };
    let end = (first..=last).rev().find(is_end)?;
    let (mut count, mut offset) = (u16_at(bytes, end + 10)?.into(), u32_at(bytes, end + 16)?.into());
    let locator = end.checked_sub(LOCATOR_64_BYTES).filter(|&at| u32_at(bytes, at) == Some(LOCATOR_64));
    if let Some(locator) = locator {
        let end = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
        if u32_at(bytes, end)? != END_64 {
            return None;
        }
        (count, offset) = (u64_at(bytes, end.checked_add(32)?)?, u64_at(bytes, end.checked_add(48)?)?);
    }
    Some((usize::try_from(offset).ok()?, count))
}

/// What the directory says about a record.
struct Header<'a> {
    name: &'a str,
    is_encoded: bool,
    /// Bytes of data.
    size: u64,
    /// Where its local header is.
    offset: u64,
    /// Where the next one begins.
    end: usize,
}

fn central_header(bytes: &[u8], at: usize) -> Option<Header<'_>> {
    let header = bytes.get(at..at.checked_add(CENTRAL_BYTES)?)?;
    if u32_at(header, 0)? != CENTRAL {
        return None;
    }
    let (flags, method) = (u16_at(header, 8)?, u16_at(header, 10)?);
    let [name, extra, comment] = [28, 30, 32].map(|field| u16_at(header, field).map(usize::from));
    let name_start = at + CENTRAL_BYTES;
    let extra_start = name_start + name?;
    let end = extra_start + extra? + comment?;
    let name = std::str::from_utf8(bytes.get(name_start..extra_start)?).ok()?;
    let mut zip64 = zip64_numbers(bytes.get(extra_start..extra_start + extra?)?);
    // In this order, each only if its field says that it is elsewhere.
    let mut number = |field: usize| match u32_at(header, field)? {
        ELSEWHERE => zip64.next(),
        small => Some(u64::from(small)),
    };
    let (size, stored, offset) = (number(24)?, number(20)?, number(42)?);
    let is_encoded = flags & 1 != 0 || method != 0 || size != stored;
    Some(Header { name, is_encoded, size, offset, end })
}

/// The numbers in the extra field of zip64; none if there is no such field.
fn zip64_numbers(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut found: &[u8] = &[];
    while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(field) = extra.get(4..4 + usize::from(length)) else { break };
        if id == ZIP64_FIELD {
            found = field;
        }
        extra = &extra[4 + field.len()..];
    }
    found.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Where the data are: behind the local header, whose name and extra field have lengths of their own.
fn data_range(bytes: &[u8], header: &Header<'_>) -> Option<Range<usize>> {
    let at = usize::try_from(header.offset).ok()?;
    let local = bytes.get(at..at.checked_add(LOCAL_BYTES)?)?;
    if u32_at(local, 0)? != LOCAL {
        return None;
    }
    let start = at + LOCAL_BYTES + usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
    let end = start.checked_add(usize::try_from(header.size).ok()?)?;
    bytes.get(start..end).map(|_| start..end)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::CompressionMethod;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    /// An archive as another writer makes it.
    fn archive(options: SimpleFileOptions, comment: &str) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, data) in [("a/data.pkl", "pickle"), ("a/data/0", "0123456789"), ("a/empty", "")] {
            writer.start_file(name, options).unwrap();
            writer.write_all(data.as_bytes()).unwrap();
        }
        writer.set_comment(comment).unwrap();
        writer.finish().unwrap().into_inner()
    }

    fn stored() -> SimpleFileOptions {
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
    }

    #[test]
    fn records_of_another_writer_are_found() {
        for (options, comment) in [
            (stored(), ""),
            (stored(), "a comment of some length"),
            (stored().large_file(true), ""),
            (stored().with_alignment(64), ""),
        ] {
            let bytes = archive(options, comment);
            assert!(is_zip(&bytes));
            let found = read(&bytes).unwrap();
            let data = |name: &str| &bytes[found[name].clone()];
            assert_eq!(found.len(), 3);
            assert_eq!(
                (data("a/data.pkl"), data("a/data/0"), data("a/empty")),
                (&b"pickle"[..], &b"0123456789"[..], &b""[..])
            );
        }
    }

    #[test]
    fn compressed_records_are_refused() {
        let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let message = read(&archive(deflated, "")).unwrap_err();
        assert!(message.contains("record `a/data.pkl` is compressed or encrypted"), "{message}");
    }

    #[test]
    fn every_truncation_is_noticed() {
        let whole = archive(stored(), "");
        for length in 0..whole.len() {
            let message = read(&whole[..length]).unwrap_err();
            assert!(message.contains("truncated"), "{length}: {message}");
        }
    }

    #[test]
    fn a_directory_that_lies_is_refused() {
        let whole = archive(stored(), "");
        let (start, _) = central_directory(&whole).unwrap();
        let message = |at: usize, to: &[u8]| {
            let mut bytes = whole.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            read(&bytes).unwrap_err()
        };
        assert!(message(start, b"x").contains("damaged at record 0 of 3"));
        assert!(message(start + 42, &[0xf0, 0xff, 0xff, 0x7f]).contains("does not lie inside"));
        assert!(message(start + 42, &[1]).contains("has no header there"));
        let sizes = [0xff, 0xff, 0xff, 0x7f].repeat(2);
        assert!(message(start + 20, &sizes).contains("does not lie inside"));
        assert!(message(start + 20, &[9]).contains("compressed"));
        assert!(message(start + 46, b"\xff").contains("damaged"));
        // More records than there are.
        assert!(message(whole.len() - 12, &[0xff, 0xff]).contains("damaged at record 3 of 65535"));
    }

    #[test]
    fn two_records_of_one_name_are_refused() {
        let mut bytes = archive(stored(), "");
        let name = bytes.windows(8).rposition(|window| window == b"a/data/0").unwrap();
        // The directory has 10 + 46 bytes between the names of the first two records; both get names of 8 bytes.
        bytes[name..name + 8].copy_from_slice(b"a/data.p");
        let first = name - CENTRAL_BYTES - 10;
        bytes[first - 18..first - 16].copy_from_slice(&[8, 0]); // its name has 8 bytes,
        bytes[first - 16..first - 14].copy_from_slice(&[2, 0]); // and the rest is its extra field
        let message = read(&bytes).unwrap_err();
        assert_eq!(message, "it has two records `a/data.p`");
    }
}
