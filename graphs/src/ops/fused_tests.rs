//! Fused ops against the primitive ops that they stand for, and their gradients against autodiff's.
//!
//! A graph has both, as outputs `fused.<name>` and `expanded.<name>`. They are held together in f64, where only the
//! order of additions differs, and in f32 within a bound: each side of a difference has at most so many roundings on a
//! path from an input to the output, and each is at most half a unit in the last place of the sum of magnitudes, which
//! is the output of the expansion for the magnitudes of the inputs.

use super::Op;
use super::adapter::{AdapterDown, AdapterGrad, AdapterUpGrad};
use super::cross_entropy::CrossEntropy;
use super::dropout::Dropout;
use super::elementwise::{Add, BiasAdd, Fill, Scale};
use super::gelu::GeluTanh;
use super::layer_norm::{LayerNorm, LayerNormGrad};
use super::matmul::Matmul;
use super::projection::{Projection, ProjectionGrad};
use super::rows::GatherRows;
use super::vocab_loss::VocabLoss;
use crate::autodiff::check::random_data;
use crate::autodiff::{WindowTables, differentiate};
use crate::dtype::DType;
use crate::entities::ValueId;
use crate::graph::{Graph, Role};
use crate::interp::{Data, Real, Tensor, round_to, run};
use crate::layout::{
    AdapterDownOperands, AdapterGradMember, AdapterGradOperands, Masks, ProjectionGradMember,
    ProjectionGradOperands, ProjectionMember, ProjectionOperands,
};
use crate::shape::{Dim, TensorType};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Half the distance from 1 to the next f32.
const U: f64 = f32::EPSILON as f64 / 2.0;

/// The data as the other arithmetic has them, changed by `change`.
fn converted<F: Real>(
    data: &BTreeMap<String, Tensor<f64>>,
    change: impl Fn(f64) -> f64,
) -> BTreeMap<String, Tensor<F>> {
    let convert = |tensor: &Tensor<f64>| match &tensor.data {
        Data::Float(data) => {
            Tensor::float(tensor.dims.clone(), data.iter().map(|&x| F::from_f64(change(x))).collect())
        }
        Data::Int(data) => Tensor::int(tensor.dims.clone(), data.clone()),
    };
    data.iter().map(|(name, tensor)| (name.clone(), convert(tensor))).collect()
}

fn elements<F: Real>(tensor: &Tensor<F>) -> Vec<f64> {
    tensor.floats().unwrap().iter().map(|&x| Real::to_f64(x)).collect()
}

/// Holds the graph's fused outputs against its expanded ones; `bound` gives the largest f32 difference of an element
/// from the sum of its magnitudes.
fn check(graph: &Graph, bound: impl Fn(f64) -> f64) {
    crate::verify::verify(graph).unwrap();
    let data = random_data(graph).unwrap();
    let exact = run::<f64>(graph, &data).unwrap();
    let single = run::<f32>(graph, &converted(&data, |x| x)).unwrap();
    let magnitudes = run::<f64>(graph, &converted(&data, f64::abs)).unwrap();
    let mut compared = 0;
    for (name, fused) in &exact {
        let Some(name) = name.strip_prefix("fused.") else { continue };
        let other = format!("expanded.{name}");
        let magnitudes = elements(&magnitudes[&other]);
        let exact_bound = |magnitude: f64| 1e-12 * magnitude.max(1.0);
        compare(name, &elements(fused), &elements(&exact[&other]), &magnitudes, exact_bound);
        let (fused, expanded) = (elements(&single[&format!("fused.{name}")]), elements(&single[&other]));
        compare(name, &fused, &expanded, &magnitudes, &bound);
        compared += fused.len();
    }
    assert!(compared > 0, "the graph has nothing to compare");
}

fn compare(name: &str, fused: &[f64], expanded: &[f64], magnitudes: &[f64], bound: impl Fn(f64) -> f64) {
    assert_eq!(fused.len(), expanded.len(), "{name}");
    for (index, (fused, expanded)) in fused.iter().zip(expanded).enumerate() {
        let allowed = bound(magnitudes[index]);
        let near = (fused - expanded).abs() <= allowed;
        assert!(near, "{name}[{index}]: {fused:e}, expanded {expanded:e}, allowed {allowed:e}");
    }
}

/// A group of projections with all that fusion may add to it.
#[derive(Clone, Debug)]
struct Group {
    slots: usize,
    inputs: usize,
    outputs: Vec<usize>,
    rank: usize,
    biased: usize,
    adapted: usize,
    gelu: usize,
    p: f64,
    /// Whether tokens are labelled rows.
    rows: bool,
    /// Whether what is projected is an activation.
    activated: bool,
    residuals: usize,
}

/// Factor of the adapters.
const SCALE: f64 = 1.5;

/// A parameter's value and its cotangent, or a result's.
type WithGradient = (ValueId, ValueId);

/// Values of one adapter: the halves with their gradients, and what the lower gives.
struct Expanded {
    /// Projections with their cotangents.
    y: Vec<WithGradient>,
    activations: Vec<ValueId>,
    /// For each adapted member: low, a, b.
    adapters: Vec<[ValueId; 3]>,
}

/// The graph in the making, with what all parts of it read.
struct Build<'c> {
    case: &'c Group,
    graph: Graph,
    tables: WindowTables,
    counter: ValueId,
    labelled: Option<ValueId>,
    /// The operand of the activation, on slots.
    u: ValueId,
    /// What is projected, on slots.
    h: ValueId,
    weights: Vec<ValueId>,
    biases: Vec<Option<ValueId>>,
    /// Halves of each member's adapter.
    halves: Vec<Option<(ValueId, ValueId)>>,
    residuals: Vec<ValueId>,
    dx_residuals: Vec<ValueId>,
}

impl<'c> Build<'c> {
    fn new(case: &'c Group) -> Self {
        let mut graph = Graph::new("both");
        let mut int =
            |name: &str, dims: &[Dim]| graph.input(name, Role::Batch, TensorType::i32(dims)).unwrap();
        let slots = Some(int("window_table", &[Dim::windows(2), 2.into()]));
        let counter = int("counter", &[4.into()]);
        let rows = case.rows.then(|| int("row_table", &[Dim::windows(2), 2.into()]));
        let labelled = case.rows.then(|| int("labelled", &[Dim::rows(case.slots)]));
        let mut float =
            |name: &str, dims: &[Dim]| graph.input(name, Role::Batch, TensorType::f32(dims)).unwrap();
        let (k, r) = (Dim::fixed(case.inputs), Dim::fixed(case.rank));
        let u = float("u", &[Dim::slots(case.slots), k]);
        let tokens = case.tokens();
        let has = |set: usize, member: usize| set >> member & 1 == 1;
        let (mut weights, mut biases, mut halves) = (Vec::new(), Vec::new(), Vec::new());
        for (member, &n) in case.outputs.iter().enumerate() {
            let n = Dim::fixed(n);
            weights.push(float(&format!("w{member}"), &[n, k]));
            biases.push(has(case.biased, member).then(|| float(&format!("bias{member}"), &[n])));
            halves.push(
                has(case.adapted, member)
                    .then(|| (float(&format!("a{member}"), &[r, k]), float(&format!("b{member}"), &[n, r]))),
            );
        }
        let single = if case.outputs.len() == 1 { case.residuals } else { 0 };
        let residuals =
            (0..single).map(|i| float(&format!("r{i}"), &[tokens, case.outputs[0].into()])).collect();
        let dx_residuals = (0..case.residuals).map(|i| float(&format!("dr{i}"), &[tokens, k])).collect();
        let h = if case.activated { graph.push1(GeluTanh, &[u]).unwrap() } else { u };
        let tables = WindowTables { slots, rows };
        Self {
            case,
            graph,
            tables,
            counter,
            labelled,
            u,
            h,
            weights,
            biases,
            halves,
            residuals,
            dx_residuals,
        }
    }

    fn push(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> ValueId {
        self.graph.push1(op, operands).unwrap()
    }

    fn push_all(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Vec<ValueId> {
        let node = self.graph.push(op, operands).unwrap();
        self.graph.node(node).results.clone()
    }

    /// The tokens of a value on slots.
    fn tokens(&mut self, on_slots: ValueId) -> ValueId {
        match self.labelled {
            Some(labelled) => self.push(GatherRows, &[on_slots, labelled]),
            None => on_slots,
        }
    }

    fn site(member: usize) -> usize {
        10 + 3 * member
    }

    fn expanded(&mut self) -> Expanded {
        let x = self.tokens(self.h);
        let (mut y, mut activations, mut adapters) = (Vec::new(), Vec::new(), Vec::new());
        for member in 0..self.weights.len() {
            let mut of_member = self.push(Matmul::nt(), &[x, self.weights[member]]);
            if let Some((a, b)) = self.halves[member] {
                let (p, site) = (self.case.p, Self::site(member));
                let operands = [self.h, self.tables.slots.unwrap(), self.counter];
                let dropped = if p > 0.0 { self.push(Dropout { p, site }, &operands) } else { self.h };
                let dropped = self.tokens(dropped);
                let low = self.push(Matmul::nt(), &[dropped, a]);
                let up = self.push(Matmul::nt(), &[low, b]);
                let up = self.push(Scale { factor: SCALE }, &[up]);
                of_member = self.push(Add, &[of_member, up]);
                adapters.push([low, a, b]);
            }
            if let Some(bias) = self.biases[member] {
                of_member = self.push(BiasAdd, &[of_member, bias]);
            }
            for residual in self.residuals.clone() {
                of_member = self.push(Add, &[of_member, residual]);
            }
            if self.case.gelu >> member & 1 == 1 {
                activations.push(self.push(GeluTanh, &[of_member]));
            }
            let ty = self.graph.ty(of_member).clone();
            y.push((of_member, self.graph.input(&format!("dy{member}"), Role::Batch, ty).unwrap()));
        }
        Expanded { y, activations, adapters }
    }

    fn outputs(&mut self, name: &str, fused: ValueId, expanded: ValueId) {
        self.graph.output(&format!("fused.{name}"), fused);
        self.graph.output(&format!("expanded.{name}"), expanded);
    }

    fn masks(&self) -> Option<Masks<ValueId>> {
        let (window_table, counter) = (self.tables.slots.unwrap(), self.counter);
        (self.case.p > 0.0).then_some(Masks { window_table, counter, labelled: self.labelled })
    }

    fn forward(&mut self, expanded: &Expanded) -> Vec<ValueId> {
        let (x, p, members) = (self.tokens(self.h), self.case.p, self.weights.len());
        let mut low = Vec::new();
        if self.case.adapted != 0 {
            let lower = expanded.adapters.iter().map(|adapter| adapter[1]).collect();
            let op = AdapterDown { members: expanded.adapters.len(), p, sites: self.case.sites() };
            low = self.push_all(op, &AdapterDownOperands { x, lower, masks: self.masks() }.join());
        }
        for (index, adapter) in expanded.adapters.iter().enumerate() {
            self.outputs(&format!("low{index}"), low[index], adapter[0]);
        }
        let mut lows = low.iter();
        let member = |member: usize| ProjectionMember {
            weight: self.weights[member],
            bias: self.biases[member],
            adapter: self.halves[member].map(|(_, b)| (*lows.next().unwrap(), b)),
        };
        let members = (0..members).map(member).collect();
        let parts = ProjectionOperands { x, members, residuals: self.residuals.clone() };
        let op = Projection {
            members: self.weights.len(),
            biased: parts.biased(),
            adapted: parts.adapted(),
            gelu: self.case.gelu,
            residuals: self.residuals.len(),
            scale: SCALE,
            dtype: DType::F32,
            activation: DType::F32,
        };
        assert_eq!((op.biased, op.adapted), (self.case.biased, self.case.adapted));
        let results = self.push_all(op, &parts.join());
        let expanded: Vec<_> =
            expanded.y.iter().map(|y| y.0).chain(expanded.activations.iter().copied()).collect();
        for (index, (fused, expanded)) in results.into_iter().zip(expanded).enumerate() {
            self.outputs(&format!("y{index}"), fused, expanded);
        }
        low
    }

    fn backward(&mut self, expanded: &Expanded, low: &[ValueId], cotangents: &BTreeMap<ValueId, ValueId>) {
        let adapted: Vec<usize> = (0..self.weights.len()).filter(|&m| self.halves[m].is_some()).collect();
        let (p, sites, members) = (self.case.p, self.case.sites(), adapted.len());
        let (x, masks) = (self.tokens(self.h), self.masks());
        let mut dlow = Vec::new();
        if members > 0 {
            let operands: Vec<_> =
                adapted.iter().flat_map(|&m| [expanded.y[m].1, self.halves[m].unwrap().1]).collect();
            dlow = self.push_all(AdapterUpGrad { members, scale: SCALE }, &operands);
            let of_member = |(index, &m): (usize, &usize)| AdapterGradMember {
                dy: expanded.y[m].1,
                low: low[index],
                dlow: dlow[index],
            };
            let of_members = adapted.iter().enumerate().map(of_member).collect();
            let table = self.tables.rows.or(self.tables.slots).unwrap();
            let parts = AdapterGradOperands { x, members: of_members, table, masks: masks.clone() };
            let op = AdapterGrad { members, scale: SCALE, p, sites: sites.clone() };
            let gradients = self.push_all(op, &parts.join());
            for (index, [low, a, b]) in expanded.adapters.iter().enumerate() {
                self.outputs(&format!("dlow{index}"), dlow[index], cotangents[low]);
                self.outputs(&format!("da{index}"), gradients[2 * index], cotangents[a]);
                self.outputs(&format!("db{index}"), gradients[2 * index + 1], cotangents[b]);
            }
        }
        let mut dlows = dlow.iter();
        let member = |member: usize| ProjectionGradMember {
            dy: expanded.y[member].1,
            weight: self.weights[member],
            adapter: self.halves[member].map(|(a, _)| (*dlows.next().unwrap(), a)),
        };
        let members = (0..self.weights.len()).map(member).collect();
        let u = if self.case.activated { Some(self.tokens(self.u)) } else { None };
        let masks = masks.filter(|_| self.case.adapted != 0);
        let parts = ProjectionGradOperands { members, masks, u, residuals: self.dx_residuals.clone() };
        let op = ProjectionGrad {
            members: self.weights.len(),
            adapted: parts.adapted(),
            gelu: self.case.activated,
            residuals: self.dx_residuals.len(),
            p,
            sites,
            dtype: DType::F32,
        };
        let fused = self.push(op, &parts.join());
        let mut dx = self.tokens(cotangents[&self.u]);
        for residual in self.dx_residuals.clone() {
            dx = self.push(Add, &[dx, residual]);
        }
        self.outputs("dx", fused, dx);
    }
}

impl Group {
    fn tokens(&self) -> Dim {
        if self.rows { Dim::rows(self.slots) } else { Dim::slots(self.slots) }
    }

    fn sites(&self) -> Vec<usize> {
        crate::layout::members_of(self.adapted).map(Build::site).collect()
    }

    /// Additions and products on a path: sums over inputs, outputs, ranks and tokens, and some of each element.
    fn roundings(&self) -> usize {
        self.inputs + self.outputs.iter().sum::<usize>() + 2 * self.rank + self.slots + 24
    }

    fn check(&self) {
        let mut build = Build::new(self);
        let expanded = build.expanded();
        let cotangents = differentiate(&mut build.graph, &expanded.y, build.tables).unwrap();
        let low = build.forward(&expanded);
        build.backward(&expanded, &low, &cotangents);
        // An activation makes an error at most 1.13 times as large and a magnitude at most half.
        let factor = 2.0 * 2.26 * self.roundings() as f64 * U;
        check(&build.graph, |magnitude| factor * magnitude);
    }
}

prop_compose! {
    fn group()(
        (slots, inputs, rank) in (2usize..8, 1usize..9, 1usize..4),
        outputs in prop::collection::vec(1usize..7, 1..4),
        sets: [u8; 3],
        p in prop_oneof![Just(0.0), 0.1f64..0.7],
        (rows, activated) in any::<(bool, bool)>(),
        residuals in 0usize..3,
    ) -> Group {
        let [biased, adapted, gelu] = sets.map(|set| usize::from(set) & ((1 << outputs.len()) - 1));
        Group { slots, inputs, outputs, rank, biased, adapted, gelu, p, rows, activated, residuals }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fused_projection_is_what_it_stands_for(group in group()) {
        group.check();
    }

    #[test]
    fn a_fused_loss_is_what_it_stands_for(rows in 1usize..6, width in 1usize..9, vocabulary in 1usize..12, chunk in 1usize..5) {
        check_loss(rows, width, vocabulary, chunk);
    }
}

fn check_loss(rows: usize, width: usize, vocabulary: usize, chunk: usize) {
    let mut graph = Graph::new("both");
    let mut float = |name: &str, dims: &[Dim]| graph.input(name, Role::Batch, TensorType::f32(dims)).unwrap();
    let h = float("h", &[Dim::rows(rows), width.into()]);
    let (w, bias) = (float("w", &[vocabulary.into(), width.into()]), float("bias", &[vocabulary.into()]));
    let mut table = |name: &str, dims: &[Dim]| graph.input(name, Role::Batch, TensorType::i32(dims)).unwrap();
    let (labels, rows_of) =
        (table("labels", &[Dim::rows(rows)]), table("row_table", &[Dim::windows(2), 2.into()]));
    let push = |graph: &mut Graph, op: Op, operands: &[ValueId]| {
        let node = graph.push(op, operands).unwrap();
        graph.node(node).results.clone()
    };
    let logits = push(&mut graph, Matmul::nt().into(), &[h, w])[0];
    let logits = push(&mut graph, BiasAdd.into(), &[logits, bias])[0];
    let nll = push(&mut graph, CrossEntropy.into(), &[logits, labels])[0];
    let one = push(&mut graph, Fill { value: 1.0 }.into(), &[nll])[0];
    let tables = WindowTables { slots: None, rows: Some(rows_of) };
    let cotangents = differentiate(&mut graph, &[(nll, one)], tables).unwrap();
    let op = VocabLoss { chunk, gradient: true, dtype: DType::F32 };
    let fused = push(&mut graph, op.clone().into(), &[h, w, bias, labels]);
    let alone = push(&mut graph, VocabLoss { gradient: false, ..op }.into(), &[h, w, bias, labels]);
    for (name, fused, expanded) in
        [("nll", fused[0], nll), ("nll_alone", alone[0], nll), ("dh", fused[1], cotangents[&h])]
    {
        graph.output(&format!("fused.{name}"), fused);
        graph.output(&format!("expanded.{name}"), expanded);
    }
    // A logit is at most D + 1, with D + 1 roundings; the log-sum-exp adds V + 6; a probability has the errors of both,
    // relatively, and a sum over V of them with weights of at most 1 adds V roundings of at most 2.
    let (d, v) = (width as f64, vocabulary as f64);
    let of_logit = (d + 1.0) * (d + 1.0);
    let bound = 2.0 * U * (2.0 * of_logit + 4.0 * (d + 1.0) + 3.0 * v + 12.0);
    check(&graph, |_| bound);
}

#[test]
fn results_in_bf16_are_rounded_once_and_activations_are_of_numbers_before_that() {
    let mut graph = Graph::new("both");
    let mut float = |name: &str, dims: &[Dim]| graph.input(name, Role::Batch, TensorType::f32(dims)).unwrap();
    let (x, w) = (float("x", &[Dim::slots(6), 5.into()]), float("w", &[4.into(), 5.into()]));
    let (h, bias) = (float("h", &[Dim::rows(5), 5.into()]), float("bias", &[4.into()]));
    let labels = graph.input("labels", Role::Batch, TensorType::i32([Dim::rows(5)])).unwrap();
    for dtype in [DType::F32, DType::Bf16] {
        let (members, scale, residuals) = (1, 1.0, 0);
        let op = Projection {
            members,
            biased: 0,
            adapted: 0,
            gelu: 1,
            residuals,
            scale,
            dtype,
            activation: dtype,
        };
        let node = graph.push(op, &[x, w]).unwrap();
        let results = graph.node(node).results.clone();
        graph.output(&format!("y.{dtype}"), results[0]);
        graph.output(&format!("act.{dtype}"), results[1]);
        let sites = Vec::new();
        let op = ProjectionGrad { members, adapted: 0, gelu: false, residuals, p: 0.0, sites, dtype };
        let dx = graph.push1(op, &[results[0], w]).unwrap();
        graph.output(&format!("dx.{dtype}"), dx);
        let node = graph.push(VocabLoss { chunk: 2, gradient: true, dtype }, &[h, w, bias, labels]).unwrap();
        graph.output(&format!("dh.{dtype}"), graph.node(node).results[1]);
    }
    // What tells the labels' bound.
    let logits = graph.push1(Matmul::nt(), &[h, w]).unwrap();
    let node = graph.push(CrossEntropy, &[logits, labels]).unwrap();
    graph.output("nll", graph.node(node).results[0]);
    let data = random_data(&graph).unwrap();
    let found = run::<f64>(&graph, &data).unwrap();
    let rounded = |x: f64| round_to(x, DType::Bf16);
    let exact = elements(&found["y.f32"]);
    let y: Vec<f64> = exact.iter().copied().map(rounded).collect();
    assert_eq!(elements(&found["y.bf16"]), y);
    let activation: Vec<f64> = exact.iter().map(|&y| rounded(super::gelu::activation(y))).collect();
    assert_eq!(elements(&found["act.bf16"]), activation);
    // Of a row of dy that is rounded; the sum is rounded again.
    let w = elements(&data["w"]);
    let of = |token: usize, k: usize| rounded((0..4).map(|n| y[token * 4 + n] * w[n * 5 + k]).sum());
    let dx: Vec<f64> =
        (0..y.len() / 4).flat_map(|token| (0..5).map(move |k| (token, k))).map(|(t, k)| of(t, k)).collect();
    assert_eq!(elements(&found["dx.bf16"]), dx);
    // Four gradients of logits, each off by at most 2^-9 of its magnitude, which sum to at most 2.
    let (rounded, exact) = (elements(&found["dh.bf16"]), elements(&found["dh.f32"]));
    assert_ne!(rounded, exact);
    assert!(rounded.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= 2.0 / 512.0));
}

#[test]
fn a_residual_is_added_to_the_gradient_of_a_norm() {
    let mut graph = Graph::new("both");
    let mut float = |name: &str, dims: &[Dim]| graph.input(name, Role::Batch, TensorType::f32(dims)).unwrap();
    let dims = [Dim::slots(6), 5.into()];
    let (x, dy, residual) = (float("x", &dims), float("dy", &dims), float("residual", &dims));
    let (w, b) = (float("w", &dims[1..]), float("b", &dims[1..]));
    let node = graph.push(LayerNorm::new(1e-5), &[x, w, b]).unwrap();
    let (mean, rstd) = (graph.node(node).results[1], graph.node(node).results[2]);
    let fused = graph.push1(LayerNormGrad, &[dy, x, w, mean, rstd, residual]).unwrap();
    let apart = graph.push1(LayerNormGrad, &[dy, x, w, mean, rstd]).unwrap();
    let expanded = graph.push1(Add, &[apart, residual]).unwrap();
    graph.output("fused.dx", fused);
    graph.output("expanded.dx", expanded);
    check(&graph, |_| 0.0);
}
