//! The machine that a plan is for.

use super::Isa;

/// The machine that a plan is for. What is 0 (or an empty name) is not known; [`Target::with_guesses`] fills it in.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Target {
    /// Name for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Instruction set of the kernels; required of the machine that runs the plan.
    #[prost(string, tag = "2")]
    pub isa: String,
    /// Physical cores to use, of all sockets together; preferred.
    #[prost(uint32, tag = "3")]
    pub cores: u32,
    /// Bytes of first-level data cache of a core.
    #[prost(uint64, tag = "4")]
    pub l1d_bytes: u64,
    /// Bytes of second-level cache of a core.
    #[prost(uint64, tag = "5")]
    pub l2_bytes: u64,
    /// Bytes of last-level cache of a socket.
    #[prost(uint64, tag = "6")]
    pub l3_bytes: u64,
    /// Bytes of memory.
    #[prost(uint64, tag = "7")]
    pub memory_bytes: u64,
    /// Sockets.
    #[prost(uint32, tag = "8")]
    pub sockets: u32,
    /// NUMA nodes of a socket.
    #[prost(uint32, tag = "9")]
    pub numa_nodes_per_socket: u32,
    /// Threads of the team: as a rule one for each physical core.
    #[prost(uint32, tag = "10")]
    pub threads: u32,
    /// Bytes a second that all cores together read from memory.
    #[prost(double, tag = "11")]
    pub memory_bandwidth: f64,
    /// Bytes a second that are read from the disk with the checkpoint on it.
    #[prost(double, tag = "12")]
    pub disk_bandwidth: f64,
    /// Peak of f32 multiply-adds of a core with all cores at work, in FLOP/s; a multiply-add is two.
    #[prost(double, tag = "13")]
    pub peak_f32: f64,
    /// Peak of matrix products of bf16 weights of a core with all cores at work, in FLOP/s: that of bf16 instructions
    /// where `isa` has them, that of f32 elsewhere.
    #[prost(double, tag = "14")]
    pub peak_bf16: f64,
}

/// Clock that is assumed where the peak is not known: about what all cores of a server keep up under vector load.
const GUESSED_HERTZ: f64 = 2.5e9;

/// Floating-point operations a cycle of one core: of f32 multiply-adds, and of products of bf16.
///
/// Two 256-bit or 512-bit FMA pipes of f32; AVX512-BF16's dot product takes twice the elements of an f32 FMA; AMX's
/// `tdpbf16ps` does 16·16·32 multiply-adds every 16 cycles. The portable kernels get the 128-bit vectors that the
/// compiler finds.
const fn flops_per_cycle(isa: Isa) -> (f64, f64) {
    match isa {
        Isa::Portable => (8.0, 8.0),
        Isa::Avx2 => (32.0, 32.0),
        Isa::Avx512 => (64.0, 64.0),
        Isa::Avx512Bf16 => (64.0, 128.0),
        Isa::Amx => (64.0, 1024.0),
    }
}

impl Target {
    /// The instruction set; portable if the name is none that this version knows.
    pub fn instruction_set(&self) -> Isa {
        self.isa.parse().unwrap_or(Isa::Portable)
    }

    /// NUMA nodes of all sockets, at least 1.
    pub fn nodes(&self) -> u64 {
        let guessed = self.with_guesses();
        u64::from(guessed.sockets) * u64::from(guessed.numa_nodes_per_socket)
    }

    /// The same machine with a guess for everything that is not known: one socket with one NUMA node, a thread a core,
    /// caches of a common server core, two channels' share of memory bandwidth (10 GB/s a core, 25 GB/s at least), a
    /// disk of 1 GB/s, and the peak of [the instruction set](Target::isa) at 2.5 GHz.
    ///
    /// Guesses move tiles, budgets and predictions, never results.
    #[must_use]
    pub fn with_guesses(&self) -> Self {
        fn known<T: Default + PartialEq>(value: T, guess: T) -> T {
            if value == T::default() { guess } else { value }
        }
        let (f32_flops, bf16_flops) = flops_per_cycle(self.instruction_set());
        let cores = known(self.cores, 1);
        let peak_f32 = known(self.peak_f32, f32_flops * GUESSED_HERTZ);
        Self {
            name: if self.name.is_empty() { "unnamed".to_owned() } else { self.name.clone() },
            isa: self.instruction_set().name().to_owned(),
            cores,
            l1d_bytes: known(self.l1d_bytes, 32 << 10),
            l2_bytes: known(self.l2_bytes, 512 << 10),
            l3_bytes: known(self.l3_bytes, 8 << 20),
            memory_bytes: known(self.memory_bytes, 8 << 30),
            sockets: known(self.sockets, 1),
            numa_nodes_per_socket: known(self.numa_nodes_per_socket, 1),
            threads: known(self.threads, cores),
            memory_bandwidth: known(self.memory_bandwidth, (f64::from(cores) * 10e9).max(25e9)),
            disk_bandwidth: known(self.disk_bandwidth, 1e9),
            peak_f32,
            peak_bf16: known(self.peak_bf16, peak_f32 * bf16_flops / f32_flops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stays_and_the_rest_is_guessed() {
        let target = Target { isa: "amx".into(), cores: 4, peak_f32: 1e11, ..Target::default() };
        let guessed = target.with_guesses();
        assert_eq!((guessed.cores, guessed.threads, guessed.sockets), (4, 4, 1));
        assert_eq!((guessed.peak_f32, guessed.peak_bf16), (1e11, 1.6e12));
        assert_eq!(guessed.with_guesses(), guessed);
        assert_eq!(Target::default().with_guesses().isa, "portable");
    }
}
