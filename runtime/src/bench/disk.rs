//! Bandwidth of reading from a disk, past the system's cache.

use crate::files::FileError;
use memmap2::MmapMut;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a read: as many as the reader of weights asks for at a time.
const READ_BYTES: usize = 16 << 20;
/// Bytes of the file that is written where there is only a directory.
const FILE_BYTES: u64 = 512 << 20;
/// Linux's flag to go past the cache.
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
const O_DIRECT: i32 = 0o40_000;
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
const O_DIRECT: i32 = 0o200_000;

/// What was read, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiskSpeed {
    /// Bytes a second.
    pub bytes_per_second: f64,
    /// Bytes read.
    pub bytes: u64,
    /// False if the file system refuses to go past its cache, so that this may be the speed of memory.
    pub direct: bool,
}

/// Reads the file `path` from its start for at most `time`, or, if `path` is a directory, a file of half a GB that is
/// written into it and removed.
///
/// # Errors
/// [`FileError`] if the file cannot be read, or not be written.
pub fn measure(path: &Path, time: Duration) -> Result<DiskSpeed, FileError> {
    if !path.is_dir() {
        return read(path, time).map_err(|source| FileError::new("read", path, source));
    }
    let failed = |source| FileError::new("write a file into", path, source);
    let mut file = tempfile::NamedTempFile::new_in(path).map_err(failed)?;
    write(file.as_file_mut()).map_err(failed)?;
    read(file.path(), time).map_err(|source| FileError::new("read", path, source))
}

/// Fills a file with bytes that no disk compresses.
fn write(file: &mut File) -> io::Result<()> {
    let mut word = 1u64;
    let mut block = vec![0u8; 1 << 20];
    for _ in 0..FILE_BYTES / block.len() as u64 {
        for eight in block.chunks_exact_mut(8) {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            eight.copy_from_slice(&word.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    file.sync_all()
}

fn read(path: &Path, time: Duration) -> io::Result<DiskSpeed> {
    fs::metadata(path)?; // a missing file is said as such
    let direct = OpenOptions::new().read(true).custom_flags(O_DIRECT).open(path);
    let (mut file, direct) = match direct {
        Ok(file) => (file, true),
        Err(_) => (File::open(path)?, false),
    };
    let mut buffer = MmapMut::map_anon(READ_BYTES)?; // aligned as the flag asks for
    let begun = Instant::now();
    let mut bytes = 0;
    while begun.elapsed() < time {
        match file.read(&mut buffer)? {
            0 => break,
            count => bytes += count as u64,
        }
    }
    let seconds = begun.elapsed().as_secs_f64().max(1e-9);
    Ok(DiskSpeed { bytes_per_second: bytes as f64 / seconds, bytes, direct })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        fs::write(&path, vec![1; 3 << 20]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let found = measure(&path, Duration::from_secs(60)).unwrap();
        assert_eq!(found.bytes, 3 << 20);
        assert!(found.bytes_per_second > 0.0);
        let message = measure(&dir.path().join("none"), Duration::from_secs(1)).unwrap_err().to_string();
        assert!(message.contains("cannot read `") && message.contains("none`"), "{message}");
    }
}
