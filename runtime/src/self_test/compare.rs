//! Whether two kernels computed the same, up to the order of roundings.

use crate::bench::isolated::Place;
use gptjc_graphs::dtype::DType;

/// Largest difference of an f32 element, relative to its size and to the root of the mean square: sums of a few hundred
/// products differ by much less, a wrong element by much more.
const OF_F32: f64 = 1e-3;
/// The same where results are rounded to bf16: two roundings apart.
const OF_BF16: f64 = 2e-2;

/// What differs between `expected` and `found`; none if nothing does.
pub fn difference(expected: &[(Place, Vec<f32>)], found: &[(Place, Vec<f32>)]) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("expected {} results, found {}", expected.len(), found.len()));
    }
    expected.iter().zip(found).enumerate().find_map(|(index, ((place, expected), (_, found)))| {
        let what = of_result(place, expected, found)?;
        Some(format!("result {index} {what}"))
    })
}

fn of_result(place: &Place, expected: &[f32], found: &[f32]) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("has {} elements, expected {}", found.len(), expected.len()));
    }
    let squares: f64 = expected.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x).powi(2)).sum();
    let typical = (squares / expected.len().max(1) as f64).sqrt();
    let relative = match place.ty.dtype {
        DType::F32 => OF_F32,
        DType::Bf16 => OF_BF16,
        DType::I32 => 0.0,
    };
    let far = |(&expected, &found): (&f32, &f32)| {
        if expected.is_nan() || found.is_nan() {
            return expected.is_nan() != found.is_nan();
        }
        let allowed = relative * (f64::from(expected).abs() + typical);
        expected != found && (f64::from(expected) - f64::from(found)).abs() > allowed
    };
    let at = expected.iter().zip(found).position(far)?;
    Some(format!("at element {at} of {}: expected {:e}, found {:e}", place.ty, expected[at], found[at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_graphs::shape::TensorType;

    fn place(dtype: DType) -> Place {
        Place { name: "a".into(), original: "a".into(), ty: TensorType::new(dtype, [4.into()]) }
    }

    fn found(dtype: DType, expected: [f32; 4], found: [f32; 4]) -> Option<String> {
        difference(&[(place(dtype), expected.to_vec())], &[(place(dtype), found.to_vec())])
    }

    #[test]
    fn roundings_are_no_difference_and_wrong_elements_are() {
        let expected = [1.0, -2.0, 0.0, 3.0];
        assert_eq!(found(DType::F32, expected, [1.00001, -2.0, 1e-6, 3.0]), None);
        assert_eq!(found(DType::Bf16, expected, [1.0078, -2.0, 0.0, 3.0]), None);
        let message = found(DType::F32, expected, [1.0, -2.0, 0.1, 3.0]).unwrap();
        assert_eq!(message, "result 0 at element 2 of f32[4]: expected 0e0, found 1e-1");
        assert!(found(DType::F32, expected, [1.0, -2.0, f32::NAN, 3.0]).is_some());
        assert_eq!(found(DType::F32, [f32::NAN; 4], [f32::NAN; 4]), None);
        assert!(found(DType::I32, expected, [1.0, -2.0, 0.0, 4.0]).is_some());
    }

    #[test]
    fn another_number_of_results_is_a_difference() {
        assert!(difference(&[], &[(place(DType::F32), vec![0.0; 4])]).is_some());
        let shorter = difference(&[(place(DType::F32), vec![0.0; 4])], &[(place(DType::F32), vec![0.0; 3])]);
        assert!(shorter.unwrap().contains("has 3 elements, expected 4"));
    }
}
