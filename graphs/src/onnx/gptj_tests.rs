//! The graph is what Optimum's users expect, reads like the model, and has no shape arithmetic.

use std::collections::BTreeMap;

use prost::Message;

use super::*;
use crate::onnx::proto::{ModelProto, NodeProto};
use crate::onnx::{CodeBits, DeclaredDim, ModelSummary};

fn shape() -> GptjShape {
    GptjShape {
        n_layer: 2,
        n_embd: 64,
        n_head: 4,
        rotary_dim: 8,
        n_inner: 256,
        vocab_size: 512,
        n_positions: 32,
        layer_norm_epsilon: 1e-5,
    }
}

fn options() -> ExportOptions {
    ExportOptions::plain(ElementType::F32, None)
}

#[test]
fn inputs_and_outputs_are_those_of_optimum() {
    let model = inference_model(&shape(), &options()).unwrap();
    let summary = ModelSummary::decode(&model.bytes).unwrap();
    let show = |values: &[crate::onnx::DeclaredValue]| -> Vec<String> {
        let dims = |dims: &[DeclaredDim]| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        values
            .iter()
            .map(|v| format!("{} {} [{}]", v.name, v.element.unwrap().name(), dims(v.dims.as_ref().unwrap())))
            .collect()
    };
    assert_eq!(
        show(&summary.inputs),
        [
            "input_ids int64 [batch_size, sequence_length]",
            "attention_mask int64 [batch_size, past_sequence_length + sequence_length]",
            "position_ids int64 [batch_size, sequence_length]",
            "past_key_values.0.key float [batch_size, 4, past_sequence_length, 16]",
            "past_key_values.0.value float [batch_size, 4, past_sequence_length, 16]",
            "past_key_values.1.key float [batch_size, 4, past_sequence_length, 16]",
            "past_key_values.1.value float [batch_size, 4, past_sequence_length, 16]",
        ]
    );
    assert_eq!(
        show(&summary.outputs),
        [
            "logits float [batch_size, sequence_length, 512]",
            "present.0.key float [batch_size, 4, past_sequence_length + sequence_length, 16]",
            "present.0.value float [batch_size, 4, past_sequence_length + sequence_length, 16]",
            "present.1.key float [batch_size, 4, past_sequence_length + sequence_length, 16]",
            "present.1.value float [batch_size, 4, past_sequence_length + sequence_length, 16]",
        ]
    );
}

#[test]
fn shape_arithmetic_is_folded_away() {
    let model = inference_model(&shape(), &options()).unwrap();
    let graph = ModelProto::decode(model.bytes.as_slice()).unwrap().graph.unwrap();
    let mut counts = BTreeMap::new();
    for node in &graph.node {
        *counts.entry(node.op_type().to_owned()).or_insert(0) += 1;
    }
    // Optimum's export of the same model has 259 Constant, 45 Shape and 30 Slice.
    for folded in ["Constant", "Slice", "ConstantOfShape", "Range", "Squeeze"] {
        assert_eq!(counts.get(folded), None, "{folded} in {counts:?}");
    }
    assert_eq!(counts["Shape"], 2, "{counts:?}");
    // Six weights, two swaps of rotary lanes, scores and the mix of values a block; lm_head.
    assert_eq!(counts["MatMul"], 2 * 10 + 1, "{counts:?}");
    // 9 for the mask, 2 for the rotary tables, embedding, layer norm, 2 for lm_head; 43 a block.
    assert_eq!(graph.node.len(), 15 + 2 * 43, "{counts:?}");
}

#[test]
fn nodes_are_named_after_modules_and_weights_after_parameters() {
    let model = inference_model(&shape(), &options()).unwrap();
    let graph = ModelProto::decode(model.bytes.as_slice()).unwrap().graph.unwrap();
    let node = |name: &str| graph.node.iter().find(|node| node.name() == name).map(|node| node.op_type());
    assert_eq!(node("transformer.h.1.attn.q_proj"), Some("MatMul"));
    assert_eq!(node("transformer.h.0.mlp.fc_in"), Some("Add"));
    assert_eq!(node("transformer.ln_f"), Some("LayerNormalization"));
    let names: Vec<&str> = model.initializers.iter().map(|placed| placed.initializer.name.as_str()).collect();
    assert!(names.contains(&"transformer.h.0.attn.q_proj.weight"), "{names:?}");
    assert!(names.contains(&"lm_head.bias"), "{names:?}");
    assert_eq!(names.len(), 1 + 2 * 10 + 2 + 2, "{names:?}");
}

#[test]
fn targets_become_merge_recipes_and_others_are_read() {
    let modules = ["transformer.h.1.attn.q_proj", "transformer.h.0.mlp.fc_in"].map(str::to_owned).into();
    let lora = LoraMerge { scaling: 6.75, modules };
    let model = inference_model(&shape(), &ExportOptions { lora: Some(lora), ..options() }).unwrap();
    let find = |name: &str| {
        let found = model.initializers.iter().find(|placed| placed.initializer.name == name);
        found.map(|placed| &placed.initializer).unwrap()
    };
    let merged = find("transformer.h.1.attn.q_proj.weight");
    assert_eq!(
        merged.recipe,
        Recipe {
            source: Source::LoraMerged {
                base: "transformer.h.1.attn.q_proj.weight".into(),
                a: "base_model.model.transformer.h.1.attn.q_proj.lora_A.weight".into(),
                b: "base_model.model.transformer.h.1.attn.q_proj.lora_B.weight".into(),
                scaling: 6.75,
            },
            rounded_as: None,
            form: Form::Transposed,
        }
    );
    let inner = find("transformer.h.0.mlp.fc_in.weight");
    assert!(matches!(inner.recipe.source, Source::LoraMerged { .. }));
    assert_eq!((&inner.shape, inner.source_shape()), (&vec![64, 256], vec![256, 64]));
    for name in ["transformer.h.0.attn.v_proj.weight", "transformer.h.0.attn.q_proj.weight"] {
        assert_eq!(find(name).recipe.source, Source::Tensor(name.into()));
    }
}

#[test]
fn half_matrices_are_cast_and_vectors_stay_f32() {
    let model = inference_model(&shape(), &ExportOptions::plain(ElementType::Bf16, None)).unwrap();
    for placed in &model.initializers {
        let initializer = &placed.initializer;
        let expected = if initializer.shape.len() == 2 { ElementType::Bf16 } else { ElementType::F32 };
        assert_eq!(initializer.element, expected, "{}", initializer.name);
    }
    let graph = ModelProto::decode(model.bytes.as_slice()).unwrap().graph.unwrap();
    let casts = graph.node.iter().filter(|node| node.op_type() == "Cast").count();
    assert_eq!(casts, 1 + 2 * 6 + 2, "one for the mask, one a matrix");
    let stored = graph.node.iter().find(|node| node.name() == "transformer.wte/stored").unwrap();
    assert_eq!(stored.op_type(), "Gather", "vectors are widened, not the table");
    assert!(ModelSummary::decode(&model.bytes).unwrap().widens_weights);
}

fn quantised() -> ExportOptions {
    ExportOptions::quantised(Blockwise { bits: CodeBits::Four, size: 32 }, None)
}

fn attribute(node: &NodeProto, name: &str) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name() == name).unwrap().i()
}

#[test]
fn quantised_matrices_are_multiplied_with_by_matmul_nbits() {
    let model = inference_model(&shape(), &quantised()).unwrap();
    let decoded = ModelProto::decode(model.bytes.as_slice()).unwrap();
    let sets: Vec<_> = decoded.opset_import.iter().map(|set| (set.domain(), set.version())).collect();
    assert_eq!(sets, [("", 18), ("com.microsoft", 1)]);
    let graph = decoded.graph.unwrap();
    let is_ours = |node: &&NodeProto| node.op_type() == "MatMulNBits" && node.domain() == "com.microsoft";
    assert_eq!(graph.node.iter().filter(is_ours).count(), 2 * 6 + 1);
    let node = |name: &str| graph.node.iter().find(|node| node.name() == name).unwrap();
    let fc_out = node("transformer.h.1.mlp.fc_out/matmul");
    let numbers = ["K", "N", "bits", "block_size", "accuracy_level"].map(|name| attribute(fc_out, name));
    assert_eq!(numbers, [256, 64, 4, 32, 4]);
    let weight = "transformer.h.1.mlp.fc_out.weight";
    assert_eq!(
        fc_out.input[1..],
        [format!("{weight}_Q4"), format!("{weight}_scales"), format!("{weight}_zero_points")]
    );
    assert_eq!(attribute(node("lm_head/matmul"), "bits"), 8, "lm_head keeps 8 bits");

    let of_weight: Vec<_> = model
        .initializers
        .iter()
        .map(|placed| &placed.initializer)
        .filter(|initializer| initializer.recipe.source.base() == weight)
        .collect();
    let found: Vec<_> = of_weight.iter().map(|part| (part.element.name(), part.shape.clone())).collect();
    assert_eq!(found, [("uint8", vec![64, 8, 16]), ("float", vec![64, 8]), ("uint8", vec![64, 4])]);
    assert!(of_weight.iter().all(|part| part.source_shape() == [64, 256]));

    let summary = ModelSummary::decode(&model.bytes).unwrap();
    assert!(!summary.widens_weights);
    assert_eq!(ExportOptions::of_metadata(&summary.metadata), Ok(Some(quantised())));
}

#[test]
fn a_widened_model_is_plain_with_the_values_of_its_storages() {
    let model = inference_model(&shape(), &ExportOptions { widened: true, ..quantised() }).unwrap();
    let plain = inference_model(&shape(), &options()).unwrap();
    let nodes = |model: &OnnxModel| -> Vec<(String, String)> {
        let graph = ModelProto::decode(model.bytes.as_slice()).unwrap().graph.unwrap();
        graph.node.iter().map(|node| (node.name().to_owned(), node.op_type().to_owned())).collect()
    };
    assert_eq!(nodes(&model), nodes(&plain));
    for (widened, plain) in model.initializers.iter().zip(&plain.initializers) {
        let (widened, plain) = (&widened.initializer, &plain.initializer);
        assert_eq!((&widened.name, widened.element), (&plain.name, ElementType::F32));
        let expected = match (plain.name.as_str(), plain.shape.len()) {
            ("transformer.wte.weight", _) => Some("float16"),
            ("lm_head.weight", _) => Some("int8/32"),
            (_, 2) => Some("int4/32"),
            _ => None,
        };
        let found = widened.recipe.rounded_as.map(|storage| storage.to_string());
        assert_eq!(found.as_deref(), expected, "{}", plain.name);
    }
}

#[test]
fn what_is_no_gptj_is_refused() {
    let refused = |change: &dyn Fn(&mut GptjShape)| {
        let mut shape = shape();
        change(&mut shape);
        inference_model(&shape, &options()).unwrap_err().to_string()
    };
    assert_eq!(refused(&|s| s.n_layer = 0), "`n_layer` is 0; expected a size of at least 1");
    let heads = "`n_embd` is 64 and `n_head` is 3; expected a width that the heads divide";
    assert_eq!(refused(&|s| s.n_head = 3), heads);
    let rotary = "`rotary_dim` is 18; expected an even number of at most 16, the lanes of a head";
    assert_eq!(refused(&|s| s.rotary_dim = 18), rotary);
    for module in ["transformer.h.0.attn.c_attn", "transformer.h.2.attn.q_proj", "q_proj"] {
        let lora = LoraMerge { scaling: 1.0, modules: [module.to_owned()].into() };
        let error = inference_model(&shape(), &ExportOptions { lora: Some(lora), ..options() }).unwrap_err();
        assert_eq!(error, GptjError::Module { module: module.to_owned(), n_layer: 2 });
    }
    let refused = |options: ExportOptions| inference_model(&shape(), &options).unwrap_err().to_string();
    assert_eq!(
        refused(ExportOptions::plain(ElementType::I64, None)),
        "matrices cannot be stored as int64; expected float, float16 or bfloat16"
    );
    let blocks = Storage::Blocks(Blockwise { bits: CodeBits::Four, size: 512 });
    assert_eq!(
        refused(ExportOptions { matrices: blocks, ..quantised() }),
        "the block size is 512; expected 16, 32, 64, 128 or 256"
    );
    assert!(refused(ExportOptions { accuracy_level: 5, ..quantised() }).contains("level is 5; expected 0"));
}
