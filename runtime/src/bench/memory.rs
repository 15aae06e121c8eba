//! Bandwidth of memory: reading, and copying.

use crate::memory::region::OutOfMemory;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Bytes of a thread's buffer: more than any cache of a core.
pub const BUFFER_BYTES: usize = 256 << 20;

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Read.
    pub read: f64,
    /// Read and written by a copy, both counted.
    pub copy: f64,
}

/// The bandwidth of `threads` threads together: the best of `rounds` passes over a buffer of `bytes` each.
///
/// # Errors
/// [`OutOfMemory`] if the system refuses the buffers.
pub fn measure(threads: usize, rounds: usize, bytes: usize) -> Result<Bandwidth, OutOfMemory> {
    let threads = threads.max(1);
    let words = bytes / 8;
    let mut buffers = Vec::with_capacity(threads);
    for thread in 0..threads {
        buffers.push((filled(words, thread as u64)?, filled(words, 0)?));
    }
    let moved = (threads * words * 8) as f64;
    let mut best = Bandwidth { read: 0.0, copy: 0.0 };
    for _ in 0..rounds.max(1) {
        let seconds = pass(&mut buffers, |source, _| {
            black_box(sum(source));
        });
        best.read = best.read.max(moved / seconds);
        let seconds = pass(&mut buffers, |source, target| {
            target.copy_from_slice(source);
            black_box(&mut target[0]);
        });
        best.copy = best.copy.max(2.0 * moved / seconds);
    }
    Ok(best)
}

/// A buffer whose pages are there.
fn filled(words: usize, value: u64) -> Result<Vec<u64>, OutOfMemory> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(words).map_err(|error| OutOfMemory {
        bytes: words * 8,
        what: "a buffer to measure bandwidth with",
        source: std::io::Error::new(std::io::ErrorKind::OutOfMemory, error.to_string()),
    })?;
    // Every word differs, so that the system does not share one page of zeros.
    buffer.extend((0..words as u64).map(|index| index ^ value));
    Ok(buffer)
}

/// Seconds that `work` takes on all buffers at once.
fn pass(buffers: &mut [(Vec<u64>, Vec<u64>)], work: impl Fn(&[u64], &mut [u64]) + Sync) -> f64 {
    let barrier = Barrier::new(buffers.len());
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let handles: Vec<_> = buffers
            .iter_mut()
            .map(|(source, target)| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    let begun = Instant::now();
                    work(source, target);
                    (begun, Instant::now())
                })
            })
            .collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let begun = spans.iter().map(|span| span.0).min();
    let ended = spans.iter().map(|span| span.1).max();
    begun.zip(ended).map_or(f64::INFINITY, |(begun, ended)| (ended - begun).as_secs_f64().max(1e-9))
}

/// The sum of all words: eight chains, so that the additions do not limit it.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 8];
    for eight in words.chunks_exact(8) {
        for (sum, word) in sums.iter_mut().zip(eight) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |total, &sum| total.wrapping_add(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_read_and_copied() {
        let found = measure(2, 1, 1 << 20).unwrap();
        for speed in [found.read, found.copy] {
            assert!(speed > 1e6 && speed.is_finite(), "{found:?}");
        }
        assert_eq!(sum(&[1; 80]), 80);
    }
}
