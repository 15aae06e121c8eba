//! Rows of the embedding table, and the table's gradient per window.

use super::elementwise::{Elementwise, leading};
use super::rowwise::{RowKernel, elements, table_range};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{Bf16, F32, I32};

/// Copies row `tokens[m]` of `table[V, D]` to row m of `y[M, D]`.
///
/// # Panics
/// If a token is outside of the table: the data path has checked them.
pub fn embedding_rows(table: &[f32], tokens: &[i32], width: usize, y: &mut [f32]) {
    for (row, &token) in y.chunks_exact_mut(width).zip(tokens) {
        row.copy_from_slice(&table[token as usize * width..][..width]);
    }
}

/// Sum of `dy[M, D]`'s rows into the rows of `gradient[V, D]` that their tokens name, in ascending order of the rows.
fn embedding_grad(
    arithmetic: impl Elementwise,
    dy: &[f32],
    tokens: &[i32],
    width: usize,
    gradient: &mut [f32],
) {
    gradient.fill(0.0);
    for (row, &token) in dy.chunks_exact(width).zip(tokens) {
        arithmetic.add_assign(&mut gradient[token as usize * width..][..width], row);
    }
}

pub(super) fn bind_forward(
    call: &Call,
    arithmetic: impl Elementwise,
) -> Result<Box<dyn Kernel>, KernelError> {
    let ([table, tokens], [y]) = call.views([call.dtype_of_operand(0)?, I32], [F32])?;
    let (width, vocab) = (y.row_elements(), table.ty().elements());
    let (dim, rows_of_tile) = (leading(&y), call.partition.rows);
    match table.ty().dtype {
        F32 => Ok(RowKernel::boxed(dim, rows_of_tile, move |rows, _, _| {
            // SAFETY: the promises of `run_tile`.
            unsafe {
                let out = y.write(elements(&rows, width));
                embedding_rows(table.read_to(vocab), tokens.read(rows), width, out);
            }
        })),
        Bf16 => Ok(RowKernel::boxed(dim, rows_of_tile, move |rows, _, _| {
            // SAFETY: the promises of `run_tile`.
            unsafe {
                let out = y.write::<f32>(elements(&rows, width));
                let table = table.read_to::<half::bf16>(vocab);
                for (row, &token) in out.chunks_exact_mut(width).zip(tokens.read::<i32>(rows)) {
                    arithmetic.widen(&table[token as usize * width..][..width], row);
                }
            }
        })),
        I32 => Err(call.refuse("a table of integers")),
    }
}

pub(super) fn bind_grad(call: &Call, arithmetic: impl Elementwise) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dy, tokens, table], [gradient]) = call.views([F32, I32, I32], [F32])?;
    let (width, size) = (dy.row_elements(), gradient.row_elements());
    Ok(RowKernel::boxed(leading(&gradient), 1, move |windows, _, _| {
        for window in windows {
            // SAFETY: the promises of `run_tile`; a window's gradient is this tile's own.
            unsafe {
                let slots = table_range(table.read_to(2 * window + 2), window);
                let out = gradient.write(window * size..(window + 1) * size);
                let dy = dy.read(elements(&slots, width));
                embedding_grad(arithmetic, dy, tokens.read(slots), width, out);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, few};
    use super::*;
    use gptjc_graphs::ops::embedding as ops;
    use gptjc_graphs::shape::Dim;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn rows_are_those_of_the_table(seed: u64, width in 1usize..35, vocab_size in 1usize..40, rows in 1u32..9) {
            let mut batch = Batch::new(seed, 7);
            for dtype in [F32, Bf16] {
                let table = batch.float(dtype, &[vocab_size.into(), width.into()]);
                let tokens = batch.indices(batch.slots(), vocab_size);
                Case::new(ops::Embedding, batch.extents(), vec![table, tokens]).tile(rows, 0).vector().check_exact();
            }
        }

        #[test]
        fn gradients_add_the_rows_of_equal_tokens(seed: u64, width in 1usize..20, vocab_size in 1usize..6) {
            let mut batch = Batch::new(seed, 7);
            let dy = batch.f32(&[batch.slots(), width.into()]);
            let tokens = batch.indices(batch.slots(), vocab_size);
            let operands = vec![dy, tokens, batch.window_table()];
            Case::new(ops::EmbeddingGrad { vocab_size }, batch.extents(), operands).vector().check_sums(7);
        }
    }

    #[test]
    fn a_token_out_of_the_table_panics() {
        let mut y = [0.0; 2];
        for token in [3, -1] {
            let outcome = std::panic::catch_unwind(move || embedding_rows(&[0.0; 6], &[token], 2, &mut y));
            assert!(outcome.is_err(), "token {token} of a table of 3 rows");
        }
    }

    #[test]
    fn a_table_of_integers_is_refused() {
        let batch = Batch::new(1, 3);
        let view = |dtype| super::super::tests::dangling(dtype, &[Dim::fixed(3), Dim::fixed(2)]);
        let case = Case::new(ops::Embedding, batch.extents(), Vec::new());
        let call = case.call(case.partition, vec![view(I32), view(I32)], vec![view(F32)]);
        let error = bind_forward(&call, super::super::Portable).err().map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            Some("kernel `embedding-f32-portable` does not take a table of integers")
        );
    }
}
