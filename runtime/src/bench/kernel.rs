//! A kernel's speed, beside the peak of the same moment.

use super::isolated::Bound;
use super::{median, peak};
use crate::executor::ExecutorError;
use crate::isa::peak::Loop;
use std::time::{Duration, Instant};

/// A shorter run is repeated until it is as long.
const SHORTEST: f64 = 5e-3;
/// How long the peak is measured before and after every round.
const PEAK_TIME: Duration = Duration::from_millis(20);

/// What a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Seconds of a run: the median of the rounds.
    pub seconds: f64,
    /// FLOP/s of the peak: the median of those measured between the rounds.
    pub peak: Option<f64>,
    /// The median over the rounds of the seconds that the peak would take over those that the kernel took, for a
    /// kernel of so many FLOPs as were given.
    pub share_of_peak: Option<f64>,
    /// Rounds that were measured.
    pub rounds: usize,
}

/// Measures `kernel`, which does `flops` a run, in `rounds` rounds, each between two measurements of the peak of
/// `reference` on `threads` threads. Rounds end early, after at least one, when `limit` is over.
///
/// # Errors
/// [`ExecutorError`] if the kernel cannot run.
pub fn measure(
    kernel: &mut Bound,
    flops: u64,
    reference: Option<Loop>,
    threads: usize,
    rounds: usize,
    limit: Duration,
) -> Result<Speed, ExecutorError> {
    let begun = Instant::now();
    let repeats = repeats(kernel)?;
    let measure_peak = || reference.map(|one| peak::measure(one, threads, PEAK_TIME));
    let (mut seconds, mut peaks, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = measure_peak();
    while seconds.is_empty() || seconds.len() < rounds && begun.elapsed() < limit {
        let round = Instant::now();
        for _ in 0..repeats {
            kernel.run()?;
        }
        let one = round.elapsed().as_secs_f64() / f64::from(repeats);
        let after = measure_peak();
        if let Some((before, after)) = before.zip(after) {
            let peak = (before + after) / 2.0;
            peaks.push(peak);
            shares.push(flops as f64 / one / peak);
        }
        before = after;
        seconds.push(one);
    }
    Ok(Speed {
        seconds: median(&seconds).unwrap_or_default(),
        peak: median(&peaks),
        share_of_peak: median(&shares).filter(|_| flops > 0),
        rounds: seconds.len(),
    })
}

/// Warms up, and says how many runs make a round.
fn repeats(kernel: &mut Bound) -> Result<u32, ExecutorError> {
    let begun = Instant::now();
    kernel.run()?;
    if begun.elapsed().as_secs_f64() > 1.0 {
        return Ok(1); // long enough that a first touch of memory does not matter
    }
    let begun = Instant::now();
    kernel.run()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok((SHORTEST / seconds.max(1e-7)).ceil().clamp(1.0, 10_000.0) as u32)
}
