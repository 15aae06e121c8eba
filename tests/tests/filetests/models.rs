//! The graphs of a whole model: they hold, print and parse back, before and after the compiler's passes.

use gptjc_compiler::{pass_manager, pipeline};
use gptjc_graphs::graph::Graph;
use gptjc_graphs::models::gptj::{decode_graphs, training_program};
use gptjc_graphs::plan::{CompileOptions, Isa, LoraOptions, ModelConfig, Packing, Precision, Target};
use gptjc_graphs::text::{parse_all, print};
use gptjc_graphs::verify::verify;

/// Two small layers, trained through adapters on two projections or as a whole.
fn options(lora: bool) -> CompileOptions {
    let model = ModelConfig {
        n_layer: 2,
        n_embd: 16,
        n_head: 2,
        rotary_dim: 4,
        n_inner: 64,
        vocab_size: 50,
        n_positions: 32,
        layer_norm_epsilon: 1e-5,
    };
    let targets = ["q_proj", "fc_in"].map(str::to_owned).to_vec();
    let adapters =
        LoraOptions { rank: 2, alpha: 4.0, dropout: 0.05, targets, use_rslora: false, only_in: Vec::new() };
    CompileOptions {
        model,
        lora: lora.then_some(adapters),
        precision: Precision::Bf16.into(),
        packing: Packing::Concat.into(),
        max_seq_length: 8,
        micro_batch: 0,
        per_device_train_batch_size: 4,
        memory_budget: 0,
        target: Target::default(),
        step_windows: 8,
        decode_sequences: if lora { 0 } else { 3 },
        decode_slots: 8,
    }
}

fn check_round_trip(mut graphs: Vec<Graph>) {
    let of = |isa| pipeline::passes(Precision::Bf16, isa);
    for passes in [Vec::new(), of(Isa::Avx2), of(Isa::Amx)] {
        for graph in &mut graphs {
            pass_manager::run(&passes, graph).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(verify(graph), Ok(()));
        }
        let text: String = graphs.iter().map(print).collect();
        let parsed = parse_all(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed, graphs);
        assert_eq!(parsed.iter().map(print).collect::<String>(), text);
    }
}

#[test]
fn training_programs_round_trip() {
    check_round_trip(training_program(&options(true), 2).unwrap().into_graphs());
    let all = CompileOptions { decode_sequences: 0, ..options(false) };
    check_round_trip(training_program(&all, 2).unwrap().into_graphs());
}

#[test]
fn decoding_programs_round_trip() {
    check_round_trip(decode_graphs(&options(false)).unwrap());
}
