//! Proof that this CPU can run an instruction set.
//!
//! A token can only be had by asking the CPU, so a function that takes one may use the instructions. A function with
//! `#[target_feature]` is safe to call from another with the same features; the one `unsafe` call is where a token is
//! given and the features are not.

mod amx;
mod control_word;
pub mod peak;

use gptjc_graphs::plan::Isa;
use std::sync::atomic::{AtomicU8, Ordering};

pub use amx::Amx;
pub use control_word::ControlWord;

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// Proof of AVX-512 F, BW, DQ and VL, besides [`Avx2`].
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// Proof of AVX512-BF16, besides [`Avx512`].
#[derive(Clone, Copy, Debug)]
pub struct Avx512Bf16(());

impl Avx2 {
    /// The token, if this CPU has the instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        let usable = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        #[cfg(not(target_arch = "x86_64"))]
        let usable = false;
        usable.then_some(Self(()))
    }
}

impl Avx512 {
    /// The token, if this CPU has the instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        let usable = Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        #[cfg(not(target_arch = "x86_64"))]
        let usable = false;
        usable.then_some(Self(()))
    }
}

impl Avx512Bf16 {
    /// The token, if this CPU has the instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        let usable = Avx512::detect().is_some() && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let usable = false;
        usable.then_some(Self(()))
    }
}

impl Avx512Bf16 {
    /// What it includes.
    pub fn avx512(self) -> Avx512 {
        Avx512(())
    }
}

/// Instruction sets that are not used although the CPU has them: bit i is that of `Isa::ALL[i]`.
static SWITCHED_OFF: AtomicU8 = AtomicU8::new(0);

/// Uses `isa`, and all that include it, no more in this process: a self-test found that its kernels are wrong here.
/// The portable kernels stay.
pub fn switch_off(isa: Isa) {
    SWITCHED_OFF.fetch_or(including(isa), Ordering::Relaxed);
}

/// Bits of all that include `isa`, but the portable one.
fn including(isa: Isa) -> u8 {
    let with = |&(_, other): &(usize, Isa)| other >= isa && other != Isa::Portable;
    Isa::ALL.into_iter().enumerate().filter(with).fold(0, |bits, (index, _)| bits | 1 << index)
}

/// True if this process was told not to use `isa`.
pub fn is_switched_off(isa: Isa) -> bool {
    let index = Isa::ALL.iter().position(|&other| other == isa);
    index.is_some_and(|index| SWITCHED_OFF.load(Ordering::Relaxed) & 1 << index != 0)
}

/// What the CPU must have for `isa`, in the words of `/proc/cpuinfo`.
pub const fn requirements(isa: Isa) -> &'static [&'static str] {
    match isa {
        Isa::Portable => &[],
        Isa::Avx2 => &["avx2", "fma", "f16c"],
        Isa::Avx512 => &["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"],
        Isa::Avx512Bf16 => {
            &["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"]
        }
        Isa::Amx => &[
            "avx2",
            "fma",
            "f16c",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512_bf16",
            "amx_tile",
            "amx_bf16",
        ],
    }
}

/// True if kernels of `isa` are used: this CPU can run them, and they were not switched off.
pub fn usable(isa: Isa) -> bool {
    !is_switched_off(isa) && detected(isa)
}

/// True if this CPU has the instructions of `isa`.
pub fn detected(isa: Isa) -> bool {
    match isa {
        Isa::Portable => true,
        Isa::Avx2 => Avx2::detect().is_some(),
        Isa::Avx512 => Avx512::detect().is_some(),
        Isa::Avx512Bf16 => Avx512Bf16::detect().is_some(),
        Isa::Amx => Amx::detect().is_some(),
    }
}

/// The largest instruction set that this CPU can run.
pub fn best() -> Isa {
    Isa::ALL.into_iter().rev().find(|&isa| usable(isa)).unwrap_or(Isa::Portable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switching_off_includes_what_builds_on_it_and_never_the_portable() {
        let off =
            |isa| Isa::ALL.into_iter().enumerate().filter(move |(index, _)| including(isa) >> index & 1 == 1);
        let names = |isa| off(isa).map(|(_, other)| other.name()).collect::<Vec<_>>();
        assert_eq!(names(Isa::Avx512), ["avx512", "avx512bf16", "amx"]);
        assert_eq!(names(Isa::Amx), ["amx"]);
        assert_eq!(names(Isa::Portable), ["avx2", "avx512", "avx512bf16", "amx"]);
        assert!(Isa::ALL.into_iter().all(|isa| !is_switched_off(isa)));
    }

    #[test]
    fn what_is_usable_includes_what_is_smaller() {
        assert!(usable(Isa::Portable));
        let usable: Vec<bool> = Isa::ALL.into_iter().map(usable).collect();
        assert!(usable.is_sorted_by(|a, b| a >= b), "{usable:?}");
        assert!(super::usable(best()));
    }
}
