//! bf16 plans are nearer to Hugging Face's float32 run than PyTorch's own bfloat16 run is.
//!
//! The distances of PyTorch's run are the `bf16_yardstick` of the golden cases.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_compiler::precision::Products;
use gptjc_compiler::{pass_manager, pipeline};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{Isa, Precision};
use gptjc_runtime::data::window::Window;
use gptjc_tests::golden::{Golden, gradients, read_tensors, relative_l2};
use gptjc_tests::interpreted::Interpreted;
use gptjc_tests::random_model::Tensors;

fn bf16(golden: &Golden, isa: Isa) -> gptjc_graphs::plan::CompileOptions {
    let mut options = golden.compile_options();
    options.precision = Precision::Bf16.into();
    options.target.isa = isa.name().to_owned();
    options
}

/// Gradients are nearer all together: the root of the sum of squares over tensors of their relative distances. One tensor's
/// distance is chance to a good part, because rounding of the weights, which both runs have in common, is most of it.
fn check_gradients(name: &str, isa: Isa) {
    let golden = Golden::open(name);
    let expected = read_tensors(&golden.dir.join("expected.safetensors"));
    let yardstick = golden.expected.bf16_yardstick.as_ref().unwrap();
    let mut trainer = golden.trainer(&bf16(&golden, isa), golden.train_options());
    let steps = golden.steps();
    let windows: Vec<&Window> = steps[0].iter().collect();
    let (_, labelled) = trainer.accumulate(&windows).unwrap();
    let norm = f64::from(golden.expected.grad_norm[0]);
    let clip = (golden.expected.hyper_parameters.clip / (norm + 1e-6)).min(1.0) as f32;
    let (mut ours, mut theirs, mut listing) = (0.0, 0.0, String::new());
    for (parameter, mut gradient) in gradients(&mut trainer, windows.len(), labelled) {
        gradient.iter_mut().for_each(|element| *element *= clip);
        let distance = relative_l2(&gradient, &expected[&format!("grad.{parameter}")]);
        let allowed = yardstick.grad[&parameter];
        listing += &format!("\n{parameter}: {distance:.4}, PyTorch's {allowed:.4}");
        ours += distance * distance;
        theirs += allowed * allowed;
    }
    let (ours, theirs) = (f64::sqrt(ours), factor(isa) * f64::sqrt(theirs));
    assert!(ours <= theirs, "{name}, {isa}: gradients: {ours:.4}, PyTorch's {theirs:.4}{listing}");
}

/// What may be further than PyTorch's run: where both operands of a product must be bf16, as they are in PyTorch, one run
/// with outlier channels is further than another by chance. Most of both distances is the rounding of the weights, and
/// PyTorch's is a single sample. Where products are made by f32 instructions, nothing is given away.
fn factor(isa: Isa) -> f64 {
    match Products::of(isa) {
        Products::F32 => 1.0,
        Products::Bf16 => 1.25,
    }
}

fn check_losses(name: &str, isa: Isa) {
    let golden = Golden::open(name);
    let yardstick = golden.expected.bf16_yardstick.as_ref().unwrap();
    let mut trainer = golden.trainer(&bf16(&golden, isa), golden.train_options());
    let mut largest = 0.0f64;
    for (windows, &expected) in golden.steps().iter().zip(&golden.expected.loss) {
        let windows: Vec<&Window> = windows.iter().collect();
        let report = trainer.step(&windows, golden.schedule().rate(trainer.done())).unwrap();
        largest = largest.max((f64::from(report.loss) - f64::from(expected)).abs());
    }
    let allowed = factor(isa) * yardstick.loss_max_abs;
    assert!(largest <= allowed, "{name}, {isa}: losses: {largest:.6}, PyTorch's {allowed:.6}");
}

/// Logits of labelled rows, from what enters lm_head in the bf16 graph.
fn check_logits(name: &str, isa: Isa) {
    let golden = Golden::open(name);
    let options = bf16(&golden, isa);
    let tensors = all_tensors(&golden);
    let mut interpreted = Interpreted::new(&options_with_batch(&options, &golden), &tensors);
    interpreted.in_f32 = true;
    let graph = &mut interpreted.program.micro_step;
    pass_manager::run(&pipeline::passes(Precision::Bf16, isa), graph).unwrap();
    let head =
        graph.nodes().find_map(|(_, node)| matches!(node.op, Op::VocabLoss(_)).then(|| node.operands[0]));
    graph.output("h", head.unwrap());
    let steps = golden.steps();
    let windows: Vec<&Window> = steps[0].iter().collect();
    let outputs = interpreted.accumulate(&windows, 0, 0).outputs;
    let h = &outputs["h"];
    let (weight, bias) = (&tensors["lm_head.weight"], &tensors["lm_head.bias"]);
    let (vocab, width) = (weight.shape[0], weight.shape[1]);
    let round = |x: f32| half::bf16::from_f32(x).to_f32();
    let expected = &read_tensors(&golden.dir.join("expected.safetensors"))["logits_step0"];
    // Each window's last slot has no label; all others are rows, in order.
    let sequence = golden.expected.hyper_parameters.seq;
    let labelled: Vec<f32> = expected
        .chunks_exact(sequence * vocab)
        .flat_map(|window| &window[..(sequence - 1) * vocab])
        .copied()
        .collect();
    let h = h.floats().unwrap();
    let logits: Vec<f32> = h
        .chunks_exact(width)
        .flat_map(|row| {
            weight.values.chunks_exact(width).zip(&bias.values).map(move |(w, bias)| {
                let sum: f64 = row.iter().zip(w).map(|(x, &w)| x * f64::from(round(w))).sum();
                sum as f32 + bias
            })
        })
        .collect();
    let distance = relative_l2(&logits, &labelled);
    let allowed = golden.expected.bf16_yardstick.as_ref().unwrap().logits;
    assert!(distance <= allowed, "{name}, {isa}: logits: {distance:.5}, PyTorch's {allowed:.5}");
}

fn options_with_batch(
    options: &gptjc_graphs::plan::CompileOptions,
    golden: &Golden,
) -> gptjc_graphs::plan::CompileOptions {
    let mut options = options.clone();
    options.micro_batch = golden.expected.hyper_parameters.batch as u64;
    options
}

/// Weights and adapter, by the names of the graph.
fn all_tensors(golden: &Golden) -> Tensors {
    let checkpoint = golden.checkpoint();
    let model = read_tensors(&golden.dir.join("model/model.safetensors"));
    let mut tensors: Tensors = model
        .into_iter()
        .map(|(name, values)| {
            let shape = checkpoint.tensor(&name).unwrap().shape.to_vec();
            (name, gptjc_runtime::adapter::AdapterTensor { shape, values })
        })
        .collect();
    tensors.extend(gptjc_runtime::adapter::Adapter::load(&golden.dir.join("adapter_init")).unwrap().tensors);
    tensors
}

/// All instruction sets that this CPU has.
fn check(name: &str) {
    for isa in Isa::ALL.into_iter().filter(|&isa| gptjc_runtime::isa::usable(isa)) {
        check_logits(name, isa);
        check_gradients(name, isa);
        check_losses(name, isa);
    }
}

#[test]
fn medium() {
    check("medium");
}

#[test]
fn outliers() {
    check("outliers");
}
