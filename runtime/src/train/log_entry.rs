//! Reading an entry of the log.
//!
//! Written by hand, because serde's `flatten` buffers a whole object first, at tens of bytes for a byte. Values that are
//! not known by name may be numbers, texts and truth values, which is all that Trainers log.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::trainer_state::{LogEntry, Others};

impl<'de> Deserialize<'de> for LogEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = LogEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry of a log")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LogEntry, A::Error> {
                read(map)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn read<'de, A: MapAccess<'de>>(mut map: A) -> Result<LogEntry, A::Error> {
    let missing = <A::Error as serde::de::Error>::missing_field;
    let (mut epoch, mut step, mut entry) = (None, None, LogEntry::default());
    while let Some(key) = map.next_key::<String>()? {
        match key.as_str() {
            "epoch" => epoch = Some(map.next_value()?),
            "step" => step = Some(map.next_value()?),
            "grad_norm" => entry.grad_norm = map.next_value()?,
            "learning_rate" => entry.learning_rate = map.next_value()?,
            "loss" => entry.loss = map.next_value()?,
            _ => {
                let Scalar(value) = map.next_value()?;
                if entry.other.is_empty() {
                    entry.other = Others::with_capacity(1); // by itself, the first makes room for four
                }
                entry.other.insert(key, value);
            }
        }
    }
    entry.epoch = epoch.ok_or_else(|| missing("epoch"))?;
    entry.step = step.ok_or_else(|| missing("step"))?;
    Ok(entry)
}

/// An object of numbers, texts and truth values, if there is one.
pub(super) fn scalars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let object = Option::<BTreeMap<String, Scalar>>::deserialize(deserializer)?;
    Ok(object.map(|object| object.into_iter().map(|(key, Scalar(value))| (key, value)).collect()))
}

/// A value without values in it.
struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, true, false or null")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(Value::Null))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_any_trainer_are_read() {
        let text = r#"{"eval_loss": 0.5, "step": 2, "epoch": 1, "loss": null, "note": "x", "flag": true, "none": null, "n": -3}"#;
        let entry: LogEntry = serde_json::from_str(text).unwrap();
        assert_eq!((entry.step, entry.epoch, entry.loss), (2, 1.0, None));
        let others: Vec<String> = entry.other.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(others.join(" "), r#"eval_loss=0.5 flag=true n=-3 none=null note="x""#);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for (text, expected) in [
            (r#"{"step": 1}"#, "missing field `epoch`"),
            (r#"{"epoch": 1}"#, "missing field `step`"),
            (r#"{"epoch": 1, "step": -1}"#, "expected u64"),
            (r#"{"epoch": 1, "step": 1, "x": [1]}"#, "expected a number, a text, true, false or null"),
            (r#"{"epoch": 1, "step": 1, "x": {}}"#, "expected a number, a text, true, false or null"),
            ("[]", "expected an entry of a log"),
        ] {
            let error = serde_json::from_str::<LogEntry>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
