//! Indices that come as data, checked before they index.

use super::EvalError;

/// `index` as an index below `bound`; `what` says in the error what it is an index of.
///
/// # Errors
/// [`EvalError::Index`] if it is negative or not below `bound`.
pub(crate) fn index_below(what: &'static str, index: i32, bound: usize) -> Result<usize, EvalError> {
    match usize::try_from(index) {
        Ok(found) if found < bound => Ok(found),
        _ => Err(EvalError::Index { what, index: i64::from(index), bound }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_outside_are_named() {
        assert_eq!(index_below("token", 4, 5), Ok(4));
        let error = index_below("token", 5, 5).unwrap_err().to_string();
        assert_eq!(error, "token 5 is outside of 0..5");
        assert!(index_below("token", -1, 5).is_err());
    }
}
