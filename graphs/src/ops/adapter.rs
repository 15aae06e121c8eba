//! The thin products of low-rank adapters: lower halves with their dropout, and gradients.
//!
//! Letters: M tokens, K inputs, N outputs, r rank, W windows. An adapter adds `scale · drop(x) · aᵀ · bᵀ` to a projection,
//! with the lower half `a[r, K]` and the upper half `b[N, r]`. An op works on the adapters of several projections of one
//! operand, its *members*; each drops elements of its own. The order of operands and results is [`layout`]'s.
//!
//! Numerics: everything is f32 but for `x` and `dy`, which may be bf16. Each sum is one chain in ascending order of its
//! index; sums over tokens stop at windows. A kept element of x is multiplied by `1 / (1 - p)` before the product.
//!
//! Does not: have gradient rules; fusion comes after autodiff.

use super::check::{self, TypeError};
use super::dropout::{Mask, check_masks};
use super::window::ranges;
use super::{AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext};
use crate::autodiff::ONLY_AFTER_FUSION;
use crate::layout::{self, AdapterDownOperands, AdapterGradOperands, SITES};
use crate::shape::{Extent, Extents, TensorType};

/// `adapter_down %x[M, K], lower halves f32[r, K], masks -> low f32[M, r]` of each member:
/// `low = drop(x) · aᵀ`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterDown {
    /// Number of adapters; at most [`layout::MAX_MEMBERS`].
    pub members: usize,
    /// Share of the elements of x that is dropped.
    pub p: f64,
    /// Dropout of each member.
    pub sites: Vec<usize>,
}

impl AdapterDown {
    /// The operands by what they are; none if there is another number of them.
    pub fn operands<T: Clone>(&self, operands: &[T]) -> Option<AdapterDownOperands<T>> {
        AdapterDownOperands::split(operands, self.members, self.p > 0.0)
    }
}

impl Operation for AdapterDown {
    const NAME: &'static str = "adapter_down";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&[&["members", "p"][..], &SITES].concat())?;
        let (members, p) = (attributes.get_int("members")?, attributes.get_float("p")?);
        Ok(Self { members, p, sites: layout::sites(attributes)? })
    }

    fn attributes(&self) -> Attributes {
        let own = Attributes::new().int("members", self.members).float("p", self.p);
        layout::with_sites(own, &self.sites)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        check::members(self.members, &[])?;
        let expected = AdapterDownOperands::<()>::count(self.members, self.p > 0.0);
        let parts = self
            .operands(&check::numbered(operands))
            .ok_or(TypeError::Count { expected, found: operands.len() })?;
        check::float(parts.x.0, parts.x.1, 2)?;
        let (tokens, inputs) = (parts.x.1.dims[0], parts.x.1.dims[1]);
        check_masks((self.p, &self.sites, self.members), parts.x, parts.masks.as_ref())?;
        let rank = parts.lower[0].1.dims.first().copied().unwrap_or(1.into());
        for (operand, lower) in parts.lower {
            check::f32_of(operand, lower, &[rank.bound.into(), inputs])?;
        }
        Ok(vec![TensorType::f32([tokens, rank]); self.members])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let wrong = EvalError::Operands { op: Self::NAME, found: operands.len() };
        let parts = self.operands(operands).ok_or(wrong)?;
        let dropped = Dropped::new(parts.x, parts.masks.as_ref(), self.p, extents)?;
        let mut results = Vec::new();
        for (member, lower) in parts.lower.into_iter().enumerate() {
            let (a, rank, inputs) = (lower.floats()?, lower.dims[0], lower.dims[1]);
            let site = self.sites.get(member).copied();
            let mut low = Vec::with_capacity(parts.x.dims[0] * rank);
            for token in 0..parts.x.dims[0] {
                for i in 0..rank {
                    let mut sum = F::zero();
                    for k in 0..inputs {
                        sum = sum + dropped.element(site, token, k) * a[i * inputs + k];
                    }
                    low.push(sum);
                }
            }
            results.push(Tensor::float([parts.x.dims[0], rank], low));
        }
        Ok(results)
    }

    /// The products, and those of the masks.
    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        let (Some(x), Some(low)) = (operands.first(), results.first()) else { return 0 };
        let an_element = 2 * low.dims[1].bound as u64 + u64::from(self.p > 0.0);
        self.members as u64 * x.elements() as u64 * an_element
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `adapter_up_grad (dy [M, N], b f32[N, r]) of each member -> dlow f32[M, r]` of each:
/// `dlow = scale · (dy · b)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterUpGrad {
    /// Number of adapters; at most [`layout::MAX_MEMBERS`].
    pub members: usize,
    /// Factor of the adapters.
    pub scale: f64,
}

impl AdapterUpGrad {
    /// `dy` and the upper half of each member; none if there is another number of operands.
    pub fn operands<T: Clone>(&self, operands: &[T]) -> Option<Vec<(T, T)>> {
        layout::split_adapter_up_grad(operands, self.members)
    }
}

impl Operation for AdapterUpGrad {
    const NAME: &'static str = "adapter_up_grad";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["members", "scale"])?;
        Ok(Self { members: attributes.get_int("members")?, scale: attributes.get_float("scale")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().int("members", self.members).float("scale", self.scale)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        check::members(self.members, &[])?;
        check::finite("scale", self.scale)?;
        let members = self
            .operands(&check::numbered(operands))
            .ok_or(TypeError::Count { expected: 2 * self.members, found: operands.len() })?;
        let first = members[0].0;
        check::float(first.0, first.1, 2)?;
        let (tokens, mut rank) = (first.1.dims[0], None);
        let mut results = Vec::new();
        for (dy, upper) in members {
            check::float(dy.0, dy.1, 2)?;
            check::matrix(dy, [tokens, dy.1.dims[1]], Some(first.1))?;
            let rank = check::thin(upper, dy.1.dims[1], &mut rank)?;
            results.push(TensorType::f32([tokens, rank]));
        }
        Ok(results)
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let wrong = EvalError::Operands { op: Self::NAME, found: operands.len() };
        let scale = F::from_f64(self.scale);
        let mut results = Vec::new();
        for (dy, upper) in self.operands(operands).ok_or(wrong)? {
            let (outputs, rank) = (upper.dims[0], upper.dims[1]);
            let (tokens, dy, b) = (dy.dims[0], dy.floats()?, upper.floats()?);
            let mut dlow = Vec::with_capacity(tokens * rank);
            for token in 0..tokens {
                for i in 0..rank {
                    let mut sum = F::zero();
                    for n in 0..outputs {
                        sum = sum + dy[token * outputs + n] * b[n * rank + i];
                    }
                    dlow.push(scale * sum);
                }
            }
            results.push(Tensor::float([tokens, rank], dlow));
        }
        Ok(results)
    }

    /// The products, and those with the factor.
    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        let Some(members) = self.operands(operands) else { return 0 };
        let product = |(dy, b): &(&TensorType, &TensorType)| 2 * (dy.elements() * b.dims[1].bound) as u64;
        let scaled: usize = results.iter().map(|low| low.elements()).sum();
        members.iter().map(product).sum::<u64>() + scaled as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `adapter_grad %x[M, K], (dy [M, N], low f32[M, r], dlow f32[M, r]) of each member, %table, masks -> (da f32[W, r, K],
/// db f32[W, N, r])` of each: for each window, over its tokens,
/// `da = Σ dlow · drop(x)` and `db = Σ dy · (scale · low)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterGrad {
    /// Number of adapters; at most [`layout::MAX_MEMBERS`].
    pub members: usize,
    /// Factor of the adapters.
    pub scale: f64,
    /// Share of the elements of x that was dropped.
    pub p: f64,
    /// Dropout of each member.
    pub sites: Vec<usize>,
}

impl AdapterGrad {
    /// The operands by what they are; none if there is another number of them.
    pub fn operands<T: Clone>(&self, operands: &[T]) -> Option<AdapterGradOperands<T>> {
        AdapterGradOperands::split(operands, self.members, self.p > 0.0)
    }

    /// `da` and `db` of each member; none if there is another number of results.
    pub fn results<T: Clone>(&self, results: &[T]) -> Option<Vec<(T, T)>> {
        layout::split_adapter_grad_results(results, self.members)
    }
}

impl Operation for AdapterGrad {
    const NAME: &'static str = "adapter_grad";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&[&["members", "scale", "p"][..], &SITES].concat())?;
        Ok(Self {
            members: attributes.get_int("members")?,
            scale: attributes.get_float("scale")?,
            p: attributes.get_float("p")?,
            sites: layout::sites(attributes)?,
        })
    }

    fn attributes(&self) -> Attributes {
        let own =
            Attributes::new().int("members", self.members).float("scale", self.scale).float("p", self.p);
        layout::with_sites(own, &self.sites)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        check::members(self.members, &[])?;
        check::finite("scale", self.scale)?;
        let expected = AdapterGradOperands::<()>::count(self.members, self.p > 0.0);
        let parts = self
            .operands(&check::numbered(operands))
            .ok_or(TypeError::Count { expected, found: operands.len() })?;
        check::float(parts.x.0, parts.x.1, 2)?;
        let (tokens, inputs) = (parts.x.1.dims[0], parts.x.1.dims[1]);
        check_masks((self.p, &self.sites, self.members), parts.x, parts.masks.as_ref())?;
        let windows = check::range_table(parts.table.0, parts.table.1, Extent::Windows)?;
        let (first, mut rank) = (parts.members[0].dy.1, None);
        let mut results = Vec::new();
        for member in parts.members {
            check::float(member.dy.0, member.dy.1, 2)?;
            check::matrix(member.dy, [tokens, member.dy.1.dims[1]], Some(first))?;
            let rank = check::thin(member.low, tokens, &mut rank)?;
            check::f32_of(member.dlow.0, member.dlow.1, &[tokens, rank])?;
            results.push(TensorType::f32([windows, rank, inputs]));
            results.push(TensorType::f32([windows, member.dy.1.dims[1], rank]));
        }
        Ok(results)
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let wrong = EvalError::Operands { op: Self::NAME, found: operands.len() };
        let parts = self.operands(operands).ok_or(wrong)?;
        let dropped = Dropped::new(parts.x, parts.masks.as_ref(), self.p, extents)?;
        let (tokens, inputs) = (parts.x.dims[0], parts.x.dims[1]);
        let windows = ranges(parts.table, tokens)?;
        let scale = F::from_f64(self.scale);
        let mut results = Vec::new();
        for (member, of_member) in parts.members.iter().enumerate() {
            let (outputs, rank) = (of_member.dy.dims[1], of_member.low.dims[1]);
            let site = self.sites.get(member).copied();
            let (dy, low) = (of_member.dy.floats()?, of_member.low.floats()?);
            let dlow = of_member.dlow.floats()?;
            let mut da = vec![F::zero(); windows.len() * rank * inputs];
            let mut db = vec![F::zero(); windows.len() * outputs * rank];
            for (window, tokens) in windows.iter().enumerate() {
                for token in tokens.clone() {
                    for i in 0..rank {
                        let (low, dlow) = (scale * low[token * rank + i], dlow[token * rank + i]);
                        for k in 0..inputs {
                            let element = &mut da[(window * rank + i) * inputs + k];
                            *element = *element + dlow * dropped.element(site, token, k);
                        }
                        for n in 0..outputs {
                            let element = &mut db[(window * outputs + n) * rank + i];
                            *element = *element + dy[token * outputs + n] * low;
                        }
                    }
                }
            }
            results.push(Tensor::float([windows.len(), rank, inputs], da));
            results.push(Tensor::float([windows.len(), outputs, rank], db));
        }
        Ok(results)
    }

    /// The products, those of the masks, and the scaled lower halves.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        let Some(parts) = self.operands(operands) else { return 0 };
        let of_member = |member: &layout::AdapterGradMember<&TensorType>| {
            let rank = member.low.dims[1].bound as u64;
            let of_lower = parts.x.elements() as u64 * (2 * rank + u64::from(self.p > 0.0));
            of_lower + 2 * member.dy.elements() as u64 * rank + member.low.elements() as u64
        };
        parts.members.iter().map(of_member).sum()
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// What the dropouts of the members leave of x.
struct Dropped<'t, F> {
    x: &'t [F],
    inputs: usize,
    mask: Option<Mask>,
    factor: F,
}

impl<'t, F: Real> Dropped<'t, F> {
    fn new(
        x: &'t Tensor<F>,
        masks: Option<&layout::Masks<&Tensor<F>>>,
        p: f64,
        extents: &Extents,
    ) -> Result<Self, EvalError> {
        let mask = masks.map(|masks| Mask::new(masks, p, extents.slots)).transpose()?;
        Ok(Self { x: x.floats()?, inputs: x.dims[1], mask, factor: F::from_f64(1.0 / (1.0 - p)) })
    }

    fn element(&self, site: Option<usize>, token: usize, column: usize) -> F {
        let x = self.x[token * self.inputs + column];
        match (&self.mask, site) {
            (Some(mask), Some(site)) if mask.keeps(token, site, column) => x * self.factor,
            (Some(_), _) => F::zero(),
            (None, _) => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Dim;

    fn matrix(rows: impl Into<Dim>, columns: usize) -> TensorType {
        TensorType::f32([rows.into(), columns.into()])
    }

    fn types(operands: &[TensorType]) -> Vec<&TensorType> {
        operands.iter().collect()
    }

    #[test]
    fn lower_halves_take_masks_if_anything_is_dropped() {
        let (x, low) = (matrix(Dim::slots(6), 5), matrix(Dim::slots(6), 2));
        let op = AdapterDown { members: 2, p: 0.5, sites: vec![3, 4] };
        assert_eq!(AdapterDown::from_attributes(&op.attributes()), Ok(op.clone()));
        let (table, counter) =
            (TensorType::i32([Dim::windows(2), 2.into()]), TensorType::i32([Dim::fixed(4)]));
        let mut operands = vec![x, matrix(2, 5), matrix(2, 5), table, counter];
        assert_eq!(op.infer(&types(&operands)), Ok(vec![low.clone(), low.clone()]));
        let results = [low.clone(), low];
        assert_eq!(op.flops(&types(&operands), &types(&results)), 2 * 6 * 5 * (2 * 2 + 1));
        let plain = AdapterDown { p: 0.0, sites: vec![], ..op.clone() };
        assert_eq!(plain.infer(&types(&operands)).unwrap_err().to_string(), "expected 3 operands, found 5");
        assert_eq!(plain.flops(&types(&operands[..3]), &types(&results)), 2 * 6 * 5 * 2 * 2);
        operands[2] = matrix(3, 5);
        let error = op.infer(&types(&operands)).unwrap_err().to_string();
        assert_eq!(error, "operand 2: expected f32[2, 5], found f32[3, 5]");
    }

    #[test]
    fn gradients_have_the_work_of_their_products() {
        let slots = Dim::slots(6);
        let op = AdapterUpGrad { members: 1, scale: 2.0 };
        let operands = [matrix(slots, 7), matrix(7, 2)];
        let results = op.infer(&types(&operands)).unwrap();
        assert_eq!(results, [matrix(slots, 2)]);
        assert_eq!(op.flops(&types(&operands), &types(&results)), 2 * 6 * 7 * 2 + 6 * 2);
        let error = op.infer(&types(&[matrix(slots, 7), matrix(6, 2)])).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected f32[7, 2], found f32[6, 2]");

        let op = AdapterGrad { members: 1, scale: 2.0, p: 0.0, sites: vec![] };
        assert_eq!(AdapterGrad::from_attributes(&op.attributes()), Ok(op.clone()));
        let table = TensorType::i32([Dim::windows(3), 2.into()]);
        let operands = [matrix(slots, 5), matrix(slots, 7), matrix(slots, 2), matrix(slots, 2), table];
        let results = op.infer(&types(&operands)).unwrap();
        let gradient = |n: usize, k: usize| TensorType::f32([Dim::windows(3), n.into(), k.into()]);
        assert_eq!(results, [gradient(2, 5), gradient(7, 2)]);
        assert_eq!(op.flops(&types(&operands), &types(&results)), 2 * 6 * 2 * (5 + 7) + 6 * 2);
        let mut other = operands.to_vec();
        other[3] = matrix(slots, 3);
        let error = op.infer(&types(&other)).unwrap_err().to_string();
        assert_eq!(error, "operand 3: expected f32[slots:6, 2], found f32[slots:6, 3]");
    }
}
