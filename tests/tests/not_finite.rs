//! A loss or gradient that is not finite: nothing changes, and where it comes from is found.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::plan::{CompileOptions, Precision};
use gptjc_runtime::data::window::Window;
use gptjc_runtime::train::{TrainError, Trainer};
use gptjc_tests::golden::Golden;

fn options(golden: &Golden, precision: Precision, micro_batch: u64) -> CompileOptions {
    let mut options = golden.compile_options();
    (options.precision, options.micro_batch) = (precision.into(), micro_batch);
    options
}

fn parameters(trainer: &mut Trainer) -> Vec<Vec<u32>> {
    let tensors = trainer.parameters().unwrap();
    tensors.values().map(|tensor| tensor.values.iter().map(|value| value.to_bits()).collect()).collect()
}

/// What temporaries hold outside of what is in use, or a step leaves behind on purpose, must not be taken for a fault.
#[test]
fn nothing_is_found_in_steps_that_are_finite() {
    for (name, precision, micro_batch) in [
        ("accumulate", Precision::F32, 2),
        ("accumulate", Precision::Bf16, 1),
        ("padded", Precision::Bf16, 2),
        ("full", Precision::F32, 1),
    ] {
        let golden = Golden::open(name);
        let mut trainer = golden.trainer(&options(&golden, precision, micro_batch), golden.train_options());
        for windows in golden.steps().iter().take(2) {
            let windows: Vec<&Window> = windows.iter().collect();
            assert_eq!(trainer.find_origin(&windows).unwrap(), None, "{name}, {precision}");
            trainer.step(&windows, 1e-3).unwrap();
        }
    }
}

#[test]
fn a_parameter_that_is_none_is_named_and_no_other_changes() {
    for micro_batch in [1, 2, 3] {
        let golden = Golden::open("accumulate");
        let mut trainer =
            golden.trainer(&options(&golden, Precision::F32, micro_batch), golden.train_options());
        let steps = golden.steps();
        let step = |index: usize| steps[index].iter().collect::<Vec<&Window>>();
        trainer.step(&step(0), 1e-3).unwrap();
        trainer.check_parameters().unwrap();
        let name = "base_model.model.transformer.h.1.attn.k_proj.lora_A.weight";
        trainer.executor().write_at(name, 65, &[f32::NAN]).unwrap();
        let before = parameters(&mut trainer);
        let error = trainer.step(&step(1), 1e-3).unwrap_err();
        let TrainError::NotFinite(found) = error else { panic!("{error}") };
        assert_eq!((found.step, found.what), (2, "the loss"));
        let origin = found.origin.unwrap();
        assert_eq!(origin.tensor, format!("parameter `{name}` at [1, 1]"));
        assert_eq!(origin.windows, 0..1, "the first window already shows it");
        assert!(parameters(&mut trainer) == before, "a step that went wrong changes nothing");
        let message = trainer.check_parameters().unwrap_err().to_string();
        assert!(message.starts_with(&format!("after optimizer step 1, parameter `{name}`")), "{message}");
    }
}

#[test]
fn a_gradient_that_overflows_is_found_in_its_window() {
    let golden = Golden::open("accumulate");
    let mut trainer = golden.trainer(&options(&golden, Precision::F32, 2), golden.train_options());
    let steps = golden.steps();
    let windows: Vec<&Window> = steps[0].iter().collect();
    // B is zero at the start; finite but enormous, it lets the forward pass overflow.
    let name = "base_model.model.transformer.h.0.attn.q_proj.lora_B.weight";
    let elements = trainer.executor().read::<f32>(name).unwrap().len();
    trainer.executor().write(name, &vec![3e38f32; elements]).unwrap();
    let error = trainer.step(&windows, 1e-3).unwrap_err();
    let TrainError::NotFinite(found) = error else { panic!("{error}") };
    let origin = found.origin.unwrap();
    assert!(origin.tensor.contains("in `transformer.h.0."), "{origin:?}");
    assert_eq!(origin.windows.len(), 1, "{origin:?}");
}
