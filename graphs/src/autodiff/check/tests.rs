//! Tests that the checker finds wrong gradients.

use super::*;
use crate::ops::elementwise::{BiasAdd, Scale};
use crate::ops::gelu::GeluTanh;

/// `y = gelu(x + b)` with two windows.
fn forward() -> Graph {
    let mut graph = Graph::new("g");
    let x = graph.input("x", Role::Batch, TensorType::f32([Dim::slots(5), 3.into()])).unwrap();
    let b = graph.input("b", Role::Parameter, TensorType::f32([Dim::fixed(3)])).unwrap();
    graph.input("window_table", Role::Batch, TensorType::i32([Dim::windows(2), 2.into()])).unwrap();
    let sum = graph.push1(BiasAdd, &[x, b]).unwrap();
    let y = graph.push1(GeluTanh, &[sum]).unwrap();
    graph.output("y", y);
    graph
}

/// The complaint about `forward` if the gradient of input `wrong` is what `adjust` makes of it.
fn complaint(wrong: &str, adjust: impl Fn(&mut Graph, ValueId) -> Option<ValueId>) -> String {
    let forward = forward();
    let gradient = with_gradient(
        &forward,
        |graph, name, value| {
            if name == wrong { adjust(graph, value) } else { Some(value) }
        },
    );
    compare(&forward, &gradient.unwrap()).unwrap_err()
}

#[test]
fn a_right_gradient_passes() {
    let forward = forward();
    let gradient = with_gradient(&forward, |_, _, gradient| Some(gradient)).unwrap();
    assert_eq!(compare(&forward, &gradient), Ok(()));
}

#[test]
fn a_gradient_that_is_slightly_too_large_is_found() {
    for input in ["x", "b"] {
        let error =
            complaint(input, |graph, value| Some(graph.push1(Scale { factor: 1.00001 }, &[value]).unwrap()));
        assert!(error.starts_with(&format!("gradient of input `{input}` at [")), "{error}");
        assert!(error.contains(" by finite differences, found "), "{error}");
    }
}

#[test]
fn a_missing_gradient_is_found() {
    for input in ["x", "b"] {
        let error = complaint(input, |_, _| None);
        assert!(error.starts_with(&format!("gradient of input `{input}` at [")), "{error}");
        assert!(error.contains("found 0 "), "{error}");
    }
}

#[test]
fn a_gradient_of_another_value_is_found() {
    let error = complaint("b", |graph, _| Some(graph.find_input("x").unwrap().value));
    assert_eq!(error, "input `b` of type f32[3]: its gradient is f32[slots:5, 3]");
}

#[test]
fn a_gradient_in_the_wrong_window_is_found() {
    let right = vec![vec![1.0, 2.0], vec![3.0, 4.0]];
    assert_eq!(compare_elements(&[2], &right, &[1.0, 2.0, 3.0, 4.0]), Ok(()));
    let error = compare_elements(&[2], &right, &[4.0, 2.0, 0.0, 4.0]).unwrap_err();
    assert!(error.starts_with(" at [0] of window 0: expected 1 by finite differences, found 4"), "{error}");
    let error = compare_elements(&[2], &right, &[1.0, 2.0, f64::NAN, 4.0]).unwrap_err();
    assert!(error.starts_with(" at [0] of window 1: expected 3 by finite differences, found NaN"), "{error}");
}

#[test]
#[should_panic(expected = "no output depends on any input")]
fn a_graph_that_proves_nothing_is_refused() {
    check_vjp("graph @f(%x: batch \"x\" f32[3]) { %y = fill %x {value = 2.0} : f32[3] return \"y\" %y }");
}

#[test]
fn bf16_is_checked_as_f32() {
    check_vjp(
        "graph @f(%x: batch \"x\" f32[slots:4, 3], %w: weight \"w\" bf16[2, 3], \
         %t: batch \"window_table\" i32[windows:2, 2]) { \
         %c = cast %x {dtype = bf16} : bf16[slots:4, 3] \
         %y = matmul %c, %w {form = nt} : f32[slots:4, 2] return \"y\" %y }",
    );
}

#[test]
fn a_chain_from_tokens_to_loss_is_checked_at_every_parameter() {
    check_vjp(
        "graph @f(%e: parameter \"e\" f32[6, 4], %w: parameter \"w\" f32[4], %b: parameter \"b\" f32[4], \
         %h: parameter \"h\" f32[5, 4], %tokens: batch \"tokens\" i32[slots:9], %labelled: batch \"labelled\" i32[rows:6], \
         %labels: batch \"labels\" i32[rows:6], %segment: batch \"segment\" i32[slots:9], \
         %segments: batch \"segment_table\" i32[segments:4, 2], %t: batch \"window_table\" i32[windows:3, 2], \
         %rt: batch \"row_table\" i32[windows:3, 2]) { \
         %x = embedding %e, %tokens : f32[slots:9, 4] \
         %y, %mean, %rstd = layer_norm %x, %w, %b {epsilon = 0.001} : f32[slots:9, 4], f32[slots:9], f32[slots:9] \
         %s = segment_scores %y, %y, %segment, %segments {heads = 2, window = 4} : f32[slots:9, 2, 4] \
         %p = masked_softmax %s, %segment, %segments : f32[slots:9, 2, 4] \
         %o = segment_mix %p, %y, %segment, %segments : f32[slots:9, 4] \
         %g = gelu_tanh %o : f32[slots:9, 4] \
         %z = add %g, %x : f32[slots:9, 4] \
         %r = gather_rows %z, %labelled : f32[rows:6, 4] \
         %l = matmul %r, %h {form = nt} : f32[rows:6, 5] \
         %nll, %lse = cross_entropy %l, %labels : f32[rows:6], f32[rows:6] return \"nll\" %nll }",
    );
}
