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

/// The vectors of `x` folded in order; the last is filled up with `fill`.
#[inline(always)]
pub(crate) fn fold<S: Simd, A>(s: S, x: &[f32], fill: f32, start: A, f: impl Fn(A, S::Floats) -> A) -> A {
    let (vectors, rest) = x.as_chunks();
    let mut state = start;
    for x in vectors {
        state = f(state, s.load(x));
    }
    if !rest.is_empty() {
        let mut lanes = [fill; LANES];
        lanes[..rest.len()].copy_from_slice(rest);
        state = f(state, s.load(&lanes));
    }
    state
}

/// The vectors of three slices of equal length folded in order; the last are filled up with zeros.
///
/// # Panics
/// If the slices have different lengths.
#[inline(always)]
pub(crate) fn fold3<S: Simd, A>(s: S, x: [&[f32]; 3], start: A, f: impl Fn(A, [S::Floats; 3]) -> A) -> A {
    assert!(x[0].len() == x[1].len() && x[0].len() == x[2].len());
    let ([a, b, c], [a_rest, b_rest, c_rest]) = {
        let [a, b, c] = x.map(|x| x.as_chunks());
        ([a.0, b.0, c.0], [a.1, b.1, c.1])
    };
    let mut state = start;
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        state = f(state, [s.load(a), s.load(b), s.load(c)]);
    }
    if !a_rest.is_empty() {
        let lanes = [padded(a_rest), padded(b_rest), padded(c_rest)];
        state = f(state, [s.load(&lanes[0]), s.load(&lanes[1]), s.load(&lanes[2])]);
    }
    state
}

/// `y = f(y, a, b)`.
///
/// # Panics
/// If the slices have different lengths.
#[inline(always)]
pub(crate) fn map_with2<S: Simd>(
    s: S,
    y: &mut [f32],
    a: &[f32],
    b: &[f32],
    f: impl Fn(S::Floats, S::Floats, S::Floats) -> S::Floats,
) {
    assert!(a.len() == y.len() && b.len() == y.len());
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let (ys, y_rest) = y.as_chunks_mut();
    for ((a, b), y) in a.iter().zip(b).zip(ys) {
        s.store(f(s.load(y), s.load(a), s.load(b)), y);
    }
    if !y_rest.is_empty() {
        let (mut lanes, a, b) = (padded(y_rest), padded(a_rest), padded(b_rest));
        s.store(f(s.load(&lanes), s.load(&a), s.load(&b)), &mut lanes);
        y_rest.copy_from_slice(&lanes[..y_rest.len()]);
    }
}
