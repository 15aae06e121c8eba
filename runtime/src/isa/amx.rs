//! Matrix tiles: detection, and the permission that the system gives a process.

use super::{Avx512, Avx512Bf16};

/// Proof of AMX tiles and their products of bf16, besides [`Avx512Bf16`], and of the permission to use them.
#[derive(Clone, Copy, Debug)]
pub struct Amx(());

impl Amx {
    /// The token, if this CPU has the instructions and the system lets this process use them.
    pub fn detect() -> Option<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
        let usable = Avx512Bf16::detect().is_some() && linux::usable();
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
        let usable = false && Avx512Bf16::detect().is_some();
        usable.then_some(Self(()))
    }

    /// What it includes.
    pub fn avx512(self) -> Avx512 {
        Avx512(())
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod linux {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::sync::OnceLock;

    /// Asked once: a permission holds for the process and the threads that it starts.
    static USABLE: OnceLock<bool> = OnceLock::new();

    pub(super) fn usable() -> bool {
        *USABLE.get_or_init(|| has_tiles() && permitted())
    }

    /// The instructions (AMX-TILE, AMX-BF16), and a system that saves tiles with a thread.
    fn has_tiles() -> bool {
        const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
        const TILE_STATE: u64 = 1 << 17 | 1 << 18;
        const OSXSAVE: u32 = 1 << 27;
        let has_leaf = __cpuid(0).eax >= 7;
        let saved = || __cpuid(1).ecx & OSXSAVE != 0;
        let instructions = || __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE;
        // SAFETY: OSXSAVE was seen: the instruction that reads the register is there and allowed.
        let state = || unsafe { enabled_state() } & TILE_STATE == TILE_STATE;
        has_leaf && instructions() && saved() && state()
    }

    #[target_feature(enable = "xsave")]
    unsafe fn enabled_state() -> u64 {
        // SAFETY: register 0 exists where the instruction does.
        unsafe { _xgetbv(0) }
    }

    /// Asks the system for the tile registers; it refuses where it cannot save them.
    fn permitted() -> bool {
        const SYS_ARCH_PRCTL: usize = 158;
        const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
        const XFEATURE_XTILEDATA: usize = 18;
        let mut status = SYS_ARCH_PRCTL;
        // SAFETY: the call takes two numbers and touches no memory of this process; the kernel changes rcx and r11 besides
        // the result.
        unsafe {
            asm!(
                "syscall",
                inout("rax") status,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        status == 0
    }
}
