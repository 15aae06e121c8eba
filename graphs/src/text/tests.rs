//! Tests of the text form.

use super::*;
use crate::dtype::DType;
use crate::entities::{Entity, ValueId};
use crate::graph::{Graph, Role};
use crate::ops::elementwise::{Add, Cast, Scale};
use crate::ops::matmul::{Matmul, WindowMatmul};
use crate::shape::{Dim, TensorType};
use proptest::prelude::*;

const TEXT: &str = "\
graph @f(
  %0: batch \"x\" f32[slots:32, 64],
  %1: parameter \"b\" f32[64],
) {
  %2 = bias_add %0, %1 : f32[slots:32, 64] @ \"transformer.h.0\"
  %3 = scale %2 {factor = -2.5e-7} : f32[slots:32, 64]
  %4 = cast %3 {dtype = bf16} : bf16[slots:32, 64]
  return \"y\" %4, \"b\" %1
}
";

#[test]
fn what_prints_parses_back() {
    let graph = parse(TEXT).unwrap();
    assert_eq!(print(&graph), TEXT);
    assert_eq!(parse(&print(&graph)).unwrap(), graph);
}

#[test]
fn blanks_names_comments_and_trailing_commas_are_free() {
    let graph = parse(
        "graph@f(%x:batch \"x\"f32[slots:32,64,],%bias: parameter \"b\" f32[64]){ ; inputs on one line\n\
         %biased=bias_add %x,%bias,{}:f32[slots:32,64]@\"transformer.h.0\"\n\
         %q_rot = scale %biased {factor = -2.5e-7,} : f32[slots:32, 64] %z = cast %q_rot {dtype = bf16}\n\
         : bf16[slots:32, 64] return \"y\" %z, \"b\" %bias, }",
    );
    assert_eq!(print(&graph.unwrap()), TEXT);
}

#[test]
fn an_error_shows_the_place() {
    let error = parse("graph @f(\n\t%x: batch \"x\" f32[2], %x: batch \"y\" f32[2]) { return }").unwrap_err();
    assert_eq!((error.line, error.column), (2, 24));
    assert_eq!(
        error.to_string(),
        "line 2, column 24: expected a value that is not defined yet, found `%x`, which is defined on line 2\n  | \
         \t%x: batch \"x\" f32[2], %x: batch \"y\" f32[2]) { return }\n  | \t                      ^"
    );
}

#[test]
fn long_texts_are_parsed_without_recursion() {
    let open = "{".repeat(1_000_000);
    assert!(parse(&format!("graph @f() {open}")).is_err());
    let nodes = "%x = scale %0 {factor = 1}: f32[2] ".replace("%x", "%a");
    let text: String = (0..20_000).map(|i| nodes.replace("%a", &format!("%a{i}"))).collect();
    let graph = parse(&format!("graph @f(%0: batch \"x\" f32[2]) {{ {text} return }}")).unwrap();
    assert_eq!(graph.node_count(), 20_000);
}

/// One step of making a graph: what is done, on which values, with which constant.
#[derive(Clone, Debug)]
struct Step {
    what: usize,
    operands: [prop::sample::Index; 3],
    constant: f64,
    name: String,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let operands = any::<[prop::sample::Index; 3]>();
    let constant = any::<f64>().prop_filter("NaN equals nothing", |x| !x.is_nan());
    let step = (0..8usize, operands, constant, "\\PC{0,6}|[\"\\\\\n\t;%]{1,4}")
        .prop_map(|(what, operands, constant, name)| Step { what, operands, constant, name });
    prop::collection::vec(step, 0..24)
}

/// A graph with what of the steps is well typed. Inputs may come after nodes.
fn build(name: &str, steps: &[Step]) -> Graph {
    let mut graph = Graph::new(name);
    let inputs = [
        TensorType::f32([Dim::slots(4), Dim::fixed(3)]),
        TensorType::new(DType::Bf16, [Dim::fixed(3), Dim::fixed(3)]),
        TensorType::i32([Dim::windows(2), Dim::fixed(2)]),
    ];
    for (index, ty) in inputs.into_iter().enumerate() {
        graph.input(&format!("input {index}"), Role::ALL[index], ty).unwrap();
    }
    for step in steps {
        let [a, b, c] = step.operands.map(|index| ValueId::new(index.index(graph.value_count())));
        // What does not type-check adds nothing.
        let _ = match step.what {
            0 => graph.push(Scale { factor: step.constant }, &[a]).is_ok(),
            1 => graph.push(Add, &[a, a]).is_ok(),
            2 => graph.push(Matmul::nt(), &[a, b]).is_ok(),
            3 => graph.push(WindowMatmul, &[a, b, c]).is_ok(),
            4 => graph.push(Cast { dtype: DType::Bf16 }, &[a]).is_ok(),
            5 => graph.input(&step.name, Role::State, graph.ty(a).clone()).is_ok(),
            6 => {
                graph.set_module(&step.name);
                true
            }
            _ => {
                let is_new = graph.outputs().iter().all(|output| output.name != step.name);
                if is_new {
                    graph.output(&step.name, a);
                }
                is_new
            }
        };
    }
    graph
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_graphs_round_trip(name in "[a-z_]{1,5}|\\PC{0,5}", steps in steps()) {
        let graph = build(&name, &steps);
        let printed = print(&graph);
        let parsed = parse(&printed).unwrap_or_else(|error| panic!("{error}\nin: {printed}"));
        prop_assert_eq!(print(&parsed), printed);
        prop_assert_eq!(parsed, graph);
    }
}
