//! Which operand of a fused op is what.
//!
//! A fused op works on up to [`MAX_MEMBERS`] projections at once, its *members*, some of which have a bias, an adapter
//! or an activation. Its operands are one flat list. The types here take such a list apart and put it together; they
//! hold whatever stands for an operand: a value of the graph, its type, a tensor, a view of memory. Shape rules, passes
//! and kernels all use them, so the order of the lists is written down here and nowhere else.
//!
//! A set of members is a number whose bit `j` is member `j`.
//!
//! Does not: check types or attributes; the ops' shape rules do.

use crate::attributes::{AttributeError, Attributes};
use std::slice::Iter;

/// Most members of a fused op.
pub const MAX_MEMBERS: usize = 6;

/// Names of the attributes that hold the dropout sites of a fused op, in order.
pub const SITES: [&str; MAX_MEMBERS] = ["site0", "site1", "site2", "site3", "site4", "site5"];

/// The dropout sites among `attributes`.
///
/// # Errors
/// [`AttributeError`] if one is negative or one before it is missing.
pub fn sites(attributes: &Attributes) -> Result<Vec<usize>, AttributeError> {
    let count = attributes.iter().filter(|(name, _)| SITES.contains(name)).count();
    SITES[..count].iter().map(|name| attributes.get_int(name)).collect()
}

/// `attributes` with the dropout sites, as [`sites`] reads them; there are at most [`MAX_MEMBERS`].
pub fn with_sites(attributes: Attributes, sites: &[usize]) -> Attributes {
    SITES.iter().zip(sites).fold(attributes, |attributes, (name, &site)| attributes.int(name, site))
}

/// Members of a set, ascending.
pub fn members_of(set: usize) -> impl Iterator<Item = usize> {
    (0..usize::BITS as usize).filter(move |member| set >> member & 1 == 1)
}

/// The set of the members for which `has` is true.
fn set_of<T>(members: &[T], has: impl Fn(&T) -> bool) -> usize {
    members.iter().enumerate().filter(|(_, member)| has(member)).map(|(index, _)| 1 << index).sum()
}

fn next<T: Clone>(list: &mut Iter<'_, T>) -> Option<T> {
    list.next().cloned()
}

fn take<T: Clone>(list: &mut Iter<'_, T>, count: usize) -> Option<Vec<T>> {
    (0..count).map(|_| next(list)).collect()
}

/// For each member what `one` takes, if the member is in `set`.
fn take_for<T, U>(
    list: &mut Iter<'_, T>,
    members: usize,
    set: usize,
    one: impl Fn(&mut Iter<'_, T>) -> Option<U>,
) -> Option<Vec<Option<U>>> {
    (0..members).map(|member| if set >> member & 1 == 1 { one(list).map(Some) } else { Some(None) }).collect()
}

fn pair<T: Clone>(list: &mut Iter<'_, T>) -> Option<(T, T)> {
    Some((next(list)?, next(list)?))
}

/// What decides which elements dropout keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masks<T> {
    /// The slots of each window.
    pub window_table: T,
    /// Seed, step and first global window.
    pub counter: T,
    /// The slot of each row, if tokens are labelled rows and not slots.
    pub labelled: Option<T>,
}

impl<T: Clone> Masks<T> {
    /// The masks at the place in `list`, if `present`; the rows' slots are there if the list has `behind` more.
    fn take(list: &mut Iter<'_, T>, present: bool, behind: usize) -> Option<Option<Self>> {
        if !present {
            return Some(None);
        }
        let (window_table, counter) = pair(list)?;
        let labelled = if list.len() > behind { Some(next(list)?) } else { None };
        Some(Some(Self { window_table, counter, labelled }))
    }

    fn join(self, list: &mut Vec<T>) {
        list.extend([self.window_table, self.counter]);
        list.extend(self.labelled);
    }
}

/// A member of [`ProjectionOperands`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionMember<T> {
    /// The weight `[N, K]`.
    pub weight: T,
    /// The bias `[N]`.
    pub bias: Option<T>,
    /// The adapter: what its lower half gave, `[M, r]`, and its upper half `[N, r]`.
    pub adapter: Option<(T, T)>,
}

/// Operands of `projection`: x, weights, biases, adapters, residuals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionOperands<T> {
    /// What is projected, `[M, K]`.
    pub x: T,
    /// The projections.
    pub members: Vec<ProjectionMember<T>>,
    /// What is added, `[M, N]` each.
    pub residuals: Vec<T>,
}

impl<T: Clone> ProjectionOperands<T> {
    /// Length of the list.
    pub fn count(members: usize, biased: usize, adapted: usize, residuals: usize) -> usize {
        1 + members + biased.count_ones() as usize + 2 * adapted.count_ones() as usize + residuals
    }

    /// Takes a list apart; none if it has another length.
    pub fn split(
        list: &[T],
        members: usize,
        biased: usize,
        adapted: usize,
        residuals: usize,
    ) -> Option<Self> {
        let list = &mut list.iter();
        let x = next(list)?;
        let weights = take(list, members)?;
        let biases = take_for(list, members, biased, next)?;
        let adapters = take_for(list, members, adapted, pair)?;
        let residuals = take(list, residuals)?;
        let member = |((weight, bias), adapter)| ProjectionMember { weight, bias, adapter };
        let members = weights.into_iter().zip(biases).zip(adapters).map(member).collect();
        list.next().is_none().then_some(Self { x, members, residuals })
    }

    /// The list.
    pub fn join(self) -> Vec<T> {
        let mut list = vec![self.x];
        list.extend(self.members.iter().map(|member| member.weight.clone()));
        list.extend(self.members.iter().filter_map(|member| member.bias.clone()));
        list.extend(self.members.into_iter().filter_map(|member| member.adapter).flat_map(<[T; 2]>::from));
        list.extend(self.residuals);
        list
    }

    /// The set of the members with a bias.
    pub fn biased(&self) -> usize {
        set_of(&self.members, |member| member.bias.is_some())
    }

    /// The set of the members with an adapter.
    pub fn adapted(&self) -> usize {
        set_of(&self.members, |member| member.adapter.is_some())
    }
}

/// Results of `projection` for each member: the projection, and its activation if the member is in `gelu`. The list is
/// all projections, then all activations.
///
/// None if the list has another length.
pub fn split_projection_results<T: Clone>(
    list: &[T],
    members: usize,
    gelu: usize,
) -> Option<Vec<(T, Option<T>)>> {
    let list = &mut list.iter();
    let projections = take(list, members)?;
    let activations = take_for(list, members, gelu, next)?;
    list.next().is_none().then(|| projections.into_iter().zip(activations).collect())
}

/// Operands of `adapter_down`: x, the lower halves, masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterDownOperands<T> {
    /// What is projected, `[M, K]`.
    pub x: T,
    /// The lower halves `[r, K]`.
    pub lower: Vec<T>,
    /// The masks of the members' dropouts.
    pub masks: Option<Masks<T>>,
}

impl<T: Clone> AdapterDownOperands<T> {
    /// Length of the list without the rows' slots.
    pub fn count(members: usize, masked: bool) -> usize {
        1 + members + 2 * usize::from(masked)
    }

    /// Takes a list apart; none if it has another length.
    pub fn split(list: &[T], members: usize, masked: bool) -> Option<Self> {
        let list = &mut list.iter();
        let (x, lower) = (next(list)?, take(list, members)?);
        let masks = Masks::take(list, masked, 0)?;
        list.next().is_none().then_some(Self { x, lower, masks })
    }

    /// The list.
    pub fn join(self) -> Vec<T> {
        let mut list = vec![self.x];
        list.extend(self.lower);
        self.masks.into_iter().for_each(|masks| masks.join(&mut list));
        list
    }
}

/// Operands of `adapter_up_grad`: for each member `dy` and its upper half, in turn.
pub fn split_adapter_up_grad<T: Clone>(list: &[T], members: usize) -> Option<Vec<(T, T)>> {
    let list = &mut list.iter();
    let members = (0..members).map(|_| pair(list)).collect::<Option<_>>()?;
    list.next().is_none().then_some(members)
}

/// A member of [`AdapterGradOperands`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterGradMember<T> {
    /// Cotangent of the projection, `[M, N]`.
    pub dy: T,
    /// What the lower half gave, `[M, r]`.
    pub low: T,
    /// Cotangent of that.
    pub dlow: T,
}

/// Operands of `adapter_grad`: x, the members in turn, the table that sums stop at, masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterGradOperands<T> {
    /// What was projected, `[M, K]`.
    pub x: T,
    /// The adapters.
    pub members: Vec<AdapterGradMember<T>>,
    /// The tokens of each window.
    pub table: T,
    /// The masks of the members' dropouts.
    pub masks: Option<Masks<T>>,
}

impl<T: Clone> AdapterGradOperands<T> {
    /// Length of the list without the rows' slots.
    pub fn count(members: usize, masked: bool) -> usize {
        2 + 3 * members + 2 * usize::from(masked)
    }

    /// Takes a list apart; none if it has another length.
    pub fn split(list: &[T], members: usize, masked: bool) -> Option<Self> {
        let list = &mut list.iter();
        let x = next(list)?;
        let member = |_| {
            let (dy, (low, dlow)) = (next(list)?, pair(list)?);
            Some(AdapterGradMember { dy, low, dlow })
        };
        let members = (0..members).map(member).collect::<Option<_>>()?;
        let table = next(list)?;
        let masks = Masks::take(list, masked, 0)?;
        list.next().is_none().then_some(Self { x, members, table, masks })
    }

    /// The list.
    pub fn join(self) -> Vec<T> {
        let mut list = vec![self.x];
        list.extend(self.members.into_iter().flat_map(|member| [member.dy, member.low, member.dlow]));
        list.push(self.table);
        self.masks.into_iter().for_each(|masks| masks.join(&mut list));
        list
    }
}

/// Results of `adapter_grad`: for each member the gradients of its lower and of its upper half, in turn.
///
/// None if the list has another length.
pub fn split_adapter_grad_results<T: Clone>(list: &[T], members: usize) -> Option<Vec<(T, T)>> {
    split_adapter_up_grad(list, members)
}

/// A member of [`ProjectionGradOperands`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionGradMember<T> {
    /// Cotangent of the projection, `[M, N]`.
    pub dy: T,
    /// The weight `[N, K]`.
    pub weight: T,
    /// The adapter: cotangent of what its lower half gave, `[M, r]`, and the lower half `[r, K]`.
    pub adapter: Option<(T, T)>,
}

/// Operands of `projection_grad`: cotangents, weights, adapters, masks, the pre-activation, residuals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionGradOperands<T> {
    /// The projections.
    pub members: Vec<ProjectionGradMember<T>>,
    /// The masks of the adapters' dropouts.
    pub masks: Option<Masks<T>>,
    /// What the activation before the projections was taken of, `[M, K]`.
    pub u: Option<T>,
    /// What is added, `[M, K]` each.
    pub residuals: Vec<T>,
}

impl<T: Clone> ProjectionGradOperands<T> {
    /// Length of the list without the rows' slots.
    pub fn count(members: usize, adapted: usize, masked: bool, gelu: bool, residuals: usize) -> usize {
        let masks = if masked && adapted != 0 { 2 } else { 0 };
        2 * members + 2 * adapted.count_ones() as usize + masks + usize::from(gelu) + residuals
    }

    /// Takes a list apart; none if it has another length.
    pub fn split(
        list: &[T],
        members: usize,
        adapted: usize,
        masked: bool,
        gelu: bool,
        residuals: usize,
    ) -> Option<Self> {
        let list = &mut list.iter();
        let (cotangents, weights) = (take(list, members)?, take(list, members)?);
        let adapters = take_for(list, members, adapted, pair)?;
        let behind = usize::from(gelu) + residuals;
        let masks = Masks::take(list, masked && adapted != 0, behind)?;
        let u = if gelu { Some(next(list)?) } else { None };
        let residuals = take(list, residuals)?;
        let member = |((dy, weight), adapter)| ProjectionGradMember { dy, weight, adapter };
        let members = cotangents.into_iter().zip(weights).zip(adapters).map(member).collect();
        list.next().is_none().then_some(Self { members, masks, u, residuals })
    }

    /// The list.
    pub fn join(self) -> Vec<T> {
        let mut list: Vec<T> = self.members.iter().map(|member| member.dy.clone()).collect();
        list.extend(self.members.iter().map(|member| member.weight.clone()));
        list.extend(self.members.into_iter().filter_map(|member| member.adapter).flat_map(<[T; 2]>::from));
        self.masks.into_iter().for_each(|masks| masks.join(&mut list));
        list.extend(self.u);
        list.extend(self.residuals);
        list
    }

    /// The set of the members with an adapter.
    pub fn adapted(&self) -> usize {
        set_of(&self.members, |member| member.adapter.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_is_taken_apart_and_put_together() {
        let list: Vec<_> = "x w0 w1 w2 bias1 low0 b0 low2 b2 r0 r1".split(' ').collect();
        let parts = ProjectionOperands::split(&list, 3, 0b010, 0b101, 2).unwrap();
        assert_eq!((parts.x, &parts.residuals), ("x", &vec!["r0", "r1"]));
        let member = |weight, bias, adapter| ProjectionMember { weight, bias, adapter };
        let expected = [
            member("w0", None, Some(("low0", "b0"))),
            member("w1", Some("bias1"), None),
            member("w2", None, Some(("low2", "b2"))),
        ];
        assert_eq!(parts.members, expected);
        assert_eq!((parts.biased(), parts.adapted()), (0b010, 0b101));
        assert_eq!(parts.join(), list);
        assert_eq!(ProjectionOperands::<u8>::count(3, 0b010, 0b101, 2), list.len());
        assert_eq!(ProjectionOperands::split(&list, 3, 0b010, 0b101, 1), None);
        assert_eq!(ProjectionOperands::split(&list[..10], 3, 0b010, 0b101, 2), None);
        let results = split_projection_results(&["y0", "y1", "act1"], 2, 0b10);
        assert_eq!(results, Some(vec![("y0", None), ("y1", Some("act1"))]));
        assert_eq!(split_projection_results(&["y0", "y1", "act1"], 2, 0), None);
    }

    #[test]
    fn a_projection_gradient_is_taken_apart_and_put_together() {
        let all: Vec<_> = "dy0 dy1 w0 w1 dlow1 a1 table counter labelled u r".split(' ').collect();
        for (labelled, u) in [(false, false), (false, true), (true, false), (true, true)] {
            let left_out = |name: &str| (name == "labelled" && !labelled) || (name == "u" && !u);
            let list: Vec<_> = all.iter().copied().filter(|name| !left_out(name)).collect();
            let parts = ProjectionGradOperands::split(&list, 2, 0b10, true, u, 1).unwrap();
            let member = |dy, weight, adapter| ProjectionGradMember { dy, weight, adapter };
            assert_eq!(
                parts.members,
                [member("dy0", "w0", None), member("dy1", "w1", Some(("dlow1", "a1")))]
            );
            let masks = parts.masks.as_ref().unwrap();
            assert_eq!((masks.window_table, masks.counter), ("table", "counter"));
            assert_eq!((masks.labelled.is_some(), parts.u.is_some()), (labelled, u));
            assert_eq!((&parts.residuals, parts.adapted()), (&vec!["r"], 0b10));
            assert_eq!(parts.join(), list);
            let count = ProjectionGradOperands::<u8>::count(2, 0b10, true, u, 1);
            assert_eq!(count + usize::from(labelled), list.len());
        }
        // Without adapters nothing is dropped.
        let parts = ProjectionGradOperands::split(&["dy", "w"], 1, 0, true, false, 0).unwrap();
        assert_eq!((parts.masks, ProjectionGradOperands::<u8>::count(1, 0, true, false, 0)), (None, 2));
        assert_eq!(ProjectionGradOperands::split(&all, 2, 0b10, true, true, 0), None);
    }

    #[test]
    fn adapters_are_taken_apart_and_put_together() {
        let list = ["x", "a0", "a1", "table", "counter", "labelled"];
        let parts = AdapterDownOperands::split(&list, 2, true).unwrap();
        assert_eq!((parts.x, &parts.lower), ("x", &vec!["a0", "a1"]));
        assert_eq!(parts.masks.as_ref().unwrap().labelled, Some("labelled"));
        assert_eq!(parts.join(), list);
        assert_eq!(AdapterDownOperands::split(&list[..5], 2, true).unwrap().join(), list[..5]);
        assert_eq!(AdapterDownOperands::split(&list[..3], 2, false).unwrap().masks, None);
        assert_eq!(AdapterDownOperands::split(&list, 1, true), None);

        let list: Vec<_> = "x dy0 low0 dlow0 dy1 low1 dlow1 rows table counter labelled".split(' ').collect();
        let parts = AdapterGradOperands::split(&list, 2, true).unwrap();
        assert_eq!((parts.x, parts.table), ("x", "rows"));
        assert_eq!(parts.members[1], AdapterGradMember { dy: "dy1", low: "low1", dlow: "dlow1" });
        assert_eq!(parts.masks.as_ref().unwrap().window_table, "table");
        assert_eq!(AdapterGradOperands::<u8>::count(2, true) + 1, list.len());
        assert_eq!(parts.join(), list);
        assert_eq!(AdapterGradOperands::split(&list, 2, false), None);

        let pairs = Some(vec![("dy0", "b0"), ("dy1", "b1")]);
        assert_eq!(split_adapter_up_grad(&["dy0", "b0", "dy1", "b1"], 2), pairs);
        assert_eq!(split_adapter_grad_results(&["da", "db", "da"], 1), None);
    }

    #[test]
    fn sites_are_read_in_order() {
        let attributes = Attributes::new().int("site0", 7).int("members", 2).int("site1", 3);
        assert_eq!(sites(&attributes), Ok(vec![7, 3]));
        assert_eq!(sites(&with_sites(Attributes::new(), &[7, 3])), Ok(vec![7, 3]));
        let error = sites(&Attributes::new().int("site1", 3)).unwrap_err().to_string();
        assert_eq!(error, "attribute `site0` is missing: expected an integer of at least 0");
        assert_eq!(members_of(0b1011).collect::<Vec<_>>(), [0, 1, 3]);
    }
}
