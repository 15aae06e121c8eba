//! Dropout of the adapters' inputs: the masks of the training graph are as random as they should be, the same however
//! a step is cut, and the gradients are those of the masked function.
//!
//! Masks are read off the graph itself, by adding the results of its dropouts to its outputs. Seeds are fixed: what
//! is within a bound once stays there.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::graph::Node;
use gptjc_graphs::models::gptj::names::Projection;
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{CompileOptions, LoraOptions, ModelConfig};
use gptjc_runtime::data::window::Window;
use gptjc_runtime::train::TrainOptions;
use gptjc_tests::golden;
use gptjc_tests::interpreted::{Interpreted, Values};
use gptjc_tests::random_model::{self, LabelledToken, Random};
use std::collections::BTreeMap;

const P: f64 = 0.05;

/// The last block, which works on labelled rows but for its keys and values; its masks, of fewer rows, are those of the
/// slots, which the op's own test shows. The tests here look at the blocks before it.
const LAST_BLOCK: &str = "transformer.h.2.";

/// A model with adapters everywhere; all projections but `fc_out` read `n_embd` lanes.
fn options(n_embd: u64, p: f64, window_length: usize, windows: usize) -> CompileOptions {
    let model = ModelConfig {
        n_layer: 3,
        n_embd,
        n_head: 2,
        rotary_dim: 4,
        n_inner: n_embd,
        vocab_size: 31,
        n_positions: 64,
        layer_norm_epsilon: 1e-5,
    };
    let targets = Projection::ALL.map(|projection| projection.name().to_owned()).to_vec();
    let lora =
        LoraOptions { rank: 2, alpha: 3.0, dropout: p, targets, use_rslora: false, only_in: Vec::new() };
    random_model::compile_options(model, Some(lora), window_length, windows)
}

/// Windows of these lengths, every token labelled.
fn windows(options: &CompileOptions, lengths: &[usize]) -> Vec<Window> {
    let mut random = Random::new(5);
    let vocab = options.model.vocab_size;
    let mut token = || -> LabelledToken { (random.below(vocab) as u32, Some(random.below(vocab) as u32)) };
    let mut window =
        |&length: &usize| random_model::window(&[(0..length).map(|_| token()).collect()], options);
    lengths.iter().map(&mut window).collect()
}

/// A dropout of the micro-step: which module's, and whether of the forward pass or of the gradient.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    module: String,
    backward: bool,
}

/// The micro-step with what goes into its dropouts and what comes out.
struct Observed {
    interpreted: Interpreted,
    sites: Vec<Site>,
}

impl Observed {
    fn new(options: &CompileOptions) -> Self {
        let mut interpreted = Interpreted::new(options, &random_model::tensors(options, 3));
        let graph = &mut interpreted.program.micro_step;
        let is_dropout =
            |node: &&Node| matches!(node.op, Op::Dropout(_)) && !node.module.starts_with(LAST_BLOCK);
        let dropouts: Vec<Node> = graph.nodes().map(|(_, node)| node).filter(is_dropout).cloned().collect();
        let mut sites: Vec<Site> = Vec::new();
        for (index, node) in dropouts.into_iter().enumerate() {
            let module = node.module;
            let backward = sites.iter().any(|site| site.module == module);
            sites.push(Site { module, backward });
            graph.output(&format!("before.{index}"), node.operands[0]);
            graph.output(&format!("after.{index}"), node.results[0]);
        }
        Self { interpreted, sites }
    }

    /// The masks of all dropouts in one micro-step: for each slot and lane, if it is kept, or none if it is 0 anyway.
    fn masks(&self, windows: &[&Window], seed: u64, step: u32) -> BTreeMap<Site, Vec<Option<bool>>> {
        let outputs = self.interpreted.accumulate(windows, seed, step).outputs;
        let mask = |(index, site): (usize, &Site)| (site.clone(), mask(&outputs, index));
        self.sites.iter().enumerate().map(mask).collect()
    }

    /// The masks of the forward pass only.
    fn forward_masks(&self, windows: &[&Window], seed: u64, step: u32) -> Vec<(String, Vec<bool>)> {
        let masks = self.masks(windows, seed, step).into_iter().filter(|(site, _)| !site.backward);
        masks.map(|(site, mask)| (site.module, mask.into_iter().map(Option::unwrap).collect())).collect()
    }
}

/// What a dropout kept; what it kept is scaled.
fn mask(outputs: &Values, index: usize) -> Vec<Option<bool>> {
    let read = |name: &str| outputs[&format!("{name}.{index}")].floats().unwrap();
    let keep = |(&before, &after): (&f64, &f64)| {
        assert!(
            after == 0.0 || after == before * (1.0 / (1.0 - P)),
            "dropout {index}: {before} became {after}"
        );
        (before != 0.0).then_some(after != 0.0)
    };
    read("before").iter().zip(read("after")).map(keep).collect()
}

/// Number of dropped elements minus its mean, in standard deviations.
fn deviation(mask: &[bool]) -> f64 {
    let (n, dropped) = (mask.len() as f64, mask.iter().filter(|&&keep| !keep).count() as f64);
    (dropped - n * P) / (n * P * (1.0 - P)).sqrt()
}

/// Correlation of two masks, in standard deviations of what independent masks have.
///
/// With the standardised elements `z = (dropped - p) / sqrt(p (1 - p))`, the mean of `z1 z2` over n independent pairs
/// has mean 0 and variance 1/n.
fn correlation<'m>(pairs: impl Iterator<Item = (&'m bool, &'m bool)>) -> f64 {
    let standard = |&keep: &bool| (if keep { -P } else { 1.0 - P }) / (P * (1.0 - P)).sqrt();
    let (sum, n) = pairs.fold((0.0, 0.0), |(sum, n), (a, b)| (sum + standard(a) * standard(b), n + 1.0));
    sum / f64::sqrt(n)
}

fn of<'m>(a: &'m [bool], b: &'m [bool]) -> f64 {
    assert_eq!(a.len(), b.len());
    correlation(a.iter().zip(b))
}

/// Bound on standardised sums. A test looks at less than 10,000 of them; a normal one is outside of 5.5 once in
/// 26 million times. The sums are of more than 1,000 elements with p = 0.05, so their tails are heavier than normal,
/// by less than ten times. What is not independent is far outside: equal masks are at the root of n, more than 60.
const SIGMAS: f64 = 5.5;

/// Runs of the statistical tests: seeds that differ in their low and in their high word, and steps.
const RUNS: [(u64, u32); 5] = [(42, 0), (43, 0), (42 + (1 << 32), 0), (42, 1), (42, 2)];

/// The forward masks of all runs on the same 4 windows of 64 tokens and 32 lanes.
fn sample() -> Vec<(String, Vec<bool>)> {
    let options = options(32, P, 64, 4);
    let windows = windows(&options, &[64; 4]);
    let windows: Vec<&Window> = windows.iter().collect();
    let observed = Observed::new(&options);
    let mut sample = Vec::new();
    for (seed, step) in RUNS {
        let masks = observed.forward_masks(&windows, seed, step);
        assert_eq!(masks.len(), 12, "a dropout for each of 6 adapters in 2 blocks");
        sample.extend(
            masks.into_iter().map(|(module, mask)| (format!("{module}, seed {seed}, step {step}"), mask)),
        );
    }
    sample
}

#[test]
fn one_in_twenty_is_dropped() {
    let sample = sample();
    let all: Vec<bool> = sample.iter().flat_map(|(_, mask)| mask.iter().copied()).collect();
    assert_eq!(all.len(), 60 * 8192);
    let deviates = sample.iter().map(|(name, mask)| (name.as_str(), deviation(mask)));
    for (name, deviation) in deviates.chain([("all masks", deviation(&all))]) {
        assert!(deviation.abs() < SIGMAS, "{name}: the number dropped is {deviation:.1} deviations off");
    }
    // Nor do the masks agree with their mean too well, as those of a generator without chance would.
    let squares: f64 = sample.iter().map(|(_, mask)| deviation(mask).powi(2)).sum();
    assert!((25.0..110.0).contains(&squares), "chi square with 60 degrees of freedom: {squares:.0}");
}

#[test]
fn modules_layers_steps_and_seeds_have_masks_of_their_own() {
    let sample = sample();
    let mut squares = 0.0;
    for (index, (name, mask)) in sample.iter().enumerate() {
        for (other_name, other) in &sample[..index] {
            let correlation = of(mask, other);
            assert!(correlation.abs() < SIGMAS, "{name} and {other_name}: {correlation:.1} deviations");
            squares += correlation * correlation;
        }
    }
    // 60 * 59 / 2 pairs: mean 1770, standard deviation 59.
    assert!((1450.0..2090.0).contains(&squares), "chi square with 1770 degrees of freedom: {squares:.0}");
}

#[test]
fn windows_slots_and_lanes_have_masks_of_their_own() {
    const WINDOW: usize = 64 * 32;
    for (name, mask) in sample() {
        let windows: Vec<&[bool]> = mask.chunks(WINDOW).collect();
        for (index, window) in windows.iter().enumerate() {
            for (other_index, other) in windows[..index].iter().enumerate() {
                let correlation = of(window, other);
                let at = format!("{name}, windows {index} and {other_index}");
                assert!(correlation.abs() < SIGMAS, "{at}: {correlation:.1} deviations");
            }
        }
        // Neighbours: lanes of one random block and of the next, the slot after, four slots after.
        for distance in [1, 2, 3, 4, 8, 32, 128] {
            let pairs = windows.iter().flat_map(|window| window.iter().zip(&window[distance..]));
            let correlation = correlation(pairs);
            assert!(correlation.abs() < SIGMAS, "{name}, {distance} apart: {correlation:.1} deviations");
        }
    }
}

#[test]
fn the_gradient_has_the_mask_of_the_forward_pass() {
    let options = options(16, P, 12, 3);
    let windows = windows(&options, &[12, 5, 9]);
    let interpreted = Observed::new(&options);
    let masks = interpreted.masks(&windows.iter().collect::<Vec<_>>(), 7, 3);
    let backward: Vec<_> = masks.iter().filter(|(site, _)| site.backward).collect();
    assert_eq!(backward.len(), 12, "a gradient of each of 6 adapters in 2 blocks");
    for (site, mask) in backward {
        let forward = &masks[&Site { backward: false, ..site.clone() }];
        // The last token of a window has no gradient, nor has the query of the first: they tell nothing.
        let told: Vec<_> = mask.iter().zip(forward).filter(|(gradient, _)| gradient.is_some()).collect();
        assert!(told.len() >= (26 - 2 * 3) * 16, "{}: {} of {}", site.module, told.len(), mask.len());
        assert!(told.iter().all(|(gradient, forward)| gradient == forward), "{}", site.module);
    }
}

#[test]
fn masks_do_not_depend_on_how_a_step_is_cut() {
    let lengths = [7, 12, 1, 9, 4];
    let mut options = options(16, P, 12, 5);
    let windows = windows(&options, &lengths);
    let windows: Vec<&Window> = windows.iter().collect();
    let whole = Observed::new(&options);
    let masks = whole.forward_masks(&windows, 11, 2);
    let sums = whole.interpreted.accumulate(&windows, 11, 2);
    for micro_batch in 1..5 {
        options.micro_batch = micro_batch;
        let cut = Observed::new(&options);
        let cut_sums = cut.interpreted.accumulate(&windows, 11, 2);
        assert_eq!(cut_sums.loss, sums.loss, "micro-batches of {micro_batch} windows");
        assert_eq!(cut_sums.gradients, sums.gradients, "micro-batches of {micro_batch} windows");
        // Only the last micro-step's masks are still there.
        let last = (lengths.len() - 1) / micro_batch as usize * micro_batch as usize;
        let slots: usize = lengths[last..].iter().sum();
        let cut_masks = cut.forward_masks(&windows, 11, 2);
        for ((module, cut), (_, mask)) in cut_masks.iter().zip(&masks) {
            let tail = &mask[mask.len() - slots * 16..];
            assert_eq!(cut, tail, "{module}, micro-batches of {micro_batch} windows");
        }
    }
}

/// The derivative of the summed loss by one element, from five points.
///
/// With h = 1e-3, rounding leaves about 1e-14 * loss / h = 1e-9 and the fifth derivative h^4 / 30 = 3e-14 times it.
fn finite_difference(interpreted: &mut Interpreted, windows: &[&Window], name: &str, element: usize) -> f64 {
    const H: f64 = 1e-3;
    let mut loss = |steps: f64| {
        interpreted.shift(name, element, steps * H);
        let loss = interpreted.accumulate(windows, 9, 4).loss;
        interpreted.shift(name, element, -steps * H);
        loss
    };
    (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * H)
}

#[test]
fn gradients_with_masks_are_finite_differences() {
    // More is dropped than in training, so that a mask that is wrong cannot hide.
    let options = options(8, 0.3, 9, 2);
    let windows = windows(&options, &[9, 4]);
    let windows: Vec<&Window> = windows.iter().collect();
    let tensors = random_model::tensors(&options, 3);
    let mut interpreted = Interpreted::new(&options, &tensors);
    let gradients = interpreted.accumulate(&windows, 9, 4).gradients;
    assert_eq!(gradients.len(), 36);
    let mut without = options.clone();
    without.lora.as_mut().unwrap().dropout = 0.0;
    let unmasked = Interpreted::new(&without, &tensors).accumulate(&windows, 9, 4).gradients;
    let mut random = Random::new(1);
    for (name, gradient) in &gradients {
        let largest = gradient.iter().fold(0.0, |max: f64, g| max.max(g.abs()));
        let far = gradient.iter().zip(&unmasked[name]).any(|(g, u)| (g - u).abs() > 1e-3 * largest);
        assert!(far, "{name}: the masks change nothing, so this test would see nothing");
        for _ in 0..3 {
            let element = random.below(gradient.len() as u64) as usize;
            let expected = finite_difference(&mut interpreted, &windows, name, element);
            let distance = (gradient[element] - expected).abs();
            let at = format!("{name}[{element}]: {} for {expected}", gradient[element]);
            assert!(distance <= 1e-6 * largest, "{at}, largest {largest}");
        }
    }
}

#[test]
fn evaluation_has_no_dropout() {
    let with = options(16, P, 12, 2);
    let mut without = with.clone();
    without.lora.as_mut().unwrap().dropout = 0.0;
    let windows = windows(&with, &[12, 7]);
    let windows: Vec<&Window> = windows.iter().collect();
    let tensors = random_model::tensors(&with, 3);
    let [dropped, whole] = [&with, &without].map(|options| Interpreted::new(options, &tensors));
    let losses = whole.evaluate(&windows);
    assert_eq!(dropped.evaluate(&windows), losses);
    let loss: f64 = losses.iter().sum();
    assert!((whole.accumulate(&windows, 1, 1).loss - loss).abs() < 1e-12 * loss);
    assert!((dropped.accumulate(&windows, 1, 1).loss - loss).abs() > 1e-4 * loss, "training has dropout");
}

#[test]
fn the_compiled_plan_draws_the_same_masks() {
    let mut options = options(16, 0.3, 12, 3);
    options.micro_batch = 2;
    let windows = windows(&options, &[12, 5, 8]);
    let windows: Vec<&Window> = windows.iter().collect();
    let tensors = random_model::tensors(&options, 3);
    let seed = 77 + (5 << 32);
    let train = TrainOptions { per_device_train_batch_size: 3, seed, threads: 2, ..TrainOptions::default() };
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = random_model::trainer(&options, &tensors, train, dir.path());
    trainer.accumulate(&windows).unwrap();
    let found = golden::gradients(&mut trainer, 3, 1);
    let expected = Interpreted::new(&options, &tensors).accumulate(&windows, seed, 0).gradients;
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in &expected {
        let expected: Vec<f32> = expected.iter().map(|&x| x as f32).collect();
        let distance = golden::relative_l2(&found[name], &expected);
        assert!(distance < 1e-4, "{name}: relative L2 {distance:.2e}");
    }
    let evaluation = trainer.evaluate(&windows).unwrap();
    let loss = evaluation.loss * evaluation.labelled as f64;
    let expected: f64 = Interpreted::new(&options, &tensors).evaluate(&windows).iter().sum();
    assert!(((loss - expected) / expected).abs() < 1e-5, "evaluation: {loss} for {expected}");
}
