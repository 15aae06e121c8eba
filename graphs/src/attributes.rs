//! Attributes of an op or a kernel call: named constants, the same in the text form and in the plan.

use crate::dtype::DType;
use std::fmt;

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// An integer: sizes, counts, flags (0 or 1).
    Int(i64),
    /// A real number.
    Float(f64),
    /// A word.
    Word(String),
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttributeValue::Int(value) => write!(f, "{value}"),
            // `{:?}` keeps a point or an exponent, so that a float reads back as a float, and all digits.
            AttributeValue::Float(value) => write!(f, "{value:?}"),
            AttributeValue::Word(word) => f.write_str(word),
        }
    }
}

/// Why attributes were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AttributeError {
    /// The attribute is not there.
    #[error("attribute `{name}` is missing: expected {expected}")]
    Missing {
        /// Name of the attribute.
        name: &'static str,
        /// What should have been there.
        expected: &'static str,
    },
    /// The attribute has another kind or range.
    #[error("attribute `{name}`: expected {expected}, found `{found}`")]
    Invalid {
        /// Name of the attribute.
        name: &'static str,
        /// What should have been there.
        expected: &'static str,
        /// What was there.
        found: AttributeValue,
    },
    /// An attribute that the op does not have.
    #[error("attribute `{0}` is not one of this op's")]
    Unknown(String),
}

/// An ordered list of attributes.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Attributes(Vec<(String, AttributeValue)>);

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an integer.
    pub fn int(mut self, name: &str, value: usize) -> Self {
        self.push(name, AttributeValue::Int(value as i64));
        self
    }

    /// Adds a real number.
    pub fn float(mut self, name: &str, value: f64) -> Self {
        self.push(name, AttributeValue::Float(value));
        self
    }

    /// Adds a word.
    pub fn word(mut self, name: &str, value: &str) -> Self {
        self.push(name, AttributeValue::Word(value.to_owned()));
        self
    }

    /// Adds an attribute.
    pub fn push(&mut self, name: &str, value: AttributeValue) {
        self.0.push((name.to_owned(), value));
    }

    /// Attributes in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, name: &'static str, expected: &'static str) -> Result<&AttributeValue, AttributeError> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
            .ok_or(AttributeError::Missing { name, expected })
    }

    /// The integer `name`, at least 0.
    ///
    /// # Errors
    /// [`AttributeError`] if it is missing, not an integer or negative.
    pub fn get_int(&self, name: &'static str) -> Result<usize, AttributeError> {
        const EXPECTED: &str = "an integer of at least 0";
        match self.find(name, EXPECTED)? {
            AttributeValue::Int(value) if *value >= 0 => Ok(*value as usize),
            found => Err(AttributeError::Invalid { name, expected: EXPECTED, found: found.clone() }),
        }
    }

    /// The flag `name`, 0 or 1.
    ///
    /// # Errors
    /// [`AttributeError`] if it is missing or another value.
    pub fn get_flag(&self, name: &'static str) -> Result<bool, AttributeError> {
        const EXPECTED: &str = "0 or 1";
        match self.find(name, EXPECTED)? {
            AttributeValue::Int(value @ 0..=1) => Ok(*value == 1),
            found => Err(AttributeError::Invalid { name, expected: EXPECTED, found: found.clone() }),
        }
    }

    /// The real number `name`; an integer is taken as one.
    ///
    /// # Errors
    /// [`AttributeError`] if it is missing or a word.
    pub fn get_float(&self, name: &'static str) -> Result<f64, AttributeError> {
        const EXPECTED: &str = "a number";
        match self.find(name, EXPECTED)? {
            AttributeValue::Float(value) => Ok(*value),
            AttributeValue::Int(value) => Ok(*value as f64),
            found => Err(AttributeError::Invalid { name, expected: EXPECTED, found: found.clone() }),
        }
    }

    /// The word `name`.
    ///
    /// # Errors
    /// [`AttributeError`] if it is missing or a number.
    pub fn get_word(&self, name: &'static str, expected: &'static str) -> Result<&str, AttributeError> {
        match self.find(name, expected)? {
            AttributeValue::Word(word) => Ok(word),
            found => Err(AttributeError::Invalid { name, expected, found: found.clone() }),
        }
    }

    /// The floating-point type that the word `name` names.
    ///
    /// # Errors
    /// [`AttributeError`] if it is missing or names none.
    pub fn get_float_type(&self, name: &'static str) -> Result<DType, AttributeError> {
        const EXPECTED: &str = "f32 or bf16";
        let word = self.get_word(name, EXPECTED)?;
        match word.parse::<DType>() {
            Ok(dtype) if dtype.is_float() => Ok(dtype),
            _ => {
                let found = AttributeValue::Word(word.to_owned());
                Err(AttributeError::Invalid { name, expected: EXPECTED, found })
            }
        }
    }

    /// True if there is an attribute `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Refuses attributes that are not among `known`.
    ///
    /// # Errors
    /// [`AttributeError::Unknown`] with the first that is not.
    pub fn only(&self, known: &[&str]) -> Result<(), AttributeError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(AttributeError::Unknown(name.clone())),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{name} = {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn getters_name_what_is_wrong() {
        let attributes = Attributes::new().int("heads", 4).word("form", "nt");
        assert_eq!(attributes.get_int("heads"), Ok(4));
        assert_eq!(attributes.get_float("heads"), Ok(4.0));
        let error = attributes.get_int("form").unwrap_err().to_string();
        assert_eq!(error, "attribute `form`: expected an integer of at least 0, found `nt`");
        let error = attributes.get_float("epsilon").unwrap_err().to_string();
        assert_eq!(error, "attribute `epsilon` is missing: expected a number");
        assert_eq!(
            attributes.get_float_type("form").unwrap_err().to_string(),
            "attribute `form`: expected f32 or bf16, found `nt`"
        );
        assert_eq!(Attributes::new().word("dtype", "bf16").get_float_type("dtype"), Ok(DType::Bf16));
        assert!(Attributes::new().word("dtype", "i32").get_float_type("dtype").is_err());
        assert_eq!(
            attributes.get_flag("heads").unwrap_err().to_string(),
            "attribute `heads`: expected 0 or 1, found `4`"
        );
        assert_eq!((attributes.has("form"), attributes.has("dtype")), (true, false));
        assert_eq!(attributes.only(&["heads"]), Err(AttributeError::Unknown("form".to_owned())));
    }

    #[test]
    fn floats_print_with_all_digits() {
        assert_eq!(Attributes::new().float("e", 1e-5).float("one", 1.0).to_string(), "e = 1e-5, one = 1.0");
    }
}
