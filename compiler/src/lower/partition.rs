//! How a step's work is cut into tiles.
//!
//! Tiles are what threads claim; the results do not depend on them. They are chosen so that what a tile touches again
//! stays in a cache of one core, and so that there are enough of them for every core.

use gptjc_graphs::entities::ValueId;
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{Isa, Partition, Target};

/// Tiles that a step should have for each core, so that a core that is slower or interrupted holds up nobody.
const TILES_PER_CORE: usize = 4;

/// The tiles of `node` for a kernel of `isa` on `target`.
pub(super) fn of(graph: &Graph, node: &Node, isa: Isa, target: &Target) -> Partition {
    let Some(&first) = node.results.first() else { return Partition { rows: 1, columns: 0 } };
    let ty = graph.ty(first);
    let rows = ty.dims.first().map_or(1, |dim| dim.bound);
    let row_bytes = ty.bytes() / rows.max(1);
    match &node.op {
        Op::Matmul(_)
        | Op::Projection(_)
        | Op::ProjectionGrad(_)
        | Op::VocabLoss(_)
        | Op::AdapterGrad(_)
        | Op::WindowMatmul(_) => product(graph, node, isa, target),
        Op::Attention(op) => {
            // Rows are queries of a segment and a head. Each tile packs the keys again that it sees: no more tiles than
            // there must be.
            let units = op.heads * rows.div_ceil(op.window.max(1));
            let ranges = (target.cores.max(1) as usize * TILES_PER_CORE).div_ceil(units.max(1));
            Partition { rows: op.window.div_ceil(ranges).clamp(1, u32::MAX as usize) as u32, columns: 0 }
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

/// The tiles of a product that all of a matrix takes part in.
fn product(graph: &Graph, node: &Node, isa: Isa, target: &Target) -> Partition {
    let operand = |index: usize, dim: usize| graph.ty(node.operands[index]).dims[dim].bound;
    let dims = &graph.ty(node.results[0]).dims;
    if let Op::Projection(op) = &node.op {
        // All members have the same tiles; the widest is the one that matters.
        let columns = largest(graph, &node.results[..op.members], 1);
        matmul(dims[0].bound, columns, operand(0, 1), isa, target)
    } else if let Op::ProjectionGrad(op) = &node.op {
        // One chain over the outputs of all members.
        let inner = (0..op.members).map(|member| operand(member, 1)).sum();
        matmul(dims[0].bound, dims[1].bound, inner, isa, target)
    } else if let Op::VocabLoss(op) = &node.op {
        matmul(dims[0].bound.min(op.chunk), operand(1, 0), operand(0, 1), isa, target)
    } else if let Op::AdapterGrad(_) = &node.op {
        // Columns are inputs or outputs: each tile reads its own of all tokens of a window.
        let widest = largest(graph, &node.results, 1).max(largest(graph, &node.results, 2));
        Partition { rows: 1, columns: share(widest, target).next_multiple_of(16) as u32 }
    } else if let Op::WindowMatmul(_) = &node.op {
        window_matmul(dims[1].bound, dims[2].bound, isa, target)
    } else {
        matmul(dims[0].bound, dims[1].bound, operand(0, 1), isa, target)
    }
}

/// The tiles of one window's gradient, outputs N by inputs K; what is summed is short.
fn window_matmul(outputs: usize, inputs: usize, isa: Isa, target: &Target) -> Partition {
    if isa > Isa::Portable {
        return vector_matmul(outputs, inputs, target);
    }
    Partition { rows: rows_within(outputs, inputs * size_of::<f32>(), target), columns: 0 }
}

/// The largest of a dimension of some values; 1 if there are none.
fn largest(graph: &Graph, values: &[ValueId], dim: usize) -> usize {
    values.iter().map(|&value| graph.ty(value).dims[dim].bound).max().unwrap_or(1)
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

/// Tiles of a matrix product by a kernel of `isa`.
fn matmul(rows: usize, columns: usize, inner: usize, isa: Isa, target: &Target) -> Partition {
    match isa {
        Isa::Portable => portable_matmul(rows, columns, inner, target),
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => vector_matmul(rows, columns, target),
    }
}

/// Tiles of a vector kernel. It packs its columns of the second operand, [`BLOCK`] summed elements at a time, once for all
/// rows of a tile, and its rows of the first once for all columns: so a tile has as many columns as fit half of the
/// second-level cache, and all rows. With many cores, tiles are made narrower, then lower.
fn vector_matmul(rows: usize, columns: usize, target: &Target) -> Partition {
    /// Summed elements that are packed together, as f32.
    const BLOCK: usize = 256;
    /// Widest panel of packed columns.
    const PANEL: usize = 32;
    /// Most rows and columns whose sums a kernel keeps between blocks.
    const MOST: (usize, usize) = (1024, 512);
    /// Below these, packing costs more than a few per cent.
    const LEAST: (usize, usize) = (192, 128);
    let wanted = target.cores.max(1) as usize * TILES_PER_CORE;
    let cached = (target.l2_bytes as usize / 2) / (BLOCK * size_of::<f32>()) / PANEL * PANEL;
    let fair = rows.max(1).div_ceil(MOST.0) * columns / wanted.max(1) / PANEL * PANEL;
    let columns_of_tile = fair.min(cached).min(MOST.1).max(LEAST.1);
    let column_tiles = columns.div_ceil(columns_of_tile).max(1);
    let row_tiles = wanted.div_ceil(column_tiles).min(rows / LEAST.0).max(rows.div_ceil(MOST.0)).max(1);
    Partition { rows: rows.div_ceil(row_tiles).max(1) as u32, columns: columns_of_tile as u32 }
}

/// Tiles of the portable matrix product with `inner` summed elements: a block of columns of the second operand stays in half of
/// the second-level cache while the rows of the tile pass by.
fn portable_matmul(rows: usize, columns: usize, inner: usize, target: &Target) -> Partition {
    const COLUMN_STEP: usize = 16; // the portable kernel's panel
    let cached = (target.l2_bytes as usize / 2) / (inner.max(1) * size_of::<f32>());
    let columns_of_tile = (cached / COLUMN_STEP * COLUMN_STEP).clamp(COLUMN_STEP, columns.max(COLUMN_STEP));
    let column_tiles = columns.div_ceil(columns_of_tile);
    let wanted = (target.cores.max(1) as usize * TILES_PER_CORE).div_ceil(column_tiles);
    let rows_of_tile = rows.div_ceil(wanted).clamp(1, u32::MAX as usize);
    Partition { rows: rows_of_tile as u32, columns: columns_of_tile as u32 }
}
