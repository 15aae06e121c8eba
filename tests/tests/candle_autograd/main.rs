//! candle's autograd as a second opinion: loss and gradients of small random models, from the training graph and from
//! a GPT-J written a second time over candle's tensors.
//!
//! The graph is run in f64 by the reference interpreter, where the two may differ by the order of sums only, and as a
//! compiled f32 plan.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

mod gptj;

use gptj::{Gptj, Sums};
use gptjc_graphs::models::gptj::names::Projection;
use gptjc_graphs::plan::{CompileOptions, LoraOptions, ModelConfig};
use gptjc_runtime::data::window::Window;
use gptjc_runtime::train::TrainOptions;
use gptjc_tests::golden;
use gptjc_tests::interpreted::Interpreted;
use gptjc_tests::random_model::{self, LabelledToken, Random, Tensors};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Largest relative distance of two f64 evaluations: a few hundred roundings of 2^-53, in chains a few thousand long,
/// amplified by layer norms of few lanes.
const EXACT: f64 = 1e-9;
const F32_LOSS: f64 = 1e-5;
const F32_GRADIENT: f64 = 1e-4;
/// Roundings on the way through a model, compared with one of each weight.
const ROUNDINGS: f64 = 20.0;

/// A model, the data of an optimizer step, and how it is cut.
#[derive(Clone, Debug)]
struct Case {
    options: CompileOptions,
    /// Tokens of each segment of each window.
    windows: Vec<Vec<Vec<LabelledToken>>>,
    seed: u64,
}

fn model() -> impl Strategy<Value = ModelConfig> {
    // Layer norms of fewer than 8 lanes now and then have almost no variance: they amplify every rounding.
    let lanes = (1u64..=3).prop_flat_map(|heads| (Just(heads), 4.max(8 / heads)..=9));
    let heads = lanes.prop_flat_map(|(heads, lanes)| (Just(heads), Just(lanes), 1..=lanes / 2));
    let epsilon = prop::sample::select(vec![1e-8, 1e-5, 1e-3, 0.1]);
    (1u64..=3, heads, 3u64..=40, 3u64..=40, epsilon).prop_map(
        |(n_layer, (n_head, lanes, rotary_pairs), n_inner, vocab_size, layer_norm_epsilon)| ModelConfig {
            n_layer,
            n_embd: n_head * lanes,
            n_head,
            rotary_dim: 2 * rotary_pairs,
            n_inner,
            vocab_size,
            n_positions: 24,
            layer_norm_epsilon,
        },
    )
}

/// Adapters, and for each projection of each layer a bit that says whether it may have one; half the time all may.
fn lora() -> impl Strategy<Value = (LoraOptions, u32)> {
    let names = Projection::ALL.map(|projection| projection.name().to_owned()).to_vec();
    let targets = prop::sample::subsequence(names, 1..=6);
    let places = prop::option::weighted(0.5, any::<u32>()).prop_map(|bits| bits.unwrap_or(u32::MAX));
    let lora = (1u64..=4, 1u64..=64, targets, any::<bool>());
    let lora = lora.prop_map(|(rank, alpha, targets, use_rslora)| LoraOptions {
        rank,
        alpha: alpha as f64,
        dropout: 0.0,
        targets,
        use_rslora,
        only_in: Vec::new(),
    });
    (lora, places)
}

/// Takes adapters off where `places` has no bit, but for the last one.
fn thin_out(lora: &mut LoraOptions, places: u32, n_layer: u64) {
    let mut sites = lora.sites(n_layer);
    let last = sites.last().copied();
    let mut bit = 0;
    sites.retain(|site| {
        bit += 1;
        places >> (bit - 1) & 1 == 1 || Some(*site) == last
    });
    lora.place(&sites, n_layer);
}

/// One to three windows of one or two segments of uneven lengths; six tokens in ten have a label.
fn windows() -> impl Strategy<Value = Vec<Vec<Vec<LabelledToken>>>> {
    let token = (0u32..1000, prop::option::weighted(0.6, 0u32..1000));
    let segment = prop::collection::vec(token, 1..=9);
    let window = prop::collection::vec(segment, 1..=2);
    prop::collection::vec(window, 1..=3).prop_filter("no slot has anything to predict", |windows| {
        windows.iter().flatten().any(|segment| segment[1..].iter().any(|(_, label)| label.is_some()))
    })
}

fn case() -> impl Strategy<Value = Case> {
    // One case in four trains all parameters.
    let shape = (model(), prop::option::weighted(0.75, lora()), windows());
    (shape, 0usize..3, any::<u64>()).prop_map(|((model, lora, mut windows), spare, seed)| {
        let lora = lora.map(|(mut lora, places)| {
            thin_out(&mut lora, places, model.n_layer);
            lora
        });
        let vocab = model.vocab_size as u32;
        for (token, label) in windows.iter_mut().flatten().flatten() {
            *token %= vocab;
            *label = label.map(|label| label % vocab);
        }
        let longest = windows.iter().map(|window| window.iter().map(Vec::len).sum()).max().unwrap_or(0);
        let mut options = random_model::compile_options(model, lora, longest + spare, windows.len());
        options.micro_batch = 1 + seed % windows.len() as u64;
        Case { options, windows, seed }
    })
}

impl Case {
    fn tensors(&self) -> Tensors {
        random_model::tensors(&self.options, self.seed)
    }

    fn windows(&self) -> Vec<Window> {
        self.windows.iter().map(|segments| random_model::window(segments, &self.options)).collect()
    }

    fn candle(&self, tensors: &Tensors) -> Sums {
        let model = Gptj::new(&self.options, tensors).unwrap();
        model.sums(self.windows.iter().flatten()).unwrap()
    }

    /// How far candle's gradients move when every weight is rounded once more: what f32 can do on this model at best.
    fn sensitivity(&self, candle: &Sums) -> BTreeMap<String, f64> {
        let mut tensors = self.tensors();
        let mut random = Random::new(self.seed ^ 1);
        for value in tensors.values_mut().flat_map(|tensor| &mut tensor.values) {
            *value *= 1.0 + f32::EPSILON * random.signed().signum();
        }
        let moved = self.candle(&tensors).gradients;
        candle.gradients.iter().map(|(name, from)| (name.clone(), distance(&moved[name], from))).collect()
    }

    fn interpreted(&self) -> Opinion {
        let windows = self.windows();
        let windows: Vec<&Window> = windows.iter().collect();
        let interpreted = Interpreted::new(&self.options, &self.tensors());
        let sums = interpreted.accumulate(&windows, 0, 0);
        let evaluated = interpreted.evaluate(&windows).iter().sum();
        Opinion { loss: sums.loss, evaluated, gradients: sums.gradients }
    }

    fn compiled(&self) -> Opinion {
        let windows = self.windows();
        let windows: Vec<&Window> = windows.iter().collect();
        let train = TrainOptions {
            per_device_train_batch_size: windows.len(),
            max_grad_norm: 0.0,
            threads: 2,
            ..TrainOptions::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let mut trainer = random_model::trainer(&self.options, &self.tensors(), train, dir.path());
        let evaluation = trainer.evaluate(&windows).unwrap();
        let (_, labelled) = trainer.accumulate(&windows).unwrap();
        let widen = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        let gradients = golden::gradients(&mut trainer, windows.len(), 1)
            .into_iter()
            .map(|(name, values)| (name, widen(values)))
            .collect();
        // The step starts its sums anew, so it reports the loss of the same parameters.
        let report = trainer.step(&windows, 1e-3).unwrap();
        let labelled = labelled as f64;
        Opinion { loss: f64::from(report.loss) * labelled, evaluated: evaluation.loss * labelled, gradients }
    }
}

/// Largest accepted distances.
struct Bounds {
    /// Of the loss, relative.
    loss: f64,
    /// Of a gradient, relative.
    gradient: f64,
    /// Of some gradients, on badly conditioned models: in [`ROUNDINGS`] of these.
    sensitivity: BTreeMap<String, f64>,
}

/// What the training graph says, as sums over labelled tokens.
struct Opinion {
    loss: f64,
    /// The loss by the graph without gradients.
    evaluated: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

impl Opinion {
    /// Says where this differs from `candle` by more than the bounds allow.
    fn check(&self, candle: &Sums, bounds: &Bounds) -> Result<(), String> {
        for (what, loss) in [("micro_step", self.loss), ("forward", self.evaluated)] {
            let distance = ((loss - candle.loss) / candle.loss).abs();
            if distance.is_nan() || distance > bounds.loss {
                return Err(format!("loss of {what}: {loss}, candle has {}: {distance:.2e}", candle.loss));
            }
        }
        let names = |gradients: &BTreeMap<String, Vec<f64>>| gradients.keys().cloned().collect::<Vec<_>>();
        if names(&self.gradients) != names(&candle.gradients) {
            let (ours, theirs) = (names(&self.gradients), names(&candle.gradients));
            return Err(format!("gradients of {ours:?}, candle has those of {theirs:?}"));
        }
        // What cancels leaves the rounding of its terms: a key that nobody else's is compared with has no gradient.
        // The terms are of the size of the whole gradient, or of a label's, which is about 1 at the logits.
        let global = norm(candle.gradients.values().flatten().copied());
        let terms = global.max(candle.labelled as f64);
        for (name, expected) in &candle.gradients {
            let found = &self.gradients[name];
            if found.len() != expected.len() {
                return Err(format!(
                    "gradient of {name}: {} elements, candle has {}",
                    found.len(),
                    expected.len()
                ));
            }
            let difference = distance(found, expected);
            let size = norm(expected.iter().copied());
            let sensitivity = bounds.sensitivity.get(name).copied().unwrap_or_default();
            let accepted = (bounds.gradient * (size + 1e-2 * terms)).max(ROUNDINGS * sensitivity);
            if difference.is_nan() || difference > accepted {
                return Err(format!("gradient of {name}: distance {difference:.2e} of {size:.2e}"));
            }
        }
        Ok(())
    }
}

fn distance(found: &[f64], expected: &[f64]) -> f64 {
    norm(found.iter().zip(expected).map(|(found, expected)| found - expected))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn candle_agrees_on_random_models(case in case()) {
        let candle = case.candle(&case.tensors());
        let labelled: usize = case.windows().iter().map(Window::labelled).sum();
        prop_assert_eq!(labelled, candle.labelled);
        let exact = Bounds { loss: EXACT, gradient: EXACT, sensitivity: BTreeMap::new() };
        let interpreted = case.interpreted().check(&candle, &exact);
        prop_assert!(interpreted.is_ok(), "interpreted in f64: {}", interpreted.unwrap_err());
        let f32 = Bounds { loss: F32_LOSS, gradient: F32_GRADIENT, sensitivity: case.sensitivity(&candle) };
        let compiled = case.compiled().check(&candle, &f32);
        prop_assert!(compiled.is_ok(), "compiled for f32: {}", compiled.unwrap_err());
    }
}
