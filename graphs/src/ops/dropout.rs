//! Dropout with counter-based random numbers: the mask is computed where it is used and never stored.
//!
//! What is kept depends on the seed, the optimizer step, the global window, the offset of the slot in its window, the
//! site (which dropout of the graph it is) and the column; never on where a slot lies in the micro-batch. The words
//! are those of [`DropoutSite`].

use super::check::{self, Numbered, TypeError};
use super::window::{COUNTER_WINDOW, ranges};
use super::{AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext};
use crate::interp::index_below;
use crate::layout::{Masks, SITES};
use crate::philox::{DropoutSite, MAX_SITES, MAX_WINDOW, keep_threshold};
use crate::shape::{Dim, Extent, Extents, TensorType};

/// `dropout %x, %window_table, %counter[, %labelled] {p, site}`: each element of `x[M, D]` times `1 / (1 - p)`, or 0 with
/// probability `p`.
///
/// A row of `x` is a slot; or, with `labelled` i32`[M]`, row `r` is slot `labelled[r]` and is masked as that slot is.
/// `counter` i32`[4]` is (seed low, seed high, optimizer step, first global window of this micro-batch), bit patterns
/// of u32. A slot in no window is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Share of elements that is dropped; at least 0 and less than 1.
    pub p: f64,
    /// Which dropout of the graph it is; less than [`MAX_SITES`].
    pub site: usize,
}

impl Operation for Dropout {
    const NAME: &'static str = "dropout";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["p", "site"])?;
        Ok(Self { p: attributes.get_float("p")?, site: attributes.get_int("site")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().float("p", self.p).int("site", self.site)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let ([x, table, counter], labelled) = match operands {
            [x, table, counter, labelled] => ([*x, *table, *counter], Some(*labelled)),
            _ => (check::operands(operands)?, None),
        };
        check::float(0, x, 2)?;
        if let Some(labelled) = labelled {
            check::index_vector(3, labelled, x.dims[0])?;
        }
        let windows = check::range_table(1, table, Extent::Windows)?;
        check::index_vector(2, counter, Dim::fixed(4))?;
        check_share(self.p)?;
        check_site("site", self.site)?;
        check_length((0, x), windows)?;
        Ok(vec![x.clone()])
    }

    /// For `y = mask * x / (1 - p)`: `dx = mask * dy / (1 - p)`, with the mask of the same counter.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let mut operands = vec![dy];
        operands.extend(&rule.operands()[1..]);
        let dx = rule.push(self.clone(), &operands)?;
        rule.contribute(0, dx);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let x = operands[0].floats()?;
        let (rows, width) = (operands[0].dims[0], operands[0].dims[1]);
        let labelled = operands.get(3).copied();
        let slots = if labelled.is_some() { extents.slots } else { rows };
        let masks = Masks { window_table: operands[1], counter: operands[2], labelled };
        let mask = Mask::new(&masks, self.p, slots)?;
        let factor = F::from_f64(1.0 / (1.0 - self.p));
        let mut y = vec![F::zero(); x.len()];
        for row in 0..rows {
            for column in 0..width {
                if mask.keeps(row, self.site, column) {
                    y[row * width + column] = x[row * width + column] * factor;
                }
            }
        }
        Ok(vec![Tensor::float([rows, width], y)])
    }

    /// One product an element; making the words is integer work.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

/// Which elements of tokens the dropouts of a step keep.
pub(super) struct Mask {
    /// Global window and offset of each token, if it is in a window.
    places: Vec<Option<(u32, u16)>>,
    counter: [i32; 4],
    threshold: u32,
}

impl Mask {
    /// Of the tokens that `masks` says: the first `slots` slots, or the labelled among them.
    ///
    /// # Errors
    /// [`EvalError::Index`] if a window or a labelled slot does not lie in the slots, or a window is too long.
    pub(super) fn new<F: Real>(masks: &Masks<&Tensor<F>>, p: f64, slots: usize) -> Result<Self, EvalError> {
        let counter = masks.counter.ints()?;
        let first = counter[COUNTER_WINDOW].cast_unsigned();
        let mut places = vec![None; slots];
        for (window, range) in ranges(masks.window_table, slots)?.into_iter().enumerate() {
            let global = first.wrapping_add(window as u32);
            for (offset, slot) in range.enumerate() {
                let too_long = |_| EvalError::Index {
                    what: "offset of a slot in its window",
                    index: offset as i64,
                    bound: MAX_WINDOW,
                };
                places[slot] = Some((global, u16::try_from(offset).map_err(too_long)?));
            }
        }
        if let Some(labelled) = masks.labelled {
            let place = |&slot| index_below("labelled slot", slot, slots).map(|slot| places[slot]);
            places = labelled.ints()?.iter().map(place).collect::<Result<_, _>>()?;
        }
        let counter = [0, 1, 2, 3].map(|index| counter[index]);
        Ok(Self { places, counter, threshold: keep_threshold(p) })
    }

    /// True if the dropout `site` keeps the element of a token; of a token in no window, none is.
    pub(super) fn keeps(&self, token: usize, site: usize, column: usize) -> bool {
        let site = DropoutSite::new(self.counter, site as u16);
        self.places[token]
            .is_some_and(|(window, offset)| site.keep_word(window, offset, column as u32) >= self.threshold)
    }
}

/// `p` is a share that can be dropped.
pub(super) fn check_share(p: f64) -> Result<(), TypeError> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    Err(check::attribute("p", p, "a share of at least 0 and less than 1 can be dropped"))
}

/// The counter tells the site apart.
pub(super) fn check_site(name: &'static str, site: usize) -> Result<(), TypeError> {
    if site < MAX_SITES {
        return Ok(());
    }
    Err(check::attribute(name, site, format!("the counter tells {MAX_SITES} sites apart")))
}

/// The counter tells the slots of the operand apart.
fn check_length((operand, x): Numbered<'_>, windows: Dim) -> Result<(), TypeError> {
    if x.dims[0].bound <= windows.bound.saturating_mul(MAX_WINDOW) {
        return Ok(());
    }
    let expected = format!("a matrix of at most {MAX_WINDOW} slots a window, which the counter tells apart");
    Err(check::mismatch(operand, expected, x))
}

/// The attributes and operands of the dropouts of a fused op, one site for each of `count` adapters, over the tokens of
/// the operand `tokens`; `masks` are there if anything is dropped.
pub(super) fn check_masks(
    (p, sites, count): (f64, &[usize], usize),
    tokens: Numbered<'_>,
    masks: Option<&Masks<Numbered<'_>>>,
) -> Result<(), TypeError> {
    check_share(p)?;
    let Some(masks) = masks else { return Ok(()) };
    if sites.len() != count {
        let reason = format!("each of {count} adapters has a site");
        return Err(check::attribute("sites", format!("{sites:?}"), reason));
    }
    SITES.iter().zip(sites).try_for_each(|(name, &site)| check_site(name, site))?;
    let windows = check::range_table(masks.window_table.0, masks.window_table.1, Extent::Windows)?;
    check::index_vector(masks.counter.0, masks.counter.1, Dim::fixed(4))?;
    check_length(tokens, windows)?;
    let dim = tokens.1.dims[0];
    match masks.labelled {
        Some((operand, labelled)) => {
            check::index_vector(operand, labelled, Dim::rows(dim.bound)).and_then(|()| check::rows(tokens))
        }
        None if dim.extent == Extent::Rows => {
            Err(check::mismatch(tokens.0, "slots, or rows with `labelled` behind `counter`", tokens.1))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;

    /// `slots` rows of `width` ones after dropout; windows of these lengths, the first with this global index.
    fn ones(op: &Dropout, lengths: &[usize], first: i32, width: usize) -> Vec<f32> {
        let slots = lengths.iter().sum();
        let table = lengths.iter().scan(0, |start, &length| {
            *start += length;
            Some([(*start - length) as i32, length as i32])
        });
        let table = Tensor::int([lengths.len(), 2], table.flatten().collect());
        let x = Tensor::float([slots, width], vec![1f32; slots * width]);
        let counter = Tensor::int([4], vec![-559_038_737, 42, 5, first]);
        let y = op.evaluate(&[&x, &table, &counter], &[], &Extents::default()).unwrap();
        y[0].floats().unwrap().to_vec()
    }

    #[test]
    fn each_element_is_kept_by_its_word() {
        let op = Dropout { p: 0.25, site: 3 };
        let y = ones(&op, &[1, 2], 9, 6);
        for (slot, (window, offset)) in [(9, 0), (10, 0), (10, 1)].into_iter().enumerate() {
            for column in 0..6 {
                let counter = [column / 4, 3 << 16 | offset, window, 5];
                let words = crate::philox::philox4x32_10(counter, [0xdead_beef, 42]);
                let expected = if words[column as usize % 4] >= 1 << 30 { 1.0 / 0.75 } else { 0.0 };
                assert_eq!(y[slot * 6 + column as usize], expected as f32, "slot {slot}, column {column}");
            }
        }
    }

    #[test]
    fn the_cut_into_micro_batches_does_not_matter() {
        let op = Dropout { p: 0.5, site: 0 };
        let whole = ones(&op, &[3, 2, 4], 6, 8);
        let parts = [ones(&op, &[3], 6, 8), ones(&op, &[2, 4], 7, 8)].concat();
        assert_eq!(parts, whole);
        assert_ne!(
            ones(&Dropout { p: 0.5, site: 1 }, &[3, 2, 4], 6, 8),
            whole,
            "sites have masks of their own"
        );
    }

    #[test]
    fn a_labelled_row_is_masked_as_its_slot() {
        let op = Dropout { p: 0.5, site: 0 };
        let table = Tensor::int([2, 2], vec![0, 3, 3, 2]);
        let counter = Tensor::int([4], vec![1, 2, 3, 4]);
        let x = |rows: usize| Tensor::float([rows, 8], vec![1f64; rows * 8]);
        let of_slots = op.evaluate(&[&x(5), &table, &counter], &[], &Extents::default()).unwrap().remove(0);
        let labelled = Tensor::int([2], vec![1, 4]);
        let extents = Extents { slots: 5, ..Extents::default() };
        let of_rows = op.evaluate(&[&x(2), &table, &counter, &labelled], &[], &extents).unwrap();
        let expected = [&of_slots.floats().unwrap()[8..16], &of_slots.floats().unwrap()[32..40]].concat();
        assert_eq!(of_rows[0].floats().unwrap(), expected);
    }

    #[test]
    fn the_kept_share_is_that_asked_for() {
        let dropped =
            ones(&Dropout { p: 0.05, site: 7 }, &[64, 64], 0, 1024).iter().filter(|&&y| y == 0.0).count();
        // 131,072 draws: mean 6,553.6, standard deviation 78.9.
        assert!((6240..6870).contains(&dropped), "{dropped} of 131072 were dropped");
        assert!(ones(&Dropout { p: 0.0, site: 7 }, &[5], 0, 7).iter().all(|&y| y == 1.0));
    }

    #[test]
    fn what_the_counter_cannot_tell_apart_is_refused() {
        let table = TensorType::i32([Dim::windows(2), Dim::fixed(2)]);
        let counter = TensorType::i32([Dim::fixed(4)]);
        let infer = |p, site, slots| {
            let x = TensorType::f32([Dim::slots(slots), Dim::fixed(3)]);
            Dropout { p, site }.infer(&[&x, &table, &counter]).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(infer(0.5, 65535, 131_072), Ok(()));
        let message = "attribute `site` = 65536: the counter tells 65536 sites apart";
        assert_eq!(infer(0.5, 65536, 8), Err(message.to_owned()));
        let error = infer(0.5, 0, 131_073).unwrap_err();
        assert!(error.starts_with("operand 0: expected a matrix of at most 65536 slots a window"), "{error}");
        let message = "attribute `p` = 1: a share of at least 0 and less than 1 can be dropped";
        assert_eq!(infer(1.0, 0, 8), Err(message.to_owned()));
        assert!(infer(f64::NAN, 0, 8).is_err());
    }

    #[test]
    fn a_mask_matches_finite_differences() {
        check_vjp(
            "graph @f(%x: batch \"x\" f32[slots:6, 5], %table: batch \"window_table\" i32[windows:2, 2], \
             %counter: control \"counter\" i32[4]) { \
             %y = dropout %x, %table, %counter {p = 0.5, site = 2} : f32[slots:6, 5] return \"y\" %y }",
        );
    }
}
