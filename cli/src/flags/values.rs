//! Values of flags that are neither numbers nor paths.

use gptjc_runtime::topology::Pretended;

/// A truth value, spelt as Hugging Face's argument parser takes it.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "t" | "y" | "1" => Ok(true),
        "false" | "no" | "f" | "n" | "0" => Ok(false),
        _ => Err("expected True or False".to_owned()),
    }
}

/// Bytes, plain or with a unit: `8GiB`, `1.5 GB`, `512M` (which is MiB).
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const EXPECTED: &str =
        "expected bytes, or a number with KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB, TB (of 1000)";
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    let unit: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1048576.0,
        "g" | "gib" => 1073741824.0,
        "t" | "tib" => 1099511627776.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(EXPECTED.to_owned()),
    };
    let bytes = (number * unit).floor();
    // Above 2^53 not every number of bytes has an f64, and no machine has so many.
    match (1.0..=9007199254740992.0).contains(&bytes) {
        true => Ok(bytes as u64),
        false => Err(format!("{EXPECTED}, at least 1 byte and at most 8192 TiB")),
    }
}

/// A number of optimizer steps, of which -1 is none given.
pub(crate) fn steps_or_minus_one(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(steps) if steps == -1 || steps >= 1 => Ok(steps),
        _ => Err("expected at least 1 step, or -1 for as many as the epochs have".to_owned()),
    }
}

/// A number that is at least 0 and not infinite.
pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a finite number of at least 0".to_owned()),
    }
}

/// A number above 0 and not infinite.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text) {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err("expected a finite number above 0".to_owned()),
    }
}

/// A number of at least 0 and below 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match not_negative(text) {
        Ok(number) if number < 1.0 => Ok(number),
        _ => Err("expected a number of at least 0 and below 1".to_owned()),
    }
}

/// A number of at least 0 and at most 1.
pub(crate) fn share_or_all(text: &str) -> Result<f64, String> {
    match not_negative(text) {
        Ok(number) if number <= 1.0 => Ok(number),
        _ => Err("expected a number of at least 0 and at most 1".to_owned()),
    }
}

/// A number above 0 and at most 1.
pub(crate) fn share_of_all(text: &str) -> Result<f64, String> {
    match not_negative(text) {
        Ok(number) if number > 0.0 && number <= 1.0 => Ok(number),
        _ => Err("expected a number above 0 and at most 1".to_owned()),
    }
}

/// A number of things, at least one.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(number) if (1..=1 << 24).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from 1 to {}", 1 << 24)),
    }
}

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if (1..=4096).contains(&number) => Ok(number),
        _ => Err("expected a number from 1 to 4096".to_owned()),
    }
}

/// Sockets and cores of a socket.
pub(crate) fn topology(text: &str) -> Result<Pretended, String> {
    text.parse()
}

/// Bytes as people read them.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.2} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_values_are_those_of_hugging_face() {
        for text in ["True", "true", "TRUE", "1", "yes", "y", "T"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["False", "false", "0", "no", "N", "f"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        assert_eq!(boolean("on"), Err("expected True or False".to_owned()));
    }

    #[test]
    fn bytes_have_units() {
        let cases = [
            ("1", 1),
            ("4096", 4096),
            ("8GiB", 8 << 30),
            ("8g", 8 << 30),
            ("1.5 GB", 1_500_000_000),
            ("512M", 512 << 20),
            ("2tib", 2 << 40),
            ("3 kb", 3000),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "GiB", "8 XiB", "-1", "0", "0.1", "1e9TB", "nan", "99999999TiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(steps_or_minus_one("-1"), Ok(-1));
        assert_eq!(steps_or_minus_one("20"), Ok(20));
        assert!(steps_or_minus_one("0").is_err());
        assert!(
            not_negative("-0.1").is_err() && not_negative("inf").is_err() && not_negative("NaN").is_err()
        );
        assert_eq!(not_negative("3.3113761e-4"), Ok(3.3113761e-4));
        assert!(positive("0").is_err());
        assert!(share("1").is_err());
        assert!(share_of_all("0").is_err() && share_of_all("1.1").is_err());
        assert_eq!(share_of_all("1"), Ok(1.0));
        assert!(share_or_all("-0.1").is_err() && share_or_all("1.1").is_err());
        assert_eq!((share_or_all("0"), share_or_all("1")), (Ok(0.0), Ok(1.0)));
        assert!(count("0").is_err() && count("-3").is_err() && count("99999999999").is_err());
    }

    #[test]
    fn people_read_bytes() {
        assert_eq!(human_bytes(512), "512 B");
        assert_eq!(human_bytes(1 << 30), "1.00 GiB");
        assert_eq!(human_bytes(1_500_000), "1.43 MiB");
    }
}
