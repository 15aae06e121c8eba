//! Tests of the text form.

use super::*;

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
