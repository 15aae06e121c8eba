//! Damaged exports are found, and the node is named; exports as they were written are not.
//!
//! Without libonnxruntime these tests say loudly that they were skipped; with `GPTJC_REQUIRE_ONNXRUNTIME` set they fail.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use gptjc_graphs::onnx::gptj::ExportOptions;
use gptjc_graphs::onnx::{Blockwise, CodeBits, DATA_FILE, ElementType, MODEL_FILE};
use gptjc_runtime::validate::library::OnnxRuntime;
use gptjc_runtime::validate::nodes::{BOUND, NodeSearch, ProbedRow, find_first_node};
use gptjc_tests::onnx::{Exported, exported, lora, rows, runtime};
use std::fs;

/// Lanes of a head of the model that is exported.
const HEAD_DIM: usize = 10;

fn plain(element: ElementType) -> ExportOptions {
    ExportOptions::plain(element, lora())
}

fn quantised(bits: CodeBits) -> ExportOptions {
    ExportOptions::quantised(Blockwise { bits, size: 32 }, lora())
}

/// Searches an export of these options after `damage`.
fn search(options: &ExportOptions, runtime: &OnnxRuntime, damage: &dyn Fn(&Exported)) -> NodeSearch {
    let tested = exported(options);
    let reference = exported(&ExportOptions { widened: true, ..options.clone() });
    damage(&tested);
    let row = ProbedRow { row: 7, tokens: &rows()[2] };
    find_first_node(&tested.directory(), &reference.directory(), runtime, 1, row).unwrap()
}

/// Multiplies f32 values of an initializer, from one on, by 1.01.
fn scale(export: &Exported, name: &str, values: std::ops::Range<usize>) {
    let placed = export.model.initializers.iter().find(|placed| placed.initializer.name == name).unwrap();
    assert_eq!(placed.initializer.element, ElementType::F32);
    let file = export.directory().join(DATA_FILE);
    let mut data = fs::read(&file).unwrap();
    let bytes = &mut data[placed.offset as usize..][..placed.initializer.byte_length() as usize];
    for four in bytes[values.start * 4..values.end * 4].chunks_exact_mut(4) {
        let value = 1.01 * f32::from_le_bytes(four.try_into().unwrap());
        four.copy_from_slice(&value.to_le_bytes());
    }
    fs::write(file, data).unwrap();
}

/// Lets the first two lanes of every head be paired with each other no more.
fn swap_a_rotary_pair(export: &Exported) {
    let file = export.directory().join(MODEL_FILE);
    let mut model = fs::read(&file).unwrap();
    // A row for each lane, with a one at the lane that it goes to: the first four are swapped in pairs.
    let lane =
        |one: usize| (0..HEAD_DIM).flat_map(move |at| f32::to_le_bytes(if at == one { 1.0 } else { 0.0 }));
    let matrix =
        |first: [usize; 4]| -> Vec<u8> { first.into_iter().chain(4..HEAD_DIM).flat_map(lane).collect() };
    let table = matrix([1, 0, 3, 2]);
    let places: Vec<usize> = (0..model.len()).filter(|&at| model[at..].starts_with(&table)).collect();
    let [at] = places.as_slice() else { panic!("{} places", places.len()) };
    model[*at..at + table.len()].copy_from_slice(&matrix([0, 1, 3, 2]));
    fs::write(file, model).unwrap();
}

#[test]
fn exports_as_they_were_written_stay_in_bound() {
    let Some(runtime) = runtime() else { return };
    for options in [
        plain(ElementType::F32),
        plain(ElementType::F16),
        plain(ElementType::Bf16),
        quantised(CodeBits::Eight),
        quantised(CodeBits::Four),
    ] {
        let found = search(&options, &runtime, &|_| {});
        assert_eq!((found.first, found.row, found.bound), (None, 7, BOUND), "{}", options.matrices);
        assert!(found.largest_within < BOUND / 5.0, "{}: {}", options.matrices, found.largest_within);
        // What stands before, between and behind the blocks, and everything in them.
        assert!(found.compared > 90, "{} outputs", found.compared);
    }
}

#[test]
fn a_damaged_weight_is_found_where_it_is_read() {
    let Some(runtime) = runtime() else { return };
    let fc_in = "transformer.h.1.mlp.fc_in.weight";
    let cases: [(ExportOptions, &str, std::ops::Range<usize>, &str); 6] = [
        (plain(ElementType::F32), fc_in, 0..40 * 72, "transformer.h.1.mlp.fc_in/matmul"),
        // One number of 2,880.
        (plain(ElementType::F32), fc_in, 1234..1235, "transformer.h.1.mlp.fc_in/matmul"),
        (
            plain(ElementType::F32),
            "transformer.h.0.attn.out_proj.weight",
            0..40,
            "transformer.h.0.attn.out_proj",
        ),
        (plain(ElementType::Bf16), "transformer.h.1.ln_1.weight", 3..4, "transformer.h.1.ln_1"),
        (
            quantised(CodeBits::Four),
            "transformer.h.0.attn.v_proj.weight_scales",
            0..80,
            "transformer.h.0.attn.v_proj",
        ),
        (quantised(CodeBits::Eight), "lm_head.weight_scales", 5..6, "lm_head/matmul"),
    ];
    for (options, weight, values, node) in cases {
        let found = search(&options, &runtime, &|export| scale(export, weight, values.clone()));
        let first = found.first.as_ref().unwrap_or_else(|| panic!("{weight} {values:?}: {found}"));
        assert_eq!(first.node, node, "{found}");
        assert!(first.weights.iter().any(|read| weight.starts_with(read.as_str())), "{found}");
        assert!(first.deviation > BOUND && first.deviation < 0.1, "{found}");
        assert!(found.largest_within < BOUND / 5.0, "{found}");
    }
}

#[test]
fn a_swapped_rotary_pair_is_found_where_lanes_are_swapped() {
    let Some(runtime) = runtime() else { return };
    for options in [plain(ElementType::F32), quantised(CodeBits::Four)] {
        let found = search(&options, &runtime, &swap_a_rotary_pair);
        let first = found.first.as_ref().unwrap();
        assert_eq!(first.node, "transformer.h.0.attn.q_proj/rotary_swap", "{found}");
        assert_eq!(first.weights, ["rotary.swap"]);
        let text = found.to_string();
        assert!(text.contains("`transformer.h.0.attn.q_proj/rotary_swap` (MatMul)"), "{text}");
        assert!(text.contains("it reads rotary.swap"), "{text}");
    }
}
