//! The graph is what Optimum's users expect, reads like the model, and has no shape arithmetic.

use std::collections::BTreeMap;

use prost::Message;

use super::*;
use crate::onnx::proto::ModelProto;
use crate::onnx::{DeclaredDim, ModelSummary};

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
    ExportOptions { matrices: ElementType::F32, lora: None }
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
    assert_eq!(counts["MatMul"], 2 * 8 + 1, "{counts:?}");
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
            transposed: true,
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
    let model =
        inference_model(&shape(), &ExportOptions { matrices: ElementType::Bf16, lora: None }).unwrap();
    for placed in &model.initializers {
        let initializer = &placed.initializer;
        let expected = if initializer.shape.len() == 2 { ElementType::Bf16 } else { ElementType::F32 };
        assert_eq!(initializer.element, expected, "{}", initializer.name);
    }
    let graph = ModelProto::decode(model.bytes.as_slice()).unwrap().graph.unwrap();
    let casts = graph.node.iter().filter(|node| node.op_type() == "Cast").count();
    assert_eq!(casts, 1 + 2 * 6 + 2, "one for the mask, one a matrix");
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
    let error =
        inference_model(&shape(), &ExportOptions { matrices: ElementType::I64, lora: None }).unwrap_err();
    assert_eq!(error.to_string(), "matrices cannot be stored as int64; expected float, float16 or bfloat16");
}
