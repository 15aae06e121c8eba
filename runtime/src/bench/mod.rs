//! Measuring: what the machine can do, and what kernels and steps make of it.
//!
//! Machines are shared and clocks move, so nothing is measured once: a kernel's speed is put beside a peak that was
//! measured immediately before and after, and what is reported are medians.
//!
//! Does not: compile plans or print.

pub mod disk;
pub mod isolated;
pub mod kernel;
pub mod memory;
pub mod peak;
pub mod step;
pub mod trace;

/// The middle of `values`, the mean of the two in the middle if their number is even; none of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count.is_multiple_of(2) => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
