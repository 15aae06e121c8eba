//! Types, work and refusals of fused projections; what they compute is held against primitive ops in `fused_tests`.

use super::*;
use crate::shape::Dim;

const PLAIN: Projection = Projection {
    members: 2,
    biased: 0b10,
    adapted: 0b01,
    gelu: 0b10,
    residuals: 0,
    scale: 2.0,
    dtype: DType::Bf16,
    activation: DType::F32,
};

fn matrix(rows: impl Into<Dim>, columns: usize) -> TensorType {
    TensorType::f32([rows.into(), columns.into()])
}

/// x, weights of 5 and 7 outputs, a bias of the second, an adapter of rank 2 of the first.
fn operands() -> Vec<TensorType> {
    let slots = Dim::slots(6);
    let (x, bias) = (matrix(slots, 3), TensorType::f32([Dim::fixed(7)]));
    vec![x, matrix(5, 3), matrix(7, 3), bias, matrix(slots, 2), matrix(5, 2)]
}

fn error(op: &impl Operation, operands: &[TensorType]) -> String {
    op.infer(&operands.iter().collect::<Vec<_>>()).unwrap_err().to_string()
}

#[test]
fn results_are_projections_then_activations() {
    let operands = operands();
    let operands: Vec<_> = operands.iter().collect();
    let results = PLAIN.infer(&operands).unwrap();
    let [y0, y1] = [5, 7].map(|n| matrix(Dim::slots(6), n).with_dtype(DType::Bf16));
    let activation = y1.with_dtype(DType::F32);
    assert_eq!(results, [y0, y1, activation]);
    // Products, scaled lower halves; of the second member bias and activation.
    let products = 2 * 6 * (5 * (3 + 2) + 7 * 3);
    let flops = PLAIN.flops(&operands, &results.iter().collect::<Vec<_>>());
    assert_eq!(flops, products + 6 * 2 + 6 * 7 * (1 + ACTIVATION_FLOPS));
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let with = |index: usize, ty: TensorType| {
        let mut operands = operands();
        operands[index] = ty;
        error(&PLAIN, &operands)
    };
    assert_eq!(with(2, matrix(7, 4)), "operand 2: expected a weight f32[N, 3], found f32[7, 4]");
    let wider = matrix(7, 3).with_dtype(DType::Bf16);
    assert_eq!(with(2, wider), "operand 2: expected a weight f32[N, 3], found bf16[7, 3]");
    assert_eq!(with(3, matrix(7, 1)), "operand 3: expected f32[7], found f32[7, 1]");
    assert_eq!(with(4, matrix(Dim::rows(6), 2)), "operand 4: expected f32[slots:6, 2], found f32[rows:6, 2]");
    assert_eq!(with(5, matrix(5, 3)), "operand 5: expected f32[5, 2], found f32[5, 3]");
    assert_eq!(error(&PLAIN, &operands()[..5]), "expected 6 operands, found 5");
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    let refused = |op: Projection| error(&op, &operands());
    let message = "attribute `members` = 7: there are between 1 and 6";
    assert_eq!(refused(Projection { members: 7, ..PLAIN }), message);
    let message = "attribute `gelu` = 4: a bit is no member of 2";
    assert_eq!(refused(Projection { gelu: 4, ..PLAIN }), message);
    let message = "attribute `residuals` = 1: they are added to a single member, not to 2";
    assert_eq!(refused(Projection { residuals: 1, ..PLAIN }), message);
    assert!(refused(Projection { scale: f64::NAN, ..PLAIN }).starts_with("attribute `scale` = NaN"));
    let attributes = PLAIN.attributes();
    assert_eq!(Projection::from_attributes(&attributes), Ok(PLAIN));
}

#[test]
fn a_gradient_says_what_it_takes() {
    let op = ProjectionGrad {
        members: 1,
        adapted: 1,
        gelu: true,
        residuals: 1,
        p: 0.5,
        sites: vec![9],
        dtype: DType::F32,
    };
    assert_eq!(ProjectionGrad::from_attributes(&op.attributes()), Ok(op.clone()));
    let operands = |tokens: Dim| {
        let (table, counter) =
            (TensorType::i32([Dim::windows(2), 2.into()]), TensorType::i32([Dim::fixed(4)]));
        let first = vec![matrix(tokens, 5), matrix(5, 3), matrix(tokens, 2), matrix(2, 3)];
        [first, vec![table, counter, matrix(tokens, 3), matrix(tokens, 3)]].concat()
    };
    let slots = operands(Dim::slots(6));
    let types: Vec<_> = slots.iter().collect();
    let results = op.infer(&types).unwrap();
    assert_eq!(results, [matrix(Dim::slots(6), 3)]);
    // Products; the sum of the adapter's and its mask; derivative and residual.
    let flops = 6 * 3 * (2 * (5 + 2) + 2 + GRADIENT_FLOPS + 1);
    assert_eq!(op.flops(&types, &results.iter().collect::<Vec<_>>()), flops);
    // Of labelled rows, their slots are needed.
    let mut rows = operands(Dim::rows(6));
    let expected =
        "operand 0: expected slots, or rows with `labelled` behind `counter`, found f32[rows:6, 5]";
    assert_eq!(error(&op, &rows), expected);
    rows.insert(6, TensorType::i32([Dim::rows(6)]));
    assert_eq!(op.infer(&rows.iter().collect::<Vec<_>>()), Ok(vec![matrix(Dim::rows(6), 3)]));
    let other = ProjectionGrad { sites: vec![], ..op.clone() };
    assert_eq!(error(&other, &slots), "attribute `sites` = []: each of 1 adapters has a site");
    let other = ProjectionGrad { sites: vec![65536], ..op };
    assert_eq!(error(&other, &slots), "attribute `site0` = 65536: the counter tells 65536 sites apart");
}
