//! Fuses lm_head, cross entropy and their gradients.
//!
//! Reason: logits are `vocabulary` numbers a labelled row, 200 kB for GPT-J, and each is used three times. Fused, a chunk
//! of rows at a time has its logits, its loss and, in the same memory, its gradient; logits are never computed twice.
//!
//! ```text
//! %l   = matmul %h, %w {nt}
//! %x   = bias_add %l, %bias
//! %nll, %lse = cross_entropy %x, %labels               =>  %nll, %dh = vocab_loss %h, %w, %bias, %labels {gradient = 1}
//!
//! %one = fill %nll {value = 1}
//! %dx  = cross_entropy_grad %one, %x, %labels, %lse
//! %dh  = matmul %dx, %w {nn}
//! ```
//!
//! Requires: dead code removed. Preserves: types and names. Gives: no tensor of logits.
//! Numerics: exact in f64; the order of sums changes.
//! Refuses: where lm_head is trained, because its gradient reads the logits' gradient too.

use super::matcher::Matcher;
use super::replace::{Candidate, FusedNode, Operand, replace};
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::entities::NodeId;
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::matmul::Form;
use gptjc_graphs::ops::vocab_loss::VocabLoss;

/// Rows of a chunk at most: the weights are read once a chunk, so they are read rarely, and GPT-J's chunk takes 52 MB.
const CHUNK: usize = 256;

/// See the [module](self).
pub struct FuseVocabLoss;

impl Pass for FuseVocabLoss {
    fn name(&self) -> &'static str {
        "fuse_vocab_loss"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let matcher = Matcher::new(graph);
        let candidates = graph.nodes().filter_map(|(id, node)| candidate(&matcher, id, node)).collect();
        let (new, count) = replace(self.name(), graph, candidates, remarks)?;
        if count > 0 {
            remarks.push(format!("lm_head and cross entropy in chunks of at most {CHUNK} labelled rows"));
        }
        *graph = new;
        Ok(())
    }
}

/// The pattern around the cross entropy `loss`, if it is one.
fn candidate(matcher: &Matcher<'_>, id: NodeId, loss: &Node) -> Option<Candidate> {
    let Op::CrossEntropy(_) = loss.op else { return None };
    let (nll, lse) = (loss.results[0], loss.results[1]);
    let (biased, biased_node, ()) = matcher.defined_by(loss.operands[0], |op| match op {
        Op::BiasAdd(_) => Some(()),
        _ => None,
    })?;
    let (product, product_node, form) = matcher.defined_by(biased_node.operands[0], form_of)?;
    let (h, weight) = (product_node.operands[0], product_node.operands[1]);
    if form != Form::Nt || !matcher.is_base_weight(weight) {
        return None;
    }
    let mut absorbed = vec![product, biased, id];
    let mut results = vec![(0, nll)];
    let gradient = matcher.reader(lse, |node| match &node.op {
        Op::CrossEntropyGrad(_) if node.operands[3] == lse => Some(()),
        _ => None,
    });
    if let Some((gradient, gradient_node, ())) = gradient {
        let (_, _, value) = matcher.defined_by(gradient_node.operands[0], |op| match op {
            Op::Fill(fill) => Some(fill.value),
            _ => None,
        })?;
        let (back, back_node, ()) = matcher.reader(gradient_node.results[0], |node| {
            (form_of(&node.op) == Some(Form::Nn) && node.operands[1] == weight).then_some(())
        })?;
        if value != 1.0 {
            return None;
        }
        absorbed.extend([gradient, back]);
        results.push((1, back_node.results[0]));
    }
    let chunk = matcher.graph.ty(nll).dims[0].bound.clamp(1, CHUNK);
    let op = VocabLoss { chunk, gradient: results.len() == 2, dtype: DType::F32 };
    let node = FusedNode {
        op: op.into(),
        operands: [h, weight, biased_node.operands[1], loss.operands[1]].map(Operand::from).to_vec(),
        absorbed,
        results,
        module: product_node.module.clone(),
    };
    Some(Candidate { name: format!("loss over `{}`", product_node.module), nodes: vec![node] })
}

fn form_of(op: &Op) -> Option<Form> {
    match op {
        Op::Matmul(matmul) => Some(matmul.form),
        _ => None,
    }
}
