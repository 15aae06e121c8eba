//! What a plan was compiled for.

use gptjc_graphs::plan::{Buffer, CompileOptions, LoraOptions, Memory, ModelConfig, Plan, Target};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The plan's file, the model, the options, the target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanFacts {
    /// Version of the plan's format.
    pub format_version: u32,
    /// Version of the compiler that wrote it.
    pub compiler_version: String,
    /// The model.
    pub model: ModelFacts,
    /// The adapters; none when all parameters are trained.
    pub lora: Option<LoraFacts>,
    /// Everything else that was chosen.
    pub options: OptionFacts,
    /// The machine.
    pub target: TargetFacts,
}

/// Dimensions of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFacts {
    /// Number of blocks.
    pub n_layer: u64,
    /// Width of the residual stream.
    pub n_embd: u64,
    /// Number of attention heads.
    pub n_head: u64,
    /// Lanes of a head that are rotated.
    pub rotary_dim: u64,
    /// Width of the MLP.
    pub n_inner: u64,
    /// Rows of the embedding table.
    pub vocab_size: u64,
    /// Positions that the model was made for.
    pub n_positions: u64,
    /// Epsilon of every layer norm.
    pub layer_norm_epsilon: f64,
    /// Elements of all tensors of the model, adapters not included.
    pub parameters: u64,
    /// Elements that training changes.
    pub trained_parameters: u64,
}

/// The adapters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoraFacts {
    /// Rank r.
    pub rank: u64,
    /// Alpha.
    pub alpha: f64,
    /// What the adapter's product is multiplied by.
    pub scaling: f64,
    /// Whether that is `alpha / sqrt(r)`.
    pub use_rslora: bool,
    /// Share of an adapter's inputs that is dropped.
    pub dropout: f64,
    /// Projections with an adapter.
    pub targets: Vec<String>,
    /// Layers of the projections that have adapters in some layers only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub only_in: BTreeMap<String, Vec<u64>>,
    /// Projections and layers for people.
    #[serde(skip)]
    pub described: String,
}

/// Options besides model, adapters and target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OptionFacts {
    /// `bf16` or `f32`.
    pub precision: String,
    /// `concat`, `segments` or `pad`.
    pub packing: String,
    /// Tokens of a window at most.
    pub max_seq_length: u64,
    /// Windows of a micro-batch at most.
    pub micro_batch: u64,
    /// Windows of a batch.
    pub per_device_train_batch_size: u64,
    /// Windows of an optimizer step at most.
    pub step_windows: u64,
    /// Sequences that `decode` continues; 0 for a plan that trains.
    pub decode_sequences: u64,
    /// New tokens that one run of `decode` takes at most; 0 for a plan that trains.
    pub decode_slots: u64,
}

/// The machine that the plan is for; what was not known when it was compiled is guessed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetFacts {
    /// Name for people.
    pub name: String,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Sockets.
    pub sockets: u32,
    /// NUMA nodes of a socket.
    pub numa_nodes_per_socket: u32,
    /// Physical cores of all sockets.
    pub cores: u32,
    /// Threads of the team.
    pub threads: u32,
    /// Bytes of first-level data cache of a core.
    pub l1d_bytes: u64,
    /// Bytes of second-level cache of a core.
    pub l2_bytes: u64,
    /// Bytes of last-level cache of a socket.
    pub l3_bytes: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes a second from memory, all cores together.
    pub memory_bandwidth: f64,
    /// Bytes a second from the disk.
    pub disk_bandwidth: f64,
    /// Peak of f32 multiply-adds, all cores together, in FLOP/s.
    pub peak_f32: f64,
    /// Peak of products of bf16 weights, all cores together, in FLOP/s.
    pub peak_bf16: f64,
}

/// What is predicted of an optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PredictionFacts {
    /// Runs of `micro_step`.
    pub micro_steps: u64,
    /// Seconds.
    pub seconds: f64,
    /// Seconds of it that the steps wait for loads.
    pub wait_seconds: f64,
    /// Bytes read from the checkpoint.
    pub read_bytes: u64,
    /// Floating-point operations, recomputation included.
    pub flops: u64,
    /// Floating-point operations of it that are done a second time.
    pub recomputed_flops: u64,
    /// Blocks that are computed a second time.
    pub recomputed_blocks: u64,
    /// Bytes moved, each operand and result of a step once.
    pub moved_bytes: u64,
}

impl TargetFacts {
    /// The facts of `target`.
    pub fn of(target: &Target) -> Self {
        let target = target.with_guesses();
        let cores = f64::from(target.cores);
        Self {
            sockets: target.sockets,
            numa_nodes_per_socket: target.numa_nodes_per_socket,
            cores: target.cores,
            threads: target.threads,
            l1d_bytes: target.l1d_bytes,
            l2_bytes: target.l2_bytes,
            l3_bytes: target.l3_bytes,
            memory_bytes: target.memory_bytes,
            memory_bandwidth: target.memory_bandwidth,
            disk_bandwidth: target.disk_bandwidth,
            peak_f32: target.peak_f32 * cores,
            peak_bf16: target.peak_bf16 * cores,
            name: target.name,
            isa: target.isa,
        }
    }
}

/// Elements of the buffers of some kinds, each tensor once.
fn elements(plan: &Plan, kinds: &[Memory]) -> u64 {
    let mut names = BTreeSet::new();
    let wanted = plan.buffers.iter().filter(|buffer| kinds.contains(&buffer.memory()));
    wanted.filter(|buffer| names.insert(&buffer.name)).map(Buffer::elements).sum()
}

fn model(plan: &Plan) -> ModelFacts {
    let config: &ModelConfig = &plan.options.model;
    let trained = elements(plan, &[Memory::Parameter]);
    let frozen = elements(plan, &[Memory::Weight, Memory::Stream]);
    ModelFacts {
        parameters: if plan.options.lora.is_some() { frozen } else { frozen + trained },
        trained_parameters: trained,
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        n_head: config.n_head,
        rotary_dim: config.rotary_dim,
        n_inner: config.n_inner,
        vocab_size: config.vocab_size,
        n_positions: config.n_positions,
        layer_norm_epsilon: config.layer_norm_epsilon,
    }
}

fn lora(lora: &LoraOptions) -> LoraFacts {
    LoraFacts {
        rank: lora.rank,
        alpha: lora.alpha,
        scaling: lora.scaling(),
        use_rslora: lora.use_rslora,
        dropout: lora.dropout,
        targets: lora.targets.clone(),
        only_in: lora.only_in.iter().map(|only| (only.target.clone(), only.layers.clone())).collect(),
        described: lora.described(", "),
    }
}

fn options(options: &CompileOptions) -> OptionFacts {
    OptionFacts {
        precision: options.precision().to_string(),
        packing: options.packing().to_string(),
        max_seq_length: options.max_seq_length,
        micro_batch: options.micro_batch,
        per_device_train_batch_size: options.per_device_train_batch_size,
        step_windows: options.step_windows,
        decode_sequences: options.decode_sequences,
        decode_slots: options.decode_slots,
    }
}

pub(super) fn prediction(plan: &Plan) -> Option<PredictionFacts> {
    plan.entry("micro_step")?;
    let expected = &plan.prediction;
    Some(PredictionFacts {
        micro_steps: expected.micro_steps,
        seconds: expected.seconds,
        wait_seconds: expected.wait_seconds,
        read_bytes: expected.read_bytes,
        flops: expected.flops,
        recomputed_flops: expected.recomputed_flops,
        recomputed_blocks: expected.recomputed_blocks,
        moved_bytes: expected.moved_bytes,
    })
}

pub(super) fn of(plan: &Plan) -> PlanFacts {
    PlanFacts {
        format_version: plan.format_version,
        compiler_version: plan.compiler_version.clone(),
        model: model(plan),
        lora: plan.options.lora.as_ref().map(lora),
        options: options(&plan.options),
        target: TargetFacts::of(&plan.options.target),
    }
}
