//! Adapters in some layers only: nothing is differentiated below the lowest of them, and plans cost less.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_compiler::{compile, pass_manager, pipeline, target};
use gptjc_graphs::graph::Graph;
use gptjc_graphs::models::gptj::sites::Site;
use gptjc_graphs::models::gptj::{ModelError, training_program};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{
    CompileOptions, Isa, LoraOptions, ModelConfig, Packing, Precision, TargetLayers, artifact,
};

const LAYERS: u64 = 4;

/// Four layers, with adapters of rank 2 on q, v and fc_in of `layers`.
fn options(layers: &[u64]) -> CompileOptions {
    let model = ModelConfig {
        n_layer: LAYERS,
        n_embd: 32,
        n_head: 2,
        rotary_dim: 8,
        n_inner: 64,
        vocab_size: 50,
        n_positions: 32,
        layer_norm_epsilon: 1e-5,
    };
    let mut lora = LoraOptions { rank: 2, alpha: 4.0, dropout: 0.05, ..LoraOptions::default() };
    let mut sites = Site::all(LAYERS);
    sites.retain(|site| {
        ["q_proj", "v_proj", "fc_in"].contains(&site.projection.name()) && layers.contains(&site.layer)
    });
    lora.place(&sites, LAYERS);
    CompileOptions {
        model,
        lora: Some(lora),
        precision: Precision::F32.into(),
        packing: Packing::Concat.into(),
        max_seq_length: 16,
        per_device_train_batch_size: 2,
        target: target::shipped("avx2-2c").unwrap().unwrap(),
        step_windows: 2,
        ..CompileOptions::default()
    }
}

/// The training graph after the passes.
fn micro_step(layers: &[u64]) -> Graph {
    let mut graph = training_program(&options(layers), 2).unwrap().micro_step;
    pass_manager::run(&pipeline::passes(Precision::F32, Isa::Avx2), &mut graph).unwrap();
    graph
}

/// Layers with nodes behind the loss: those that are differentiated.
fn differentiated(graph: &Graph) -> Vec<u64> {
    let behind = graph.nodes().skip_while(|(_, node)| !matches!(node.op, Op::VocabLoss(_)));
    let layer = |module: &str| module.strip_prefix("transformer.h.")?.split('.').next()?.parse().ok();
    let mut layers: Vec<u64> = behind.filter_map(|(_, node)| layer(&node.module)).collect();
    layers.sort_unstable();
    layers.dedup();
    layers
}

#[test]
fn nothing_is_differentiated_below_the_lowest_adapter() {
    for (layers, expected) in [
        (&[0, 1, 2, 3][..], &[0, 1, 2, 3][..]),
        (&[2, 3], &[2, 3]),
        (&[3], &[3]),
        // What lies between is passed through.
        (&[1], &[1, 2, 3]),
        (&[0, 3], &[0, 1, 2, 3]),
    ] {
        assert_eq!(differentiated(&micro_step(layers)), expected, "adapters in {layers:?}");
    }
}

#[test]
fn work_and_memory_fall_with_the_layers() {
    let plans =
        [&[0, 1, 2, 3][..], &[1, 2, 3], &[2, 3], &[3]].map(|layers| compile(&options(layers)).unwrap());
    for pair in plans.windows(2) {
        let [more, less] = pair else { unreachable!("windows of two") };
        assert!(less.prediction.flops < more.prediction.flops);
        assert!(
            less.persistent_bytes < more.persistent_bytes,
            "moments and sums of the adapters that are not"
        );
    }
    // The forward pass of all layers is about a third of the work; the backward pass of one layer a sixth of the rest.
    let share = plans[3].prediction.flops as f64 / plans[0].prediction.flops as f64;
    assert!((0.4..0.75).contains(&share), "{share}");
}

#[test]
fn the_plan_keeps_the_layers_and_old_options_mean_all_of_them() {
    let plan = compile(&options(&[1, 3])).unwrap();
    let read = artifact::decode(&artifact::encode(&plan)).unwrap();
    assert_eq!(read.options, plan.options);
    let lora = read.options.lora.unwrap();
    assert_eq!(lora.described(","), "q_proj (layers 1,3),v_proj (layers 1,3),fc_in (layers 1,3)");
    let all = options(&[0, 1, 2, 3]).lora.unwrap();
    assert!(all.only_in.is_empty() && all.is_on("q_proj", 2) && !all.is_on("k_proj", 2));
}

#[test]
fn layers_that_the_model_does_not_have_are_refused() {
    for layers in [vec![4], vec![], vec![1, 1], vec![2, 0]] {
        let mut options = options(&[0, 1, 2, 3]);
        let target = "q_proj".to_owned();
        options.lora.as_mut().unwrap().only_in = vec![TargetLayers { target, layers: layers.clone() }];
        let error = training_program(&options, 1).unwrap_err();
        assert!(
            matches!(&error, ModelError::TargetLayers { found, last: 3, .. } if *found == layers),
            "{error}"
        );
    }
    let mut options = options(&[0]);
    options.lora.as_mut().unwrap().only_in[0].target = "k_proj".to_owned();
    let error = training_program(&options, 1).unwrap_err().to_string();
    assert!(error.starts_with("`k_proj` is no projection"), "{error}");
}
