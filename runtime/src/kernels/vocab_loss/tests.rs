//! The fused loss against the op, for chunks and tiles of all sizes.

use super::super::testing::{Batch, Case, U, few};
use gptjc_graphs::dtype::DType::{self, Bf16, F32};
use gptjc_graphs::ops::vocab_loss::VocabLoss;
use gptjc_graphs::plan::Partition;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Sizes {
    seed: u64,
    width: usize,
    vocabulary: usize,
    chunk: usize,
}

impl Sizes {
    fn case(self, (of_h, of_w): (DType, DType), gradient: bool, dtype: DType) -> Case {
        let mut batch = Batch::new(self.seed, 6);
        let (rows, width, vocabulary) = (batch.rows(), self.width.into(), self.vocabulary.into());
        let operands = vec![
            batch.float(of_h, &[rows, width]),
            batch.float(of_w, &[vocabulary, width]),
            batch.f32(&[vocabulary]),
            batch.indices(rows, self.vocabulary),
        ];
        let rounded = of_h == Bf16 || (gradient && dtype == Bf16);
        Case::new(VocabLoss { chunk: self.chunk, gradient, dtype }, batch.extents(), operands)
            .product(rounded && of_w == Bf16)
    }

    /// Bounds of the loss and of the gradient. Weights and h are at most 1.
    fn bounds(self, case: &Case, dtype: DType) -> Vec<Vec<f64>> {
        let (d, v) = (self.width as f64, self.vocabulary as f64);
        let logit = d + 1.0;
        let of_logit = (d + 1.0) * logit * U;
        // x - max, exp (1 ulp of libm), the sum of V, ln, + max.
        let of_lse = of_logit + (v + 6.0 + 2.0 * logit) * U + 2.0 * logit * U;
        let rows = case.extents.rows;
        // Relative error of a probability; probabilities sum to 1. Then a chain of V products that sum to at most 2.
        let of_probability = of_logit + of_lse + (2.0 * logit + 4.0) * U;
        // A rounded gradient may be the next bf16 number: of magnitudes that sum to at most 2.
        let rounding = if dtype == Bf16 { 2.0 / 128.0 } else { 0.0 };
        let of_dh = of_probability + 2.0 * (v + 2.0) * U + rounding;
        let mut bounds = vec![vec![of_logit + of_lse + 2.0 * logit * U; rows]];
        if case.result_types().len() > 1 {
            bounds.push(vec![of_dh; rows * self.width]);
        }
        bounds
    }
}

const TYPES: [(DType, DType); 4] = [(F32, F32), (F32, Bf16), (Bf16, F32), (Bf16, Bf16)];

proptest! {
    #![proptest_config(few())]

    #[test]
    fn losses_are_those_of_the_op(
        (seed, width, vocabulary, chunk) in (any::<u64>(), 1usize..20, 1usize..40, 1usize..9),
        tile in (1u32..9, 0u32..20),
    ) {
        let sizes = Sizes { seed, width, vocabulary, chunk };
        for types in TYPES {
            for (gradient, dtype) in [(true, F32), (true, Bf16), (false, F32)] {
                let case = sizes.case(types, gradient, dtype).tile(tile.0, tile.1);
                case.check(|case, _| sizes.bounds(case, dtype));
            }
        }
    }
}

#[test]
fn chunks_do_not_show_in_the_bits() {
    let run = |chunk| {
        let sizes = Sizes { seed: 5, width: 13, vocabulary: 29, chunk };
        let case = sizes.case((Bf16, Bf16), true, Bf16);
        assert!(case.extents.rows > 4, "the test's own batch has {} rows", case.extents.rows);
        case.run(Partition { rows: 2, columns: 8 }, &[], 3, 2).unwrap()
    };
    let whole = run(100);
    for chunk in [1, 2, 3, 4] {
        assert!(run(chunk) == whole, "other bits in chunks of {chunk}");
    }
}

/// Sums over the vocabulary go on from block to block of the portable product.
#[test]
fn long_vocabularies_and_widths_are_whole() {
    for (width, vocabulary) in [(513, 3), (5, 1025), (511, 513)] {
        let sizes = Sizes { seed: 11, width, vocabulary, chunk: 3 };
        sizes.case((Bf16, Bf16), true, F32).tile(2, 64).check(|case, _| sizes.bounds(case, F32));
    }
}
