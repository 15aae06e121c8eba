//! The hardware threads that the calling thread may run on: asking, and binding.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::marker::PhantomData;

/// Hardware threads in the calling thread's affinity mask, ascending.
///
/// If the system does not say (it has more of them than fit in the largest mask), as many as it counts, from 0.
pub fn allowed() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

/// Hardware threads to bind a thread to.
#[derive(Clone, Copy, Debug)]
pub struct CpuMask(CpuSet);

impl CpuMask {
    /// The mask of `cpus`, or none if one of them is beyond the largest mask.
    pub fn new(cpus: &[usize]) -> Option<Self> {
        let mut set = CpuSet::new();
        for &cpu in cpus {
            if cpu >= CpuSet::MAX_CPU {
                return None;
            }
            set.set(cpu);
        }
        Some(Self(set))
    }

    /// Binds the calling thread until the result is dropped. Allocates nothing.
    ///
    /// # Errors
    /// What the system says if it refuses: none of them is allowed, or a sandbox forbids the call.
    pub fn bind(&self) -> io::Result<BoundThread> {
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &self.0)?;
        Ok(BoundThread { before, of_this_thread: PhantomData })
    }
}

/// The calling thread is bound; dropped, it may run where it might before.
#[derive(Debug)]
pub struct BoundThread {
    before: CpuSet,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for BoundThread {
    fn drop(&mut self) {
        // What was allowed may have been taken away meanwhile: the thread then stays where it is, which is allowed.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_bound_for_a_while_and_only_that_thread() {
        let before = allowed();
        let last = *before.last().unwrap();
        let (bound, after) = std::thread::spawn(move || {
            let guard = CpuMask::new(&[last]).unwrap().bind().unwrap();
            let bound = allowed();
            drop(guard);
            (bound, allowed())
        })
        .join()
        .unwrap();
        assert_eq!((bound, &after), (vec![last], &before));
        assert_eq!(allowed(), before);
        assert!(CpuMask::new(&[]).unwrap().bind().is_err() && CpuMask::new(&[1 << 20]).is_none());
        assert_eq!(allowed(), before);
    }
}
