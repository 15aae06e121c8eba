//! One broken graph for each way in which an invariant can break.

use super::*;
use crate::entities::{Entity, NodeId};
use crate::graph::{Definition, Role, Value};
use crate::ops::elementwise::Scale;
use crate::shape::{Dim, TensorType};
use crate::text::parse;

/// Two inputs, two nodes; %0 and %1 are `x` and `p`.
fn graph() -> Graph {
    parse(
        "graph @g(%x: batch \"x\" f32[slots:8, 4], %p: parameter \"p\" f32[4]) {
           %y = scale %x {factor = 2} : f32[slots:8, 4]
           %z = bias_add %y, %p : f32[slots:8, 4]
           %q = scale %p {factor = 0.5} : f32[4]
           return \"z\" %z, \"p\" %q
         }",
    )
    .unwrap()
}

#[track_caller]
fn assert_broken(graph: &Graph, invariant: Invariant, message: &str) {
    let error = verify(graph).unwrap_err();
    assert_eq!((error.invariant, error.to_string().as_str()), (invariant, message));
}

#[test]
fn a_graph_that_was_built_holds() {
    assert_eq!(verify(&graph()), Ok(()));
}

#[test]
fn a_node_that_reads_a_later_value_is_refused() {
    let mut graph = graph();
    graph.parts_mut().nodes[NodeId::new(0)].operands[0] = ValueId::new(3);
    assert_broken(
        &graph,
        Invariant::Order,
        "in graph `g`, at `%2 = scale %3 {factor = 2.0} : f32[slots:8, 4]`, value %3: expected an operand that an \
         input or an earlier node defines, found a value that is defined later or not at all",
    );
}

#[test]
fn a_node_that_reads_a_foreign_value_is_refused() {
    let mut graph = graph();
    graph.parts_mut().nodes[NodeId::new(2)].operands[0] = ValueId::new(77);
    assert_broken(
        &graph,
        Invariant::Order,
        "in graph `g`, at `%4 = scale %77 {factor = 0.5} : f32[4]`, value %77: expected an operand that an input or \
         an earlier node defines, found a value that is not of this graph",
    );
}

#[test]
fn two_definitions_of_a_value_are_refused() {
    let mut graph = graph();
    graph.parts_mut().nodes[NodeId::new(1)].results[0] = ValueId::new(2);
    assert_broken(
        &graph,
        Invariant::Definitions,
        "in graph `g`, at `%2 = bias_add %2, %1 : f32[slots:8, 4]`, value %2: expected a value with one definition, \
         found a second one",
    );
}

#[test]
fn a_result_that_is_not_of_the_graph_is_refused() {
    let mut graph = graph();
    graph.parts_mut().nodes[NodeId::new(1)].results[0] = ValueId::new(9);
    assert_broken(
        &graph,
        Invariant::Definitions,
        "in graph `g`, at `%9 = bias_add %2, %1 : ?`, value %9: expected a value of this graph, found one of 5 values",
    );
}

#[test]
fn a_definition_that_does_not_point_back_is_refused() {
    let mut graph = graph();
    graph.parts_mut().values[ValueId::new(1)].definition = Definition::Input(0);
    assert_broken(
        &graph,
        Invariant::Definitions,
        "in graph `g`, input `p`, value %1: expected the value to be Input(1), found Input(0)",
    );
}

#[test]
fn a_value_that_nothing_defines_is_refused() {
    let mut graph = graph();
    let definition = Definition::Result(NodeId::new(0), 1);
    graph.parts_mut().values.push(Value { ty: TensorType::f32([]), definition });
    assert_broken(
        &graph,
        Invariant::Definitions,
        "in graph `g`, value %5: expected an input or a node that defines it, found none",
    );
}

#[test]
fn a_type_that_is_not_inferred_is_refused() {
    let mut graph = graph();
    graph.parts_mut().values[ValueId::new(4)].ty = TensorType::f32([Dim::fixed(5)]);
    assert_broken(
        &graph,
        Invariant::Types,
        "in graph `g`, at `%4 = scale %1 {factor = 0.5} : f32[5]`, value %4: expected f32[4], found f32[5]",
    );
}

#[test]
fn operands_that_the_op_does_not_take_are_refused() {
    let mut graph = graph();
    graph.parts_mut().nodes[NodeId::new(1)].operands.pop();
    assert_broken(
        &graph,
        Invariant::Types,
        "in graph `g`, at `%3 = bias_add %2 : f32[slots:8, 4]`: expected operands that `bias_add` takes, found an \
         error: expected 2 operands, found 1",
    );
}

#[test]
fn a_missing_result_is_refused() {
    let mut graph = graph();
    graph.parts_mut().nodes[NodeId::new(2)].results.clear();
    assert_broken(
        &graph,
        Invariant::Types,
        "in graph `g`, at ` = scale %1 {factor = 0.5} : `: expected 1 results, found 0",
    );
}

#[test]
fn two_inputs_of_one_name_are_refused() {
    let mut graph = graph();
    graph.parts_mut().inputs[1].name = "x".to_owned();
    assert_broken(
        &graph,
        Invariant::Names,
        "in graph `g`, input `x`, value %1: expected an input with a name of its own, found a second input of this name",
    );
}

#[test]
fn two_outputs_of_one_name_are_refused() {
    let mut graph = graph();
    graph.output("z", ValueId::new(2));
    assert_broken(
        &graph,
        Invariant::Names,
        "in graph `g`, output `z`, value %2: expected an output with a name of its own, found a second output of \
         this name",
    );
}

#[test]
fn an_output_of_a_foreign_value_is_refused() {
    let mut graph = graph();
    graph.output("w", ValueId::new(5));
    assert_broken(
        &graph,
        Invariant::Order,
        "in graph `g`, output `w`, value %5: expected a value of this graph, found one that nothing defines",
    );
}

#[test]
fn an_output_that_replaces_a_batch_input_is_refused() {
    let mut graph = graph();
    graph.output("x", ValueId::new(2));
    assert_broken(
        &graph,
        Invariant::Updates,
        "in graph `g`, output `x`, value %2: expected a name that is no input's, or that of a parameter or a state, \
         found that of a batch input",
    );
}

#[test]
fn an_update_of_another_type_is_refused() {
    let mut graph = graph();
    let state = graph.input("s", Role::State, TensorType::f32([Dim::fixed(3)])).unwrap();
    let scaled = graph.push1(Scale { factor: 2.0 }, &[ValueId::new(1)]).unwrap();
    graph.output("s", scaled);
    assert!(state < scaled);
    assert_broken(
        &graph,
        Invariant::Updates,
        "in graph `g`, output `s`, value %6: expected f32[3], the type of the input of this name, found f32[4]",
    );
}

#[test]
fn an_update_that_is_an_input_is_refused() {
    let mut graph = graph();
    let state = graph.input("s", Role::State, TensorType::f32([Dim::fixed(4)])).unwrap();
    graph.output("s", state);
    assert_broken(
        &graph,
        Invariant::Updates,
        "in graph `g`, output `s`, value %5: expected the result of a node as the input's new content, found the \
         input `s`",
    );
}

#[test]
fn an_extent_with_two_bounds_is_refused() {
    let mut graph = graph();
    graph.input("tokens", Role::Batch, TensorType::i32([Dim::slots(9)])).unwrap();
    assert_broken(
        &graph,
        Invariant::Bounds,
        "in graph `g`, input `tokens`, value %5: expected slots:8, as %0 has it, found slots:9",
    );
}
