//! The loops around an instruction set's steps.
//!
//! For each part of the columns and rows: for each block of the summed index, over all terms: pack the right operand's
//! panels once; then for each panel of rows: pack it and multiply it with every right panel. Right panels stay in the
//! second-level cache while all rows pass, a left panel in the first while all right panels pass.

use super::blocking::{
    DEPTH, LEFT_STRIDE, LINE, MOST_ROWS, ROWS, WIDEST_PANEL, elements_of_lane, even_part, part_of_columns,
    scratch_elements,
};
use super::{Ahead, Finish, Form, Format, Steps, Term};
use std::ops::Range;

/// Scratch, cut up: all parts begin at a cache line.
struct Room {
    left: *mut f32,
    right: *mut f32,
    sums: *mut f32,
    row: *mut f32,
}

impl Room {
    /// Cuts up scratch for parts of `rows` times `columns`, the latter whole panels.
    fn new(scratch: &mut [f32], rows: usize, columns: usize) -> Self {
        assert!(scratch.len() >= scratch_elements(rows, columns), "scratch of a product");
        let start = scratch.as_mut_ptr();
        let misaligned = start.addr() / size_of::<f32>() % LINE;
        // SAFETY: the parts are those that `scratch_elements` counts, whose sum is within scratch: at most LINE to align,
        // then the left panel, right panels, sums and one row, each a whole number of lines.
        unsafe {
            let left = start.add((LINE - misaligned) % LINE);
            let right = left.add(MOST_ROWS * LEFT_STRIDE);
            let sums = right.add(DEPTH * columns);
            let row = sums.add(rows * columns);
            Self { left, right, sums, row }
        }
    }
}

/// As [`super::Engine::run`].
pub(super) fn run<S: Steps>(
    steps: S,
    terms: &[Term],
    rows: Range<usize>,
    columns: Range<usize>,
    finish: &dyn Finish,
    scratch: &mut [f32],
) {
    for term in terms {
        check(term, &rows, &columns);
    }
    // Scratch was asked for with the widest panel, whatever this engine's is.
    let part_columns = part_of_columns(columns.len(), WIDEST_PANEL);
    let part_rows = rows.len().clamp(1, ROWS);
    let room = Room::new(scratch, part_rows, part_columns);
    for first in columns.clone().step_by(part_columns) {
        let columns = first..(first + part_columns).min(columns.end);
        for first in rows.clone().step_by(part_rows) {
            let rows = first..(first + part_rows).min(rows.end);
            part(steps, terms, rows, columns.clone(), finish, &room);
        }
    }
}

/// Panics if the ranges do not lie in the term's operands: packing and kernels do not look again.
fn check(term: &Term, rows: &Range<usize>, columns: &Range<usize>) {
    let fits = |slow: usize, fast: usize, stride: usize, length: usize| {
        slow == 0 || fast == 0 || (fast <= stride && (slow - 1) * stride + fast <= length)
    };
    let (left, right) = (&term.left, &term.right);
    let (slow, fast) = if left.transposed { (term.inner, rows.end) } else { (rows.end, term.inner) };
    assert!(fits(slow, fast, left.stride, left.elements.len()), "left operand of a product");
    let (slow, fast) = match right.form {
        Form::Nt => (columns.end, term.inner),
        Form::Nn => (term.inner, columns.end),
    };
    assert!(fits(slow, fast, right.stride, right.elements.len()), "right operand of a product");
}

/// In what form `term` is multiplied.
fn format<S: Steps>(term: &Term) -> Format {
    let left = term.left.elements.is_bf16() || term.left.rounded;
    let plain = left && term.left.scale == 1.0 && !term.left.transposed;
    if S::PAIRS && plain && term.right.elements.is_bf16() { Format::Pairs } else { Format::F32 }
}

/// Blocks of the summed index over all terms.
fn blocks<'t, S: Steps>(
    terms: &'t [Term<'t>],
) -> impl Iterator<Item = (&'t Term<'t>, Format, Range<usize>)> + Clone {
    terms.iter().flat_map(|term| {
        let format = format::<S>(term);
        let block = DEPTH * elements_of_lane(format);
        let ranges = (0..term.inner).step_by(block).map(move |k| k..(k + block).min(term.inner));
        ranges.map(move |range| (term, format, range))
    })
}

fn part<S: Steps>(
    steps: S,
    terms: &[Term],
    rows: Range<usize>,
    columns: Range<usize>,
    finish: &dyn Finish,
    room: &Room,
) {
    let panels = columns.len().div_ceil(S::COLUMNS);
    let row_panels = rows.len().div_ceil(S::ROWS);
    let blocks = blocks::<S>(terms);
    let last = blocks.clone().count();
    if last == 0 {
        // SAFETY: `Room::new` made room for the sums of all rows and columns of a part.
        unsafe { room.sums.write_bytes(0, rows.len() * panels * S::COLUMNS) };
    }
    for (index, (term, format, inner)) in blocks.clone().enumerate() {
        let next = blocks.clone().nth(index + 1);
        let depth = inner.len().div_ceil(elements_of_lane(format));
        // SAFETY: `check` proved the ranges, `Room::new` the room; `format` asks for pairs of bf16 only, of an engine that
        // has them.
        unsafe { steps.pack_right(format, &term.right, inner.clone(), columns.clone(), room.right) };
        for panel in 0..row_panels {
            let part = even_part(rows.len(), S::ROWS, panel);
            let absolute = rows.start + part.start..rows.start + part.end;
            let of_panel = |panel| {
                let part = even_part(rows.len(), S::ROWS, panel);
                rows.start + part.start..rows.start + part.end
            };
            let mut ahead = Ahead::NONE;
            if panel + 1 < row_panels {
                ahead = ahead.with_left(&term.left, of_panel(panel + 1), inner.clone());
            }
            if let Some((term, _, inner)) = &next {
                ahead = ahead.with_right(&term.right, columns.clone(), inner.clone(), panel, row_panels);
                if panel + 1 == row_panels {
                    ahead = ahead.with_left(&term.left, of_panel(0), inner.clone());
                }
            }
            // SAFETY: as above; a row panel has at most ROWS rows, and its sums begin behind those of the rows before.
            unsafe {
                let sums = room.sums.add(part.start * panels * S::COLUMNS);
                steps.pack_left(format, &term.left, absolute.clone(), inner.clone(), room.left);
                let fresh = index == 0;
                steps.multiply(format, part.len(), depth, room.left, room.right, panels, sums, fresh, &ahead);
            }
            if index + 1 == last {
                give::<S>(absolute, part.start, &columns, finish, room);
            }
        }
    }
    if last == 0 {
        for panel in 0..row_panels {
            let part = even_part(rows.len(), S::ROWS, panel);
            give::<S>(rows.start + part.start..rows.start + part.end, part.start, &columns, finish, room);
        }
    }
}

/// Gives the finished rows of a row panel away, each in one piece.
fn give<S: Steps>(
    rows: Range<usize>,
    rows_before: usize,
    columns: &Range<usize>,
    finish: &dyn Finish,
    room: &Room,
) {
    let panels = columns.len().div_ceil(S::COLUMNS);
    for row in 0..rows.len() {
        // SAFETY: the sums of the panel's rows and the room for a row are within scratch, and nobody else has a reference
        // to either.
        let whole = unsafe {
            let sums = room.sums.add(rows_before * panels * S::COLUMNS);
            for panel in 0..panels {
                let from = sums.add((panel * rows.len() + row) * S::COLUMNS);
                from.copy_to_nonoverlapping(room.row.add(panel * S::COLUMNS), S::COLUMNS);
            }
            std::slice::from_raw_parts_mut(room.row, columns.len())
        };
        finish.finish(rows.start + row, columns.start, whole);
    }
}
