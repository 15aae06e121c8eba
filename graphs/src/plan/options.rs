//! What a plan is compiled for: everything that is bound at compile time.

use super::Target;
use std::fmt;
use std::str::FromStr;

/// Dimensions of a GPT-J.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ModelConfig {
    /// Number of blocks.
    #[prost(uint64, tag = "1")]
    pub n_layer: u64,
    /// Width D of the residual stream.
    #[prost(uint64, tag = "2")]
    pub n_embd: u64,
    /// Number of attention heads NH; the head dimension is `n_embd / n_head`.
    #[prost(uint64, tag = "3")]
    pub n_head: u64,
    /// Lanes of a head that are rotated; even.
    #[prost(uint64, tag = "4")]
    pub rotary_dim: u64,
    /// Width of the MLP.
    #[prost(uint64, tag = "5")]
    pub n_inner: u64,
    /// Rows V of the embedding table and of lm_head.
    #[prost(uint64, tag = "6")]
    pub vocab_size: u64,
    /// Positions that the model was made for.
    #[prost(uint64, tag = "7")]
    pub n_positions: u64,
    /// Epsilon of every layer norm.
    #[prost(double, tag = "8")]
    pub layer_norm_epsilon: f64,
}

impl ModelConfig {
    /// Lanes of a head.
    pub fn head_dim(&self) -> u64 {
        self.n_embd / self.n_head
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
        #[repr(i32)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)+ }

        impl $name {
            /// The words on the command line, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// Every variant, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word on the command line.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok($name::$variant),)+
                    other => Err(format!("expected one of {}, found `{other}`", Self::WORDS.join(", "))),
                }
            }
        }
    };
}

word_enum! {
    /// Arithmetic of base matmuls and of what is stored between ops.
    Precision {
        /// bfloat16 weights and matmul operands, f32 accumulation.
        Bf16 = 0 => "bf16",
        /// f32 throughout: for parity with other implementations.
        F32 = 1 => "f32",
    }
}

word_enum! {
    /// Which tensors training changes.
    Trainable {
        /// The adapters only.
        Lora = 0 => "lora",
        /// Every parameter of the model; no adapters.
        All = 1 => "all",
    }
}

word_enum! {
    /// How examples become windows.
    Packing {
        /// Concatenated and cut: a window is one segment, as in the reference workflow.
        Concat = 0 => "concat",
        /// Whole examples side by side; each attends to itself only.
        Segments = 1 => "segments",
        /// One example a window.
        Pad = 2 => "pad",
    }
}

/// The layers of a target that has adapters in some layers only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TargetLayers {
    /// Name of the projection: one of [`LoraOptions::targets`].
    #[prost(string, tag = "1")]
    pub target: String,
    /// The layers with an adapter, ascending.
    #[prost(uint64, repeated, tag = "2")]
    pub layers: Vec<u64>,
}

/// The adapters of a plan.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoraOptions {
    /// Rank r of every adapter.
    #[prost(uint64, tag = "1")]
    pub rank: u64,
    /// Alpha: the adapter's product is scaled by `alpha / r`, or `alpha / sqrt(r)` with rsLoRA.
    #[prost(double, tag = "2")]
    pub alpha: f64,
    /// Share of an adapter's inputs that is dropped.
    #[prost(double, tag = "3")]
    pub dropout: f64,
    /// Names of the projections that have an adapter (`q_proj`), in the model's order.
    #[prost(string, repeated, tag = "4")]
    pub targets: Vec<String>,
    /// Scale by `alpha / sqrt(r)`.
    #[prost(bool, tag = "5")]
    pub use_rslora: bool,
    /// Layers of the targets that are in some layers only, in the order of `targets`: a target that is not here is in all,
    /// as every target was before there was this list.
    #[prost(message, repeated, tag = "6")]
    pub only_in: Vec<TargetLayers>,
}

impl LoraOptions {
    /// What the adapter's product is multiplied by.
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// The layers in which `target` has an adapter, if those are not all.
    pub fn layers_of(&self, target: &str) -> Option<&[u64]> {
        self.only_in.iter().find(|only| only.target == target).map(|only| only.layers.as_slice())
    }

    /// True if the projection `target` of `layer` has an adapter.
    pub fn is_on(&self, target: &str, layer: u64) -> bool {
        self.targets.iter().any(|name| name == target)
            && self.layers_of(target).is_none_or(|layers| layers.contains(&layer))
    }

    /// The targets for people, with the layers of those that are not in all: `q_proj (layers 0-3,7), v_proj`.
    pub fn described(&self, separator: &str) -> String {
        let one = |target: &String| match self.layers_of(target) {
            Some(layers) => format!("{target} (layers {})", ranges(layers)),
            None => target.clone(),
        };
        self.targets.iter().map(one).collect::<Vec<_>>().join(separator)
    }
}

/// Ascending numbers for people, with runs drawn together: `0-3,7`.
pub fn ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let run = |run: &[u64]| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(u64::to_string).collect(),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

/// Everything that is bound at compile time; the plan keeps it, so that it can be renewed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CompileOptions {
    /// The model.
    #[prost(message, required, tag = "1")]
    pub model: ModelConfig,
    /// The adapters; none when all parameters are trained.
    #[prost(message, optional, tag = "2")]
    pub lora: Option<LoraOptions>,
    /// Arithmetic.
    #[prost(enumeration = "Precision", tag = "3")]
    pub precision: i32,
    /// How examples become windows.
    #[prost(enumeration = "Packing", tag = "4")]
    pub packing: i32,
    /// Tokens S of a window at most.
    #[prost(uint64, tag = "5")]
    pub max_seq_length: u64,
    /// Windows of a micro-batch at most; 0 leaves the choice to the compiler.
    #[prost(uint64, tag = "6")]
    pub micro_batch: u64,
    /// Windows of a batch on this device: the most that a micro-batch is chosen to be.
    #[prost(uint64, tag = "7")]
    pub per_device_train_batch_size: u64,
    /// Bytes of memory that the run may use; 0 for the target's.
    #[prost(uint64, tag = "8")]
    pub memory_budget: u64,
    /// The machine.
    #[prost(message, required, tag = "9")]
    pub target: Target,
    /// Windows of an optimizer step at most, accumulation included: the partial gradient sums are kept for so many.
    #[prost(uint64, tag = "10")]
    pub step_windows: u64,
    /// Sequences that `decode` continues side by side; 0 for a plan that trains and does not decode.
    #[prost(uint64, tag = "11")]
    pub decode_sequences: u64,
    /// New tokens that one run of `decode` takes at most.
    #[prost(uint64, tag = "12")]
    pub decode_slots: u64,
}

impl CompileOptions {
    /// Which tensors training changes.
    pub fn trainable(&self) -> Trainable {
        if self.lora.is_some() { Trainable::Lora } else { Trainable::All }
    }

    /// Levels of the tree of partial sums over the windows of an optimizer step: one for each bit of their number.
    pub fn tree_levels(&self) -> usize {
        (u64::BITS - self.step_windows.max(1).leading_zeros()) as usize
    }
}
