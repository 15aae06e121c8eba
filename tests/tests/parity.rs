//! f32 plans against what Hugging Face transformers, PEFT and torch's AdamW compute in float32.
//!
//! The bounds are about ten times the distance between PyTorch's own float32 and float64 runs.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_runtime::data::window::Window;
use gptjc_tests::golden::{Golden, gradients, read_tensors, relative_l2};

const LOSS: f64 = 2e-6;
const GRAD_NORM: f64 = 1e-5;
const GRADIENT: f64 = 1e-5;
const PARAMETER: f64 = 5e-6;
const CHANGE: f64 = 5e-4;

fn relative(found: f64, expected: f64) -> f64 {
    ((found - expected) / expected).abs()
}

/// What `clip_grad_norm_` multiplied the first step's gradients by. `make_golden.py` says that they are stored before
/// clipping, but it stores references, which `clip_grad_norm_` then changes in place: the files hold clipped ones.
fn clip_factor(golden: &Golden) -> f32 {
    let norm = f64::from(golden.expected.grad_norm[0]);
    (golden.expected.hyper_parameters.clip / (norm + 1e-6)).min(1.0) as f32
}

fn check_case(name: &str) {
    let golden = Golden::open(name);
    let expected = &golden.expected;
    let mut trainer = golden.trainer(&golden.compile_options(), golden.train_options());
    let expected_tensors = read_tensors(&golden.dir.join("expected.safetensors"));
    for (index, windows) in golden.steps().iter().enumerate() {
        let windows: Vec<&Window> = windows.iter().collect();
        if index == 0 {
            let (_, labelled) = trainer.accumulate(&windows).unwrap();
            let clip = clip_factor(&golden);
            for (parameter, mut gradient) in gradients(&mut trainer, windows.len(), labelled) {
                gradient.iter_mut().for_each(|element| *element *= clip);
                let distance = relative_l2(&gradient, &expected_tensors[&format!("grad.{parameter}")]);
                assert!(distance <= GRADIENT, "{name}: gradient of {parameter}: relative L2 {distance:.2e}");
            }
        }
        let report = trainer.step(&windows, golden.schedule().rate(trainer.done())).unwrap();
        let at = format!("{name}, step {}", report.step);
        let loss = relative(report.loss.into(), expected.loss[index].into());
        assert!(loss <= LOSS, "{at}: loss {} for {}: {loss:.2e}", report.loss, expected.loss[index]);
        let norm = relative(report.grad_norm.into(), expected.grad_norm[index].into());
        assert!(
            norm <= GRAD_NORM,
            "{at}: norm {} for {}: {norm:.2e}",
            report.grad_norm,
            expected.grad_norm[index]
        );
        assert_eq!(report.learning_rate, expected.learning_rate[index], "{at}");
    }
    check_parameters(&golden, name, &mut trainer);
}

fn check_parameters(golden: &Golden, name: &str, trainer: &mut gptjc_runtime::train::Trainer) {
    let full = golden.expected.hyper_parameters.full;
    let file = if full { "model.safetensors" } else { "adapter_model.safetensors" };
    let first = read_tensors(&golden.dir.join("adapter_init").join(file));
    let last = read_tensors(&golden.dir.join("adapter_final").join(file));
    let found = trainer.parameters().unwrap();
    assert_eq!(found.len(), last.len(), "{name}: number of parameters");
    for (parameter, tensor) in found {
        let (first, last) = (&first[&parameter], &last[&parameter]);
        let distance = relative_l2(&tensor.values, last);
        assert!(distance <= PARAMETER, "{name}: {parameter}: relative L2 {distance:.2e}");
        let change = |values: &[f32]| values.iter().zip(first).map(|(v, f)| v - f).collect::<Vec<_>>();
        let distance = relative_l2(&change(&tensor.values), &change(last));
        assert!(distance <= CHANGE, "{name}: change of {parameter}: relative L2 {distance:.2e}");
    }
}

#[test]
fn plain() {
    check_case("plain");
}

#[test]
fn padded_on_the_right_with_warm_up_and_weight_decay() {
    check_case("padded");
}

#[test]
fn accumulated_with_left_padding_and_uneven_labels() {
    check_case("accumulate");
}

#[test]
fn all_parameters() {
    check_case("full");
}

#[test]
fn all_targets_with_rslora() {
    check_case("alltargets");
}
