//! Large reads of a file that leave nothing behind in the page cache.
//!
//! Where the file system takes it, the file is read past the cache (`O_DIRECT`): offsets, lengths and the buffer are then
//! aligned to 4 KiB, so what is asked for is read with what surrounds it. Elsewhere it is read as files are, and the
//! cache is told to forget what was read: pages of the cache count as memory of the control group, and a checkpoint that
//! is larger than that memory must not fill it.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{Advice, OFlags, fadvise};

/// Alignment of direct reads: a multiple of the block size of every common disk.
const ALIGNMENT: usize = 4096;

/// Memory to read into.
#[derive(Debug)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadBuffer {
    /// Room for reads of up to `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        // The surrounding blocks on either side, and a beginning that is aligned.
        let bytes = vec![0; capacity + 3 * ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start }
    }

    fn aligned(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

/// A file that is read piece by piece.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    /// The same file, past the cache; none where that is not possible.
    direct: Option<File>,
}

impl FileReader {
    /// A reader of `file`, whatever its name leads to by now.
    ///
    /// # Errors
    /// What the system says if it gives no other descriptor.
    pub fn new(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let same = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(same).ok();
        Ok(Self { file, direct })
    }

    /// A reader that does not go past the cache.
    #[cfg(test)]
    pub(crate) fn cached(file: &File) -> io::Result<Self> {
        Ok(Self { direct: None, ..Self::new(file)? })
    }

    /// The `length` bytes at `offset`.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::UnexpectedEof`] with both lengths if the file ends before.
    pub fn read<'b>(
        &mut self,
        offset: u64,
        length: usize,
        buffer: &'b mut ReadBuffer,
    ) -> io::Result<&'b [u8]> {
        let before = (offset % ALIGNMENT as u64) as usize;
        let start = offset - before as u64;
        let end = before + length;
        let room = &mut buffer.aligned()[..end.next_multiple_of(ALIGNMENT)];
        let mut have = 0;
        if let Some(direct) = &self.direct {
            match fill_direct(direct, room, start, end) {
                Ok(bytes) => have = bytes,
                Err(_) => self.direct = None, // what the other way says counts
            }
        }
        if have < end {
            self.fill_cached(&mut room[have..end], start + have as u64)?;
        }
        Ok(&buffer.aligned()[before..end])
    }

    fn fill_cached(&self, room: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(room, offset).map_err(|error| self.explain(error, offset, room.len()))?;
        let start = offset - offset % ALIGNMENT as u64;
        let length = (offset - start) + room.len() as u64;
        let _ = fadvise(&self.file, start, NonZeroU64::new(length), Advice::DontNeed); // it is only advice
        Ok(())
    }

    fn explain(&self, error: io::Error, offset: u64, length: usize) -> io::Error {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            return error;
        }
        let found = self.file.metadata().map_or(0, |metadata| metadata.len());
        let needed = offset + length as u64;
        let text = format!("the file was cut off: it has {found} bytes, {needed} are needed");
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    }
}

/// Reads into `room`, which is aligned, from `start`, which is too, until `end` bytes are there; how many are. Fewer if
/// the file's last block is shorter than the others.
fn fill_direct(file: &File, room: &mut [u8], start: u64, end: usize) -> io::Result<usize> {
    let mut have = 0;
    while have < end && have.is_multiple_of(ALIGNMENT) {
        match file.read_at(&mut room[have..], start + have as u64) {
            Ok(0) => break,
            Ok(bytes) => have += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_read_both_ways() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..20_003u32).map(|index| (index % 251) as u8).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let mut buffer = ReadBuffer::new(20_004);
        for mut reader in [FileReader::new(&file).unwrap(), FileReader::cached(&file).unwrap()] {
            for (offset, length) in [
                (0, 1),
                (0, 4096),
                (1, 4096),
                (4095, 2),
                (4096, 8192),
                (8191, 11_812),
                (20_002, 1),
                (0, 20_003),
                (7, 0),
            ] {
                let found = reader.read(offset as u64, length, &mut buffer).unwrap();
                assert_eq!(found, &bytes[offset..offset + length], "{offset} {length}");
            }
            for (offset, length) in [(0, 20_004), (19_000, 1_004), (30_000, 1)] {
                let error = reader.read(offset, length, &mut buffer).map(<[u8]>::len).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                let needed = offset + length as u64;
                let expected = format!("it has 20003 bytes, {needed} are needed");
                assert!(error.to_string().ends_with(&expected), "{error}");
            }
        }
    }

    #[test]
    fn a_direct_reader_that_is_refused_reads_as_usual() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[7; 5000]).unwrap();
        let mut buffer = ReadBuffer::new(5000);
        // A descriptor that cannot be read from stands for a file system that takes the flag and refuses the read.
        let refuses = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let mut reader = FileReader { direct: Some(refuses), ..FileReader::new(&file).unwrap() };
        assert_eq!(reader.read(10, 4990, &mut buffer).unwrap(), [7; 4990]);
        assert!(reader.direct.is_none());
    }
}
