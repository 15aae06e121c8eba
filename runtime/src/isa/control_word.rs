//! The floating-point control word of a thread.

/// Round to nearest, ties to even; every exception masked; subnormal numbers as operands and as results (neither
/// flush-to-zero nor denormals-are-zero).
#[cfg(target_arch = "x86_64")]
const DEFAULT: u32 = 0x1f80;

/// The calling thread computes under the control word that Rust's own arithmetic assumes; dropped, the word from before
/// is back.
///
/// A library in the same process may have left another one behind, and then subnormal numbers would be treated
/// differently on that thread than on the others. On x86-64 the word is MXCSR; on other architectures nothing is done.
#[derive(Debug)]
pub struct ControlWord {
    #[cfg(target_arch = "x86_64")]
    before: u32,
    of_this_thread: std::marker::PhantomData<*const ()>,
}

impl ControlWord {
    /// Sets the calling thread's.
    pub fn set() -> Self {
        #[cfg(target_arch = "x86_64")]
        let before = read();
        #[cfg(target_arch = "x86_64")]
        write(DEFAULT);
        Self {
            #[cfg(target_arch = "x86_64")]
            before,
            of_this_thread: std::marker::PhantomData,
        }
    }
}

impl Drop for ControlWord {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        write(self.before);
    }
}

#[cfg(target_arch = "x86_64")]
fn read() -> u32 {
    let mut word = 0u32;
    // SAFETY: the instruction stores the register in the four bytes at the address, which are `word`'s.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags));
    }
    word
}

#[cfg(target_arch = "x86_64")]
fn write(word: u32) {
    // SAFETY: the instruction reads the four bytes at the address, which are `word`'s. The word is either the default, or
    // one that this thread ran under before; reserved bits, which would fault, are therefore zero.
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags));
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn subnormal_numbers_are_kept_whatever_was_set_before() {
        std::thread::spawn(|| {
            let half = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
            let found = read();
            write(found | 0x8040); // flush-to-zero and denormals-are-zero
            let flushed = half();
            let word = ControlWord::set();
            let kept = half();
            let during = read();
            drop(word);
            let after = half();
            write(found);
            assert_eq!((flushed, after), (0.0, 0.0));
            assert_eq!(kept, f32::from_bits(1 << 22));
            assert_eq!(during & !0x3f, DEFAULT); // the lowest bits report exceptions
        })
        .join()
        .unwrap();
    }
}
