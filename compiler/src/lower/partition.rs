//! How a step's work is cut into tiles.
//!
//! Tiles are what threads claim; the results do not depend on them. They are chosen so that what a tile touches again
//! stays in a cache of one core, and so that there are enough of them for every core.

use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::attention::Attention;
use gptjc_graphs::plan::{Partition, Target};

/// Tiles that a step should have for each core, so that a core that is slower or interrupted holds up nobody.
const TILES_PER_CORE: usize = 4;

/// The tiles of `node` on `target`.
pub(super) fn of(graph: &Graph, node: &Node, target: &Target) -> Partition {
    let Some(&first) = node.results.first() else { return Partition { rows: 1, columns: 0 } };
    let ty = graph.ty(first);
    let rows = ty.dims.first().map_or(1, |dim| dim.bound);
    let row_bytes = ty.bytes() / rows.max(1);
    match &node.op {
        Op::Matmul(_) => {
            let inner = graph.ty(node.operands[0]).dims[1].bound;
            matmul(rows, ty.dims[1].bound, inner, target)
        }
        Op::Projection(op) => {
            // All members have the same tiles; the widest is the one that matters.
            let columns = node.results[..op.members].iter().map(|&y| graph.ty(y).dims[1].bound).max();
            matmul(rows, columns.unwrap_or(1), graph.ty(node.operands[0]).dims[1].bound, target)
        }
        Op::ProjectionGrad(op) => {
            // One chain over the outputs of all members.
            let inner = node.operands[..op.members].iter().map(|&dy| graph.ty(dy).dims[1].bound).sum();
            matmul(rows, ty.dims[1].bound, inner, target)
        }
        Op::VocabLoss(op) => {
            let (width, columns) =
                (graph.ty(node.operands[0]).dims[1].bound, graph.ty(node.operands[1]).dims[0].bound);
            matmul(rows.min(op.chunk), columns, width, target)
        }
        Op::AdapterGrad(_) => {
            // Columns are inputs or outputs: each tile reads its own of all tokens of a window.
            let widest = node
                .results
                .iter()
                .map(|&of| {
                    let dims = &graph.ty(of).dims;
                    dims[1].bound.max(dims[2].bound)
                })
                .max()
                .unwrap_or(1);
            Partition { rows: 1, columns: share(widest, target).next_multiple_of(16) as u32 }
        }
        Op::Attention(op) => attention(op, rows, target),
        Op::WindowMatmul(_) => {
            // Rows are the outputs N of one window's gradient.
            Partition { rows: rows_within(ty.dims[1].bound, ty.dims[2].bound * 4, target), columns: 0 }
        }
        // Flat kernels: rows are elements.
        Op::TreeAccumulate(_) | Op::TreeFinish(_) | Op::AdamW(_) => {
            Partition { rows: rows_within(ty.elements().max(1), 4, target), columns: 0 }
        }
        Op::Embedding(_)
        | Op::LayerNorm(_)
        | Op::Add(_)
        | Op::BiasAdd(_)
        | Op::Scale(_)
        | Op::Cast(_)
        | Op::Fill(_)
        | Op::RotaryTable(_)
        | Op::Rotary(_)
        | Op::SegmentScores(_)
        | Op::MaskedSoftmax(_)
        | Op::SegmentMix(_)
        | Op::CacheStore(_)
        | Op::CachedScores(_)
        | Op::CachedSoftmax(_)
        | Op::CachedMix(_)
        | Op::GeluTanh(_)
        | Op::Dropout(_)
        | Op::GatherRows(_)
        | Op::CrossEntropy(_)
        | Op::WindowSum(_)
        | Op::EmbeddingGrad(_)
        | Op::LayerNormGrad(_)
        | Op::LayerNormParamGrad(_)
        | Op::SegmentMixTransposed(_)
        | Op::MaskedSoftmaxGrad(_)
        | Op::GeluTanhGrad(_)
        | Op::ScatterRows(_)
        | Op::CrossEntropyGrad(_)
        | Op::AdapterDown(_)
        | Op::AttentionGrad(_)
        | Op::AdapterUpGrad(_)
        | Op::SumSquares(_)
        | Op::ClipScale(_) => Partition { rows: rows_within(rows, row_bytes, target), columns: 0 },
    }
}

/// Tiles of attention: rows are queries of a segment and a head. Each tile packs the keys that it sees, so there are no
/// more tiles than there must be.
fn attention(op: &Attention, rows: usize, target: &Target) -> Partition {
    let units = op.heads * rows.div_ceil(op.window.max(1));
    let ranges = (target.cores.max(1) as usize * TILES_PER_CORE).div_ceil(units.max(1));
    Partition { rows: op.window.div_ceil(ranges).clamp(1, u32::MAX as usize) as u32, columns: 0 }
}

/// Rows of `row_bytes` each that fit half of a core's second-level cache and leave enough tiles for every core.
fn rows_within(rows: usize, row_bytes: usize, target: &Target) -> u32 {
    let cached = (target.l2_bytes as usize / 2) / row_bytes.max(1);
    cached.min(share(rows, target)).clamp(1, u32::MAX as usize) as u32
}

/// Rows of a tile so that every core gets [`TILES_PER_CORE`] of them.
fn share(rows: usize, target: &Target) -> usize {
    rows.div_ceil(target.cores.max(1) as usize * TILES_PER_CORE).max(1)
}

/// Tiles of a matrix product with `inner` summed elements: a block of columns of the second operand stays in half of
/// the second-level cache while the rows of the tile pass by.
fn matmul(rows: usize, columns: usize, inner: usize, target: &Target) -> Partition {
    const COLUMN_STEP: usize = 16; // the portable kernel's panel
    let cached = (target.l2_bytes as usize / 2) / (inner.max(1) * size_of::<f32>());
    let columns_of_tile = (cached / COLUMN_STEP * COLUMN_STEP).clamp(COLUMN_STEP, columns.max(COLUMN_STEP));
    let column_tiles = columns.div_ceil(columns_of_tile);
    let wanted = (target.cores.max(1) as usize * TILES_PER_CORE).div_ceil(column_tiles);
    let rows_of_tile = rows.div_ceil(wanted).clamp(1, u32::MAX as usize);
    Partition { rows: rows_of_tile as u32, columns: columns_of_tile as u32 }
}
