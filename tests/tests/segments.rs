//! Packing k examples into one window gives the loss and the gradients of the k examples computed alone.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::plan::Packing;
use gptjc_runtime::data::window::Window;
use gptjc_tests::golden::{Golden, gradients, relative_l2};
use std::collections::BTreeMap;

/// The first `length` tokens of a row, as a window of its own.
fn example(row: &Window, length: usize) -> Window {
    let mut targets = row.targets[..length].to_vec();
    targets[length - 1] = None;
    Window {
        tokens: row.tokens[..length].to_vec(),
        positions: (0..length as u32).collect(),
        segments: vec![length as u32],
        targets,
    }
}

fn side_by_side(examples: &[Window]) -> Window {
    let mut packed = Window::default();
    for example in examples {
        packed.tokens.extend(&example.tokens);
        packed.positions.extend(&example.positions);
        packed.segments.extend(&example.segments);
        packed.targets.extend(&example.targets);
    }
    packed
}

/// Sum of the loss and of the gradients over the labelled tokens of `windows`.
fn sums(windows: &[Window]) -> (f64, BTreeMap<String, Vec<f32>>) {
    let golden = Golden::open("plain");
    let mut options = golden.compile_options();
    options.packing = Packing::Segments.into();
    options.step_windows = windows.len() as u64;
    options.per_device_train_batch_size = windows.len() as u64;
    let train_options = gptjc_runtime::train::TrainOptions {
        per_device_train_batch_size: windows.len(),
        ..golden.train_options()
    };
    let mut trainer = golden.trainer(&options, train_options);
    let windows: Vec<&Window> = windows.iter().collect();
    let evaluation = trainer.evaluate(&windows).unwrap();
    trainer.accumulate(&windows).unwrap();
    (evaluation.loss * evaluation.labelled as f64, gradients(&mut trainer, windows.len(), 1))
}

#[test]
fn packed_examples_are_the_examples_alone() {
    let rows: Vec<Window> = Golden::open("plain").steps().into_iter().flatten().take(3).collect();
    let examples = [example(&rows[0], 5), example(&rows[1], 2), example(&rows[2], 9)];
    let (packed_loss, packed_gradients) = sums(&[side_by_side(&examples)]);
    let mut loss = 0.0;
    let mut expected: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for example in &examples {
        let (example_loss, gradients) = sums(std::slice::from_ref(example));
        loss += example_loss;
        for (name, gradient) in gradients {
            let sum = expected.entry(name).or_insert_with(|| vec![0.0; gradient.len()]);
            for (sum, g) in sum.iter_mut().zip(gradient) {
                *sum += g;
            }
        }
    }
    assert!(((packed_loss - loss) / loss).abs() <= 1e-6, "loss {packed_loss} packed, {loss} alone");
    for (name, gradient) in packed_gradients {
        let distance = relative_l2(&gradient, &expected[&name]);
        assert!(distance <= 1e-6, "gradient of {name}: relative L2 {distance:.2e}");
    }
}
