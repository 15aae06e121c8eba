//! What both passes are bound to, and the unit of work: a segment and a head.

use super::super::rowwise::table_range;
use super::super::segment_matmul::Queries;
use super::super::{Call, KernelError, View};
use gptjc_graphs::dtype::DType::{self, Bf16, F32, I32};
use gptjc_graphs::shape::Extents;
use half::bf16;
use std::ops::Range;

/// Operands that both passes have, and sizes.
pub(super) struct Inputs {
    pub(super) q: View,
    pub(super) k: View,
    pub(super) v: View,
    pub(super) position: View,
    pub(super) sin: View,
    pub(super) cos: View,
    queries: Queries,
    pub(super) heads: usize,
    /// Elements of a row, and of a head.
    pub(super) width: usize,
    pub(super) lanes: usize,
    /// Bound of a segment's length.
    pub(super) window: usize,
    pub(super) scale: f32,
}

/// A segment and a head, and a range of the queries in the segment.
pub(super) struct Unit {
    pub(super) slots: Range<usize>,
    pub(super) rows: Range<usize>,
    pub(super) head: usize,
}

/// The forward pass.
pub(super) struct Forward {
    pub(super) inputs: Inputs,
    pub(super) o: View,
    pub(super) lse: View,
}

/// The backward pass.
pub(super) struct Backward {
    pub(super) inputs: Inputs,
    pub(super) output_grad: View,
    pub(super) o: View,
    pub(super) lse: View,
    pub(super) dq: Option<View>,
    pub(super) dk: Option<View>,
    pub(super) dv: Option<View>,
}

/// The dtypes of `views`, which must be floating-point.
fn float_types<const N: usize>(
    call: &Call,
    what: &str,
    views: &[View],
    at: [usize; N],
) -> Result<[DType; N], KernelError> {
    for index in at {
        match views.get(index).map(|view| view.ty()) {
            Some(ty) if ty.dtype.is_float() => {}
            Some(ty) => return Err(call.refuse(format!("{ty} as its {what} {index}, only f32 or bf16"))),
            None => return Err(call.refuse(format!("{} {what}s", views.len()))),
        }
    }
    Ok(at.map(|index| views[index].ty().dtype))
}

impl Forward {
    /// The views of the call.
    ///
    /// # Errors
    /// [`KernelError`] if they are not those of the op.
    pub(super) fn new(call: &Call) -> Result<Self, KernelError> {
        let [q, k, v] = float_types(call, "operand", &call.operands, [0, 1, 2])?;
        let [of_o] = float_types(call, "result", &call.results, [0])?;
        let ([q, k, v, position, sin, cos, segment, table], labelled, [o, lse]) =
            call.views_of_queries([q, k, v, I32, F32, F32, I32, I32], [of_o, F32])?;
        let queries = Queries { segment, table, labelled };
        let inputs = Inputs::new(call, [q, k, v, position, sin, cos], queries)?;
        Ok(Self { inputs, o, lse })
    }
}

impl Backward {
    /// The views of the call.
    ///
    /// # Errors
    /// [`KernelError`] if they are not those of the op.
    pub(super) fn new(call: &Call) -> Result<Self, KernelError> {
        let [of_do, q, k, v, o] = float_types(call, "operand", &call.operands, [0, 1, 2, 3, 4])?;
        let types = [of_do, q, k, v, o, F32, I32, F32, F32, I32, I32];
        let wanted = call.int("wanted")?;
        let results = match wanted.count_ones() {
            1 => float_types(call, "result", &call.results, [0])?.to_vec(),
            2 => float_types(call, "result", &call.results, [0, 1])?.to_vec(),
            _ => float_types(call, "result", &call.results, [0, 1, 2])?.to_vec(),
        };
        if results.len() != call.results.len() || !(1..8).contains(&wanted) {
            return Err(call.refuse(format!("{} results for `wanted` = {wanted}", call.results.len())));
        }
        let (operands, labelled) = call.operands_of_queries(types)?;
        let [output_grad, q, k, v, o, lse, position, sin, cos, segment, table] = operands;
        let queries = Queries { segment, table, labelled };
        let mut results = call.results.iter().cloned();
        let [dq, dk, dv] = [0, 1, 2].map(|bit| (wanted >> bit & 1 == 1).then(|| results.next()).flatten());
        let inputs = Inputs::new(call, [q, k, v, position, sin, cos], queries)?;
        Ok(Self { inputs, output_grad, o, lse, dq, dk, dv })
    }
}

impl Inputs {
    fn new(
        call: &Call,
        [q, k, v, position, sin, cos]: [View; 6],
        queries: Queries,
    ) -> Result<Self, KernelError> {
        let (heads, window, width) = (call.int("heads")?, call.int("window")?, q.row_elements());
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(call.refuse(format!("{heads} heads of a width of {width}")));
        }
        let (scale, lanes) = (call.float("scale")? as f32, width / heads);
        call.word("dtype", "f32 or bf16")?;
        Ok(Self { q, k, v, position, sin, cos, queries, heads, width, lanes, window, scale })
    }

    /// Most queries of a unit.
    pub(super) fn longest_unit(&self) -> usize {
        self.window.min(self.q.ty().dims[0].bound)
    }

    /// The unit of a segment and a head, with all queries of the segment.
    ///
    /// # Safety
    /// Nobody writes the operands; the extents are within the bounds.
    ///
    /// # Panics
    /// If the tables contradict each other: a slot that is in two segments would be written twice.
    pub(super) unsafe fn unit(&self, segment: usize, head: usize, extents: &Extents) -> Unit {
        let Queries { segment: of_slot, table, .. } = &self.queries;
        // SAFETY: the caller's promise; the views check what the tables name.
        unsafe {
            let slots = table_range(table.read_to(table.ty().elements()), segment);
            let (length, window) = (slots.len(), self.window);
            assert!(length <= window, "segment {segment} has {length} slots, at most {window}");
            assert!(slots.end <= extents.slots, "segment {segment} is {slots:?} of {} slots", extents.slots);
            let all = of_slot.read::<i32>(slots.clone()).iter().all(|&of| of as usize == segment);
            assert!(all, "a slot of {slots:?} is not in its segment {segment}");
            let rows = self.queries.rows_in(slots.clone(), extents);
            let unit = Unit { slots, rows, head };
            let mut reach = unit.rows.clone().map(|row| self.slot(row));
            assert!(
                reach.all(|slot| unit.slots.contains(&slot)),
                "the labelled slots of segment {segment} are not ascending"
            );
            unit
        }
    }

    /// The slot of query `row`.
    ///
    /// # Safety
    /// Nobody writes the operands.
    pub(super) unsafe fn slot(&self, row: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.queries.slot(row) }
    }

    /// Sines and cosines of the position of `slot`.
    ///
    /// # Safety
    /// Nobody writes the operands.
    pub(super) unsafe fn angles(&self, slot: usize) -> [&[f32]; 2] {
        let pairs = self.sin.row_elements();
        // SAFETY: the caller's promise; the views check the position.
        unsafe {
            let position = self.position.read::<i32>(slot..slot + 1)[0] as usize;
            let row = position * pairs..(position + 1) * pairs;
            [self.sin.read(row.clone()), self.cos.read(row)]
        }
    }

    /// Elements of head `head` of row `row`.
    pub(super) fn elements(&self, row: usize, head: usize) -> Range<usize> {
        let start = row * self.width + head * self.lanes;
        start..start + self.lanes
    }
}

/// Elements of a view, widened to f32.
///
/// # Safety
/// Nobody writes these elements.
pub(super) unsafe fn load(view: &View, range: Range<usize>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match view.ty().dtype {
            Bf16 => super::super::elementwise::widen(view.read::<bf16>(range), out),
            F32 | I32 => out.copy_from_slice(view.read::<f32>(range)),
        }
    }
}

/// Writes elements of a view, rounded to its dtype.
///
/// # Safety
/// Nobody else reads or writes these elements.
pub(super) unsafe fn store(x: &[f32], view: &View, range: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        match view.ty().dtype {
            Bf16 => super::super::elementwise::narrow(x, view.write::<bf16>(range)),
            F32 | I32 => view.write::<f32>(range).copy_from_slice(x),
        }
    }
}
