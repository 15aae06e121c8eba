//! Loops over slices: whole vectors, and what is left at the end in a vector filled up with zeros.

use super::{LANES, Simd, Stored};

/// The vectors of `x`, the last filled up with zeros.
#[inline(always)]
pub(crate) fn padded<T: Stored>(x: &[T]) -> [T; LANES] {
    let mut lanes = [T::ZERO; LANES];
    lanes[..x.len()].copy_from_slice(x);
    lanes
}

/// `y = f(y)`.
#[inline(always)]
pub(crate) fn map<S: Simd, T: Stored>(s: S, y: &mut [T], f: impl Fn(S::Floats) -> S::Floats) {
    let (vectors, rest) = y.as_chunks_mut();
    for y in vectors {
        T::store(s, f(T::load(s, y)), y);
    }
    if !rest.is_empty() {
        let mut lanes = padded(rest);
        T::store(s, f(T::load(s, &lanes)), &mut lanes);
        rest.copy_from_slice(&lanes[..rest.len()]);
    }
}

/// `y = f(x)`.
///
/// # Panics
/// If the slices have different lengths; so do the other functions.
#[inline(always)]
pub(crate) fn map_from<S: Simd, A: Stored, T: Stored>(
    s: S,
    x: &[A],
    y: &mut [T],
    f: impl Fn(S::Floats) -> S::Floats,
) {
    assert_eq!(x.len(), y.len());
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks(), y.as_chunks_mut());
    for (x, y) in xs.iter().zip(ys) {
        T::store(s, f(A::load(s, x)), y);
    }
    if !y_rest.is_empty() {
        let mut lanes = padded(y_rest);
        T::store(s, f(A::load(s, &padded(x_rest))), &mut lanes);
        y_rest.copy_from_slice(&lanes[..y_rest.len()]);
    }
}

/// `y = f(y, a)`.
#[inline(always)]
pub(crate) fn map_with<S: Simd, A: Stored, T: Stored>(
    s: S,
    y: &mut [T],
    a: &[A],
    f: impl Fn(S::Floats, S::Floats) -> S::Floats,
) {
    assert_eq!(a.len(), y.len());
    let ((vectors, a_rest), (ys, y_rest)) = (a.as_chunks(), y.as_chunks_mut());
    for (a, y) in vectors.iter().zip(ys) {
        T::store(s, f(T::load(s, y), A::load(s, a)), y);
    }
    if !y_rest.is_empty() {
        let mut lanes = padded(y_rest);
        T::store(s, f(T::load(s, &lanes), A::load(s, &padded(a_rest))), &mut lanes);
        y_rest.copy_from_slice(&lanes[..y_rest.len()]);
    }
}
