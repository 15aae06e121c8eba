//! The peak of multiply-adds of all threads together.

use crate::isa::peak::Loop;
use crate::isa::{Avx2, Avx512, Avx512Bf16};
use gptjc_graphs::plan::Isa;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The loops that this CPU can run, smallest first.
pub fn loops() -> Vec<Loop> {
    let wide = [
        Avx2::detect().map(Loop::Avx2),
        Avx512::detect().map(Loop::Avx512),
        Avx512Bf16::detect().map(Loop::Avx512Bf16),
    ];
    [Loop::Portable].into_iter().chain(wide.into_iter().flatten()).collect()
}

/// What products of a kernel of `isa` are measured against: `bf16` says that both factors are bf16. None for AMX, whose
/// tiles no loop here runs, and where the CPU lacks the instructions. The portable kernels are held against the best of
/// f32, too.
pub fn reference(isa: Isa, bf16: bool) -> Option<Loop> {
    let f32_peak = || Avx512::detect().map(Loop::Avx512).or_else(|| Avx2::detect().map(Loop::Avx2));
    match isa {
        Isa::Portable => f32_peak().or(Some(Loop::Portable)),
        Isa::Avx2 => Avx2::detect().map(Loop::Avx2),
        Isa::Avx512 => Avx512::detect().map(Loop::Avx512),
        Isa::Avx512Bf16 if bf16 => Avx512Bf16::detect().map(Loop::Avx512Bf16),
        Isa::Amx if bf16 => None,
        Isa::Avx512Bf16 | Isa::Amx => Avx512::detect().map(Loop::Avx512),
    }
}

/// FLOP/s of `one` on `threads` threads at a time, measured for about `time`.
pub fn measure(one: Loop, threads: usize, time: Duration) -> f64 {
    let threads = threads.max(1);
    let rounds = rounds_for(one, time);
    let barrier = Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let run = || {
            barrier.wait();
            let begun = Instant::now();
            black_box(one.run(rounds));
            (begun, Instant::now())
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let begun = spans.iter().map(|span| span.0).min();
    let ended = spans.iter().map(|span| span.1).max();
    let seconds = begun.zip(ended).map_or(0.0, |(begun, ended)| (ended - begun).as_secs_f64());
    (one.flops() * rounds) as f64 * threads as f64 / seconds.max(1e-9)
}

/// Rounds that take about `time` on one thread.
fn rounds_for(one: Loop, time: Duration) -> u64 {
    let mut rounds = 1 << 12;
    loop {
        let begun = Instant::now();
        black_box(one.run(rounds));
        let seconds = begun.elapsed().as_secs_f64();
        if seconds > 1e-3 || rounds > 1 << 40 {
            return ((rounds as f64 * time.as_secs_f64() / seconds.max(1e-9)) as u64).max(1);
        }
        rounds *= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_has_a_speed() {
        for one in loops() {
            let speed = measure(one, 2, Duration::from_millis(5));
            assert!(speed > 1e7 && speed < 1e15, "{}: {speed:e}", one.name());
        }
    }

    #[test]
    fn variants_are_held_against_their_own_instructions() {
        assert!(reference(Isa::Portable, true).is_some());
        assert!(reference(Isa::Amx, true).is_none());
        for isa in [Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16] {
            assert_eq!(reference(isa, true).is_some(), crate::isa::usable(isa), "{isa}");
        }
    }
}
