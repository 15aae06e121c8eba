//! Tests of the driver; the rules are tested with their ops.

use super::*;
use crate::graph::Role;
use crate::ops::elementwise::{Add, Fill, Scale};
use crate::ops::optimizer::SumSquares;
use crate::shape::{Dim, TensorType};

#[test]
fn contributions_to_one_value_are_summed_in_the_order_of_the_walk() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", Role::Batch, TensorType::f32([Dim::slots(4)])).unwrap();
    let a = graph.push1(Scale { factor: 2.0 }, &[x]).unwrap();
    let b = graph.push1(Scale { factor: 3.0 }, &[x]).unwrap();
    let y = graph.push1(Add, &[a, b]).unwrap();
    let seed = graph.push1(Fill { value: 1.0 }, &[y]).unwrap();
    let cotangents = differentiate(&mut graph, &[(y, seed)], WindowTables::default()).unwrap();
    let sum = graph.value(cotangents[&x]).definition;
    let crate::graph::Definition::Result(node, 0) = sum else { panic!("{sum:?}") };
    assert_eq!(graph.node(node).op, Add.into());
    let factors: Vec<_> = graph
        .node(node)
        .operands
        .iter()
        .map(|&operand| match graph.value(operand).definition {
            crate::graph::Definition::Result(node, 0) => graph.node(node).op.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(factors, [Scale { factor: 3.0 }.into(), Scale { factor: 2.0 }.into()]);
}

#[test]
fn an_op_without_a_rule_says_why() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", Role::Parameter, TensorType::f32([Dim::fixed(4)])).unwrap();
    let y = graph.push1(SumSquares, &[x]).unwrap();
    let error = differentiate(&mut graph, &[(y, y)], WindowTables::default()).unwrap_err().to_string();
    assert!(error.starts_with("op `sum_squares` has no gradient rule: "), "{error}");
}
