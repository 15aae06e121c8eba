//! Every op has its filetests: `ops/<stem>.gir` runs it, `autodiff/<stem>.gir` differentiates it.

use crate::case::Case;
use crate::{AnyError, files, root};
use gptjc_graphs::ops::Op;
use gptjc_graphs::text::parse_all;
use std::collections::BTreeSet;
use std::fs;

/// Ops whose results nothing differentiates: the end of a step, what only gradients use, and what fusion makes after
/// them.
const WITHOUT_GRADIENT: [&str; 26] = [
    "adamw",
    "adapter_down",
    "adapter_grad",
    "adapter_up_grad",
    "attention",
    "attention_grad",
    "cache_store",
    "cached_mix",
    "cached_scores",
    "cached_softmax",
    "clip_scale",
    "cross_entropy_grad",
    "embedding_grad",
    "gelu_tanh_grad",
    "layer_norm_grad",
    "layer_norm_param_grad",
    "masked_softmax_grad",
    "projection",
    "projection_grad",
    "segment_mix_transposed",
    "sum_squares",
    "tree_accumulate",
    "tree_finish",
    "vocab_loss",
    "window_matmul",
    "window_sum",
];

/// Names of the ops in the files of `folder` whose kind is `kind`.
fn ops_in(folder: &str, kind: &str) -> Result<BTreeSet<&'static str>, AnyError> {
    let mut names = BTreeSet::new();
    for path in files(&root().join(folder))? {
        let source = fs::read_to_string(&path)?;
        let case = Case::parse(&source)?;
        if case.kind == kind {
            for graph in parse_all(case.source)? {
                names.extend(graph.nodes().map(|(_, node)| node.op.name()));
            }
        }
    }
    Ok(names)
}

#[test]
fn every_op_runs_in_a_filetest() {
    let found = ops_in("ops", "run").unwrap();
    let missing: Vec<_> = Op::NAMES.iter().filter(|&name| !found.contains(name)).collect();
    assert!(missing.is_empty(), "no file under filetests/ops runs {missing:?}");
}

#[test]
fn every_op_with_a_gradient_is_differentiated_in_a_filetest() {
    let found = ops_in("autodiff", "autodiff").unwrap();
    let missing: Vec<_> =
        Op::NAMES.iter().filter(|name| !WITHOUT_GRADIENT.contains(name) && !found.contains(*name)).collect();
    assert!(missing.is_empty(), "no file under filetests/autodiff differentiates {missing:?}");
}
