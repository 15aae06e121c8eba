//! Proof that this CPU can run an instruction set.
//!
//! A token can only be had by asking the CPU, so a function that takes one may use the instructions. A function with
//! `#[target_feature]` is safe to call from another with the same features; the one `unsafe` call is where a token is
//! given and the features are not.

mod amx;
mod control_word;

use gptjc_graphs::plan::Isa;

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

/// True if this CPU can run kernels of `isa`.
pub fn usable(isa: Isa) -> bool {
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
    fn what_is_usable_includes_what_is_smaller() {
        assert!(usable(Isa::Portable));
        let usable: Vec<bool> = Isa::ALL.into_iter().map(usable).collect();
        assert!(usable.is_sorted_by(|a, b| a >= b), "{usable:?}");
        assert!(super::usable(best()));
    }
}
