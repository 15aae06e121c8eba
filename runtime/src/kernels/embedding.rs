//! Rows of the embedding table, and the table's gradient per window.

use super::elementwise::{leading, widen};
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
pub fn embedding_grad(dy: &[f32], tokens: &[i32], width: usize, gradient: &mut [f32]) {
    gradient.fill(0.0);
    for (row, &token) in dy.chunks_exact(width).zip(tokens) {
        super::elementwise::add_assign(&mut gradient[token as usize * width..][..width], row);
    }
}

pub(super) fn bind_forward(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
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
                    widen(&table[token as usize * width..][..width], row);
                }
            }
        })),
        I32 => Err(call.refuse("a table of integers")),
    }
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dy, tokens, table], [gradient]) = call.views([F32, I32, I32], [F32])?;
    let (width, size) = (dy.row_elements(), gradient.row_elements());
    Ok(RowKernel::boxed(leading(&gradient), 1, move |windows, _, _| {
        for window in windows {
            // SAFETY: the promises of `run_tile`; a window's gradient is this tile's own.
            unsafe {
                let slots = table_range(table.read_to(2 * window + 2), window);
                let out = gradient.write(window * size..(window + 1) * size);
                embedding_grad(dy.read(elements(&slots, width)), tokens.read(slots), width, out);
            }
        }
    }))
}
