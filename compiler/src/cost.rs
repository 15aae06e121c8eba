//! What a step is expected to cost on a machine.
//!
//! A step takes `max(FLOPs / (peak · efficiency), bytes / bandwidth)` and a launch. FLOPs and bytes are the ops' own
//! counts at the bounds; the peak is that of all cores for the type that is multiplied; the efficiency is that of the
//! kernel's family, see `efficiency`.
//!
//! Does not: know caches or single kernels; `gptjc bench kernels` measures those, and its numbers go into the table.

use gptjc_graphs::dtype::DType;
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::Target;

/// Seconds from one step to the next when there is nothing to do: the team's barriers, and the threads that wake up.
const LAUNCH_SECONDS: f64 = 8e-6;

/// Kernels that reach the same share of the peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Products with a weight of the model.
    Product,
    /// Products of rank r.
    Thin,
    /// Attention, fused or not.
    Attention,
    /// All else: an element at a time.
    Elementwise,
}

/// Share of the peak that a kernel family reaches with `rows` rows, from `gptjc bench kernels` at the shapes of GPT-J-6B on
/// a 2-core virtual machine with a Zen 4 (AVX-512 and AVX512-BF16, November 2026):
///
/// | family | share | measured |
/// | --- | --- | --- |
/// | product | 0.90 · M / (M + 14): 0.74 at M = 64, 0.88 at 512 | 0.60 to 0.82 at M = 64, 0.84 to 0.95 at 512 |
/// | thin | 0.17 | 0.13 to 0.25 of the f32 peak, masks included |
/// | attention | 0.55 | 0.62 forward, 0.50 to 0.55 backward, of the f32 peak |
/// | elementwise | 0.15 | 0.10 to 0.20 where arithmetic counts; most passes are bound by memory |
fn efficiency(family: Family, rows: usize) -> f64 {
    match family {
        Family::Product => 0.90 * rows as f64 / (rows as f64 + 14.0),
        Family::Thin => 0.17,
        Family::Attention => 0.55,
        Family::Elementwise => 0.15,
    }
}

fn family(op: &Op) -> Family {
    match op {
        Op::Matmul(_)
        | Op::WindowMatmul(_)
        | Op::Projection(_)
        | Op::ProjectionGrad(_)
        | Op::VocabLoss(_) => Family::Product,
        Op::AdapterDown(_) | Op::AdapterUpGrad(_) | Op::AdapterGrad(_) => Family::Thin,
        Op::SegmentScores(_)
        | Op::MaskedSoftmax(_)
        | Op::SegmentMix(_)
        | Op::CachedScores(_)
        | Op::CachedSoftmax(_)
        | Op::CachedMix(_)
        | Op::SegmentMixTransposed(_)
        | Op::MaskedSoftmaxGrad(_)
        | Op::Attention(_)
        | Op::AttentionGrad(_) => Family::Attention,
        Op::Embedding(_)
        | Op::LayerNorm(_)
        | Op::Add(_)
        | Op::BiasAdd(_)
        | Op::Scale(_)
        | Op::Cast(_)
        | Op::Fill(_)
        | Op::RotaryTable(_)
        | Op::Rotary(_)
        | Op::GeluTanh(_)
        | Op::Dropout(_)
        | Op::GatherRows(_)
        | Op::CrossEntropy(_)
        | Op::WindowSum(_)
        | Op::CacheStore(_)
        | Op::EmbeddingGrad(_)
        | Op::LayerNormGrad(_)
        | Op::LayerNormParamGrad(_)
        | Op::GeluTanhGrad(_)
        | Op::ScatterRows(_)
        | Op::CrossEntropyGrad(_)
        | Op::TreeAccumulate(_)
        | Op::TreeFinish(_)
        | Op::SumSquares(_)
        | Op::ClipScale(_)
        | Op::AdamW(_) => Family::Elementwise,
    }
}

/// Bytes that a node reads and writes at the bounds, each operand and result once; of an embedding table only the rows
/// that are looked up.
pub fn bytes(graph: &Graph, node: &Node) -> u64 {
    let results: u64 = node.results.iter().map(|&value| graph.ty(value).bytes() as u64).sum();
    let operand = |(index, &value): (usize, &_)| {
        let ty = graph.ty(value);
        match (&node.op, index) {
            (Op::Embedding(_), 0) => {
                let rows = graph.ty(node.results[0]).dims[0].bound as u64;
                let height = ty.dims[0].bound.max(1) as u64;
                ty.bytes() as u64 / height * rows.min(height)
            }
            _ => ty.bytes() as u64,
        }
    };
    results + node.operands.iter().enumerate().map(operand).sum::<u64>()
}

/// The costs of steps on one machine.
#[derive(Clone, Debug)]
pub struct CostModel {
    target: Target,
}

impl CostModel {
    /// Costs on `target`; what it does not say is [guessed](Target::with_guesses).
    pub fn new(target: &Target) -> Self {
        Self { target: target.with_guesses() }
    }

    /// The machine, complete.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// FLOP/s of all threads in products, of bf16 weights or in f32.
    pub fn peak(&self, multiplies_bf16: bool) -> f64 {
        let target = &self.target;
        let peak = if multiplies_bf16 { target.peak_bf16 } else { target.peak_f32 };
        peak * f64::from(target.cores.min(target.threads))
    }

    /// Seconds that a node takes at the bounds.
    pub fn seconds(&self, graph: &Graph, node: &Node) -> f64 {
        let target = &self.target;
        let family = family(&node.op);
        let multiplies_bf16 = family == Family::Product
            && node.operands.iter().any(|&operand| graph.ty(operand).dtype == DType::Bf16);
        let peak = self.peak(multiplies_bf16);
        let rows = node.operands.first().and_then(|&x| graph.ty(x).dims.first()).map_or(1, |dim| dim.bound);
        let compute = graph.node_flops(node) as f64 / (peak * efficiency(family, rows.max(1)));
        let memory = bytes(graph, node) as f64 / target.memory_bandwidth;
        compute.max(memory) + LAUNCH_SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_graphs::text::parse;

    fn model() -> CostModel {
        CostModel::new(&Target {
            cores: 2,
            peak_f32: 50e9,
            peak_bf16: 100e9,
            memory_bandwidth: 10e9,
            ..Target::default()
        })
    }

    fn seconds(node: &str) -> f64 {
        let graph = parse(&format!(
            "graph @g(\n  %x: batch \"x\" f32[slots:512, 4096],\n  %b: batch \"b\" bf16[slots:512, 4096],\n  \
             %w: weight \"w\" f32[4096, 4096],\n  %v: weight \"v\" bf16[4096, 4096],\n  \
             %e: weight \"e\" bf16[50400, 4096],\n  %i: batch \"i\" i32[slots:512],\n) {{\n  %y = {node}\n  \
             return \"y\" %y\n}}\n"
        ))
        .unwrap();
        let (_, node) = graph.nodes().next().unwrap();
        model().seconds(&graph, node)
    }

    #[test]
    fn products_are_bound_by_the_peak_and_passes_by_the_bandwidth() {
        let flops = 2.0 * 512.0 * 4096.0 * 4096.0;
        let product = seconds("matmul %x, %w {form = nt} : f32[slots:512, 4096]");
        assert!((product * 0.876 * 100e9 / flops - 1.0).abs() < 0.01, "{product}");
        let bf16 = seconds("matmul %b, %v {form = nt} : f32[slots:512, 4096]");
        assert!((product / bf16 - 2.0).abs() < 0.01, "{bf16}");
        let pass = seconds("scale %x {factor = 2} : f32[slots:512, 4096]");
        assert!((pass * 10e9 / (2.0 * 512.0 * 4096.0 * 4.0) - 1.0).abs() < 0.01, "{pass}");
    }

    #[test]
    fn only_the_rows_of_the_embedding_table_that_are_looked_up_are_moved() {
        let look_up = seconds("embedding %e, %i : f32[slots:512, 4096]");
        assert!(look_up * 10e9 < 2.0 * 512.0 * 4096.0 * 4.0, "{look_up}");
    }
}
