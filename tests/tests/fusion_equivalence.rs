//! The passes leave a graph's meaning alone: the interpreter gives the same loss and gradients before and after.
//!
//! Fusions reorder sums and nothing else, so in f64 what differs is rounding of the last bits, and in f32 the same 2^29
//! times larger.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_compiler::{pass_manager, pipeline};
use gptjc_graphs::models::gptj::names::Projection;
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{CompileOptions, Isa, LoraOptions, ModelConfig, Precision};
use gptjc_graphs::text::{print, statement};
use gptjc_runtime::data::window::Window;
use gptjc_tests::interpreted::{Interpreted, Sums};
use gptjc_tests::random_model::{self, LabelledToken, Random};

/// Largest relative L2 distance in f64: hundreds of roundings of 2^-53 in chains of at most a few hundred terms, amplified
/// by layer norms of few lanes.
const F64: f64 = 1e-11;
/// The same in f32, whose roundings are 2^29 times larger, of which norms of whole tensors see the root mean square.
const F32: f64 = 5e-4;
/// Random cases: all combinations of what they choose from are met.
const CASES: u64 = 40;

struct Case {
    options: CompileOptions,
    windows: Vec<Window>,
    seed: u64,
}

impl Case {
    fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pick = |bound: u64| random.below(bound);
        let n_head = 1 + pick(3);
        let n_embd = n_head * (8 + 2 * pick(3));
        let model = ModelConfig {
            n_layer: 1 + pick(3),
            n_embd,
            n_head,
            rotary_dim: 2 + 2 * pick(3),
            n_inner: 5 + pick(40),
            vocab_size: 7 + pick(40),
            n_positions: 40,
            layer_norm_epsilon: 1e-3,
        };
        let targets: Vec<String> = Projection::ALL
            .iter()
            .filter(|_| pick(2) == 0)
            .map(|projection| projection.name().to_owned())
            .collect();
        let mut lora = (seed % 8 != 7).then(|| LoraOptions {
            rank: 1 + pick(4),
            alpha: 1.0 + pick(9) as f64,
            dropout: [0.0, 0.25][pick(2) as usize],
            targets: if targets.is_empty() { vec!["v_proj".to_owned()] } else { targets },
            use_rslora: false,
            only_in: Vec::new(),
        });
        if let Some(lora) = lora.as_mut().filter(|_| seed % 2 == 1) {
            thin_out(lora, &mut Random::new(seed), model.n_layer);
        }
        let windows: Vec<Vec<Vec<LabelledToken>>> = (0..1 + pick(3))
            .map(|_| {
                (0..1 + pick(3))
                    .map(|_| {
                        let token = |pick: &mut dyn FnMut(u64) -> u64| {
                            let label = pick(model.vocab_size) as u32;
                            (pick(model.vocab_size) as u32, (pick(2) == 0).then_some(label))
                        };
                        (0..2 + pick(8)).map(|_| token(&mut pick)).collect()
                    })
                    .collect()
            })
            .collect();
        let length = |window: &Vec<Vec<LabelledToken>>| window.iter().map(Vec::len).sum::<usize>();
        let longest = windows.iter().map(length).max().unwrap();
        let mut options = random_model::compile_options(model, lora, longest, windows.len());
        options.micro_batch = 1 + seed % windows.len() as u64;
        let windows = windows.iter().map(|segments| random_model::window(segments, &options)).collect();
        Case { options, windows, seed }
    }

    /// Loss and gradients by the interpreter, after the passes if `fused`.
    fn sums(&self, fused: bool, in_f32: bool) -> (Sums, Vec<f64>) {
        let mut interpreted =
            Interpreted::new(&self.options, &random_model::tensors(&self.options, self.seed));
        interpreted.in_f32 = in_f32;
        if fused {
            let passes = pipeline::passes(Precision::F32, Isa::Portable);
            for graph in [&mut interpreted.program.micro_step, &mut interpreted.program.forward] {
                pass_manager::run(&passes, graph).unwrap();
            }
            self.check_fused(&interpreted);
        }
        let windows: Vec<&Window> = self.windows.iter().collect();
        (interpreted.accumulate(&windows, self.seed, 3), interpreted.evaluate(&windows))
    }

    /// Loss and gradients after the passes for `precision`, with the activations of `blocks` blocks recomputed, and how
    /// many nodes that took.
    fn recomputed(&self, precision: Precision, blocks: Option<usize>) -> (Sums, usize) {
        let mut interpreted =
            Interpreted::new(&self.options, &random_model::tensors(&self.options, self.seed));
        let graph = &mut interpreted.program.micro_step;
        pass_manager::run(&pipeline::passes(precision, Isa::Avx512Bf16), graph).unwrap();
        let before = graph.node_count();
        if let Some(blocks) = blocks {
            pass_manager::run(&pipeline::memory_passes(blocks), graph).unwrap();
        }
        let more = graph.node_count() - before;
        let windows: Vec<&Window> = self.windows.iter().collect();
        (interpreted.accumulate(&windows, self.seed, 3), more)
    }

    /// Nothing of the patterns is left.
    fn check_fused(&self, interpreted: &Interpreted) {
        let graph = &interpreted.program.micro_step;
        for (id, node) in graph.nodes() {
            let is_left = match &node.op {
                Op::SegmentScores(_) | Op::SegmentMix(_) | Op::MaskedSoftmax(_) | Op::Rotary(_) => true,
                // Where all is trained, gradients of whole weights and of lm_head read what the fusions would take.
                Op::Matmul(_) | Op::CrossEntropy(_) | Op::Add(_) | Op::Dropout(_) => {
                    self.options.lora.is_some()
                }
                _ => false,
            };
            assert!(!is_left, "case {}: `{}` is left of {}", self.seed, statement(graph, id), print(graph));
        }
    }

    fn check(&self, in_f32: bool, bound: f64) {
        let (before, evaluated_before) = self.sums(false, in_f32);
        let (after, evaluated_after) = self.sums(true, in_f32);
        let at = format!("case {} ({:?})", self.seed, self.options.lora);
        let loss = (after.loss - before.loss).abs() / before.loss.max(f64::MIN_POSITIVE);
        assert!(loss <= bound, "{at}: loss {} for {}: {loss:.1e}", after.loss, before.loss);
        let forward = distance(&evaluated_after, &evaluated_before);
        assert!(forward <= bound, "{at}: losses of windows: {forward:.1e}");
        assert_eq!(before.gradients.len(), after.gradients.len(), "{at}");
        for (name, expected) in &before.gradients {
            let distance = distance(&after.gradients[name], expected);
            assert!(distance <= bound, "{at}: gradient of {name}: {distance:.1e}");
        }
    }
}

/// Takes half of the adapters off, but for the last one.
fn thin_out(lora: &mut LoraOptions, random: &mut Random, n_layer: u64) {
    let mut sites = lora.sites(n_layer);
    let last = sites.last().copied();
    sites.retain(|site| random.below(2) == 0 || Some(*site) == last);
    lora.place(&sites, n_layer);
}

fn distance(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e));
    difference / norm(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)
}

#[test]
fn in_f64() {
    (0..CASES).for_each(|seed| Case::random(seed).check(false, F64));
}

#[test]
fn in_f32() {
    (0..CASES).for_each(|seed| Case::random(seed).check(true, F32));
}

#[test]
fn recomputation_and_early_updates_change_no_bit() {
    let mut more = 0;
    for seed in 0..CASES {
        let case = Case::random(seed);
        let precision = if seed % 2 == 0 { Precision::Bf16 } else { Precision::F32 };
        let (expected, _) = case.recomputed(precision, None);
        for blocks in 0..=case.options.model.n_layer as usize {
            let (found, nodes) = case.recomputed(precision, Some(blocks));
            let at = format!("case {seed}, {precision}, {blocks} blocks ({:?})", case.options.lora);
            assert_eq!(found.loss, expected.loss, "{at}");
            assert_eq!(found.gradients, expected.gradients, "{at}");
            more += nodes;
        }
    }
    assert!(more > 10 * CASES as usize, "only {more} nodes were computed again");
}
