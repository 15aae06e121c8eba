//! Changed models have what was asked for and nothing else.

use super::*;
use crate::onnx::gptj::{ExportOptions, GptjShape, inference_model};
use crate::onnx::proto::AttributeProto;
use crate::onnx::{Blockwise, CodeBits, ModelSummary};

fn model(options: &ExportOptions) -> EditedModel {
    let shape = GptjShape {
        n_layer: 2,
        n_embd: 8,
        n_head: 2,
        rotary_dim: 2,
        n_inner: 12,
        vocab_size: 10,
        n_positions: 4,
        layer_norm_epsilon: 1e-5,
    };
    EditedModel::decode(&inference_model(&shape, options).unwrap().bytes).unwrap()
}

fn plain() -> EditedModel {
    model(&ExportOptions::plain(ElementType::F32, None))
}

fn quantised() -> EditedModel {
    model(&ExportOptions::quantised(Blockwise { bits: CodeBits::Four, size: 16 }, None))
}

#[test]
fn values_come_with_their_nodes_and_weights() {
    let values = plain().values();
    assert_eq!(values.len(), 15 + 2 * 43);
    let find = |name: &str| values.iter().find(|value| value.name == name).unwrap();
    let keys = find("present.1.key");
    assert_eq!((keys.node.as_str(), keys.op_type.as_str()), ("transformer.h.1.attn/keys", "Concat"));
    assert_eq!(find("logits").weights, ["lm_head.bias"]);
    assert_eq!(find("transformer.h.0.mlp.fc_in/matmul").weights, ["transformer.h.0.mlp.fc_in.weight"]);
    let quantised = quantised().values();
    let product = quantised.iter().find(|value| value.name == "lm_head/matmul").unwrap();
    assert_eq!(product.weights.len(), 3, "{product:?}");
}

#[test]
fn outputs_are_those_that_were_asked_for() {
    let mut model = plain();
    model.set_outputs(&["logits".into(), "transformer.h.0/residual".into()]);
    let outputs = ModelSummary::decode(&model.encode()).unwrap().outputs;
    assert_eq!(outputs.len(), 2);
    assert_eq!((outputs[0].name.as_str(), outputs[0].element), ("logits", Some(ElementType::F32)));
    assert_eq!((outputs[1].name.as_str(), outputs[1].element), ("transformer.h.0/residual", None));
}

#[test]
fn products_become_exact() {
    let mut model = quantised();
    model.exact_products();
    let levels: Vec<i64> = model
        .nodes()
        .iter()
        .flat_map(|node| &node.attribute)
        .filter(|attribute| attribute.name() == ACCURACY_LEVEL)
        .map(AttributeProto::i)
        .collect();
    assert_eq!(levels, [1; 13]);
}

#[test]
fn logits_are_cut_before_lm_head() {
    for mut model in [plain(), quantised()] {
        assert!(model.logits_from("first"));
        let nodes = model.nodes();
        let product = nodes.iter().position(|node| node.name() == "lm_head/matmul").unwrap();
        assert_eq!(nodes[product].input[0], "first/hidden");
        let slice = &nodes[product - 1];
        assert_eq!(slice.input, ["transformer.ln_f", "first", "first/end", "first/axis"]);
        let inputs = ModelSummary::decode(&model.encode()).unwrap().inputs;
        assert_eq!(inputs.last().unwrap().name, "first");
    }
    let mut other = plain();
    let last = other.model.graph.as_mut().unwrap().node.last_mut().unwrap();
    last.op_type = Some("Mul".into());
    let before = other.encode();
    assert!(!other.logits_from("first"));
    assert_eq!(other.encode(), before);
}
