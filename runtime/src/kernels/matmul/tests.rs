//! Products against the op, for shapes around the kernel's tiles and blocks.

use super::super::testing::{Batch, Case, few};
use gptjc_graphs::dtype::DType::{Bf16, F32};
use gptjc_graphs::ops::matmul::{Form, Matmul, WindowMatmul};
use gptjc_graphs::shape::Dim;
use proptest::prelude::*;

/// `a[rows of the batch, inner]` times `b`, of every pair of dtypes.
fn check(seed: u64, longest: usize, inner: usize, columns: usize, form: Form, tile: (u32, u32)) {
    let mut batch = Batch::new(seed, longest);
    let b: [Dim; 2] = match form {
        Form::Nt => [columns.into(), inner.into()],
        Form::Nn => [inner.into(), columns.into()],
    };
    for (of_a, of_b) in [(F32, F32), (F32, Bf16), (Bf16, F32), (Bf16, Bf16)] {
        let operands = vec![batch.float(of_a, &[batch.slots(), inner.into()]), batch.float(of_b, &b)];
        let pairs = (of_a, of_b) == (Bf16, Bf16);
        Case::new(Matmul { form }, batch.extents(), operands)
            .tile(tile.0, tile.1)
            .product(pairs)
            .check_sums(inner);
    }
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Nt), Just(Form::Nn)]
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn products_are_those_of_the_op(
        seed: u64,
        inner in 0usize..40,
        columns in 0usize..40,
        form in form(),
        tile in (1u32..9, 0u32..20),
    ) {
        check(seed, 5, inner, columns, form, tile);
    }

    #[test]
    fn windows_are_multiplied_each_by_itself(seed: u64, n in 1usize..20, k in 1usize..35, rows in 1u32..9) {
        let mut batch = Batch::new(seed, 9);
        let slots = batch.slots();
        let operands = vec![batch.f32(&[slots, n.into()]), batch.f32(&[slots, k.into()]), batch.window_table()];
        Case::new(WindowMatmul, batch.extents(), operands).tile(rows, 0).product(false).check_sums(9);
        // Of labelled rows, by the table of rows.
        let rows_of = batch.rows();
        let operands = vec![batch.f32(&[rows_of, n.into()]), batch.f32(&[rows_of, k.into()]), batch.row_table()];
        Case::new(WindowMatmul, batch.extents(), operands).tile(rows, 0).product(false).check_sums(9);
    }
}

#[test]
fn sums_go_on_from_block_to_block() {
    for form in [Form::Nt, Form::Nn] {
        for inner in [511, 512, 513, 1025] {
            check(inner as u64, 4, inner, 19, form, (3, 8));
        }
    }
}

#[test]
fn shapes_around_the_tiles_are_whole() {
    for form in [Form::Nt, Form::Nn] {
        for columns in [1, 7, 8, 9, 15, 16, 17, 31, 33] {
            for longest in [1, 2, 3] {
                check(columns as u64, longest, 13, columns, form, (4, 8));
            }
        }
    }
}

/// Bits of a row must depend neither on the number of rows nor on its place among them.
#[test]
fn a_row_has_the_same_bits_alone() {
    let (a, b): (Vec<f32>, Vec<f32>) = {
        let number = |index: usize| ((index * 7919 % 1013) as f32 / 1013.0 - 0.5).exp();
        ((0..9 * 600).map(number).collect(), (0..11 * 600).map(|index| number(index + 5)).collect())
    };
    let layout = super::Layout { inner: 600, columns: 11, transposed: true };
    let product = |a: &[f32], rows: usize| {
        let mut packed = vec![f32::NAN; super::PACKED];
        let of_panel = |panel: std::ops::Range<usize>| {
            let mut sums = vec![0.0; rows * super::PANEL];
            super::accumulate(a, &b, layout, panel, &mut sums, &mut packed);
            sums
        };
        super::panels(0..11).map(of_panel).collect::<Vec<_>>()
    };
    let together = product(&a, 9);
    for row in 0..9 {
        let alone = product(&a[row * 600..(row + 1) * 600], 1);
        let of_row: Vec<_> =
            together.iter().map(|sums| &sums[row * super::PANEL..][..super::PANEL]).collect();
        assert_eq!(alone, of_row, "row {row}");
    }
}
