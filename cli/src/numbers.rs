//! Numbers as people read them.

pub(crate) use crate::flags::values::human_bytes as bytes;

/// `value` with three or four significant digits.
fn significant(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `value` under the largest of `units` (each a thousand times the one before) that leaves at least 1 of it.
fn scaled(value: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 && value.fract() == 0.0 {
        return format!("{value} {}", units[0]);
    }
    format!("{} {}", significant(value), units[unit])
}

/// A number of floating-point operations.
pub(crate) fn flops(value: f64) -> String {
    scaled(value, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"])
}

/// Floating-point operations a second.
pub(crate) fn flops_per_second(value: f64) -> String {
    scaled(value, &["FLOP/s", "kFLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"])
}

/// Bytes a second, in powers of a thousand, as data sheets have them.
pub(crate) fn bytes_per_second(value: f64) -> String {
    scaled(value, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

/// A number of elements.
pub(crate) fn quantity(value: u64) -> String {
    match value {
        0..1_000_000 => thousands(value),
        1_000_000..1_000_000_000 => format!("{:.1} M", value as f64 / 1e6),
        _ => format!("{:.2} B", value as f64 / 1e9),
    }
}

/// A time.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        zero if zero <= 0.0 => "0 s".to_owned(),
        small if small < 1e-3 => format!("{} µs", significant(small * 1e6)),
        small if small < 1.0 => format!("{} ms", significant(small * 1e3)),
        some if some < 600.0 => format!("{} s", significant(some)),
        some if some < 2.0 * 3600.0 => format!("{} min", significant(some / 60.0)),
        some if some < 72.0 * 3600.0 => format!("{} h", significant(some / 3600.0)),
        long => format!("{} days", significant(long / 86400.0)),
    }
}

/// A share, in percent.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        little if little < 0.05 => "<0.1 %".to_owned(),
        part => format!("{part:.1} %"),
    }
}

/// A number with its thousands apart.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` with every `<number> bytes` and `<number> flops` as people read it.
pub(crate) fn humane(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let unit = words.get(index + 1).copied().unwrap_or_default();
        let name = unit.trim_end_matches([',', ';', '.', ':', ')']);
        let found = match (word.parse::<u64>(), name) {
            (Ok(number), "bytes") => Some(bytes(number)),
            (Ok(number), "flops") => Some(flops(number as f64)),
            _ => None,
        };
        index += if found.is_some() { 2 } else { 1 };
        out.push(found.map_or_else(|| (*word).to_owned(), |text| text + &unit[name.len()..]));
    }
    out.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_a_sentence() {
        assert_eq!(
            humane("budget: 1073741824 bytes, no bytes and 512 bytes of 2000000 flops; 7 nodes"),
            "budget: 1.00 GiB, no bytes and 512 B of 2.00 MFLOP; 7 nodes"
        );
        assert_eq!(humane("nothing fits"), "nothing fits");
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let cases = [
            (flops(11.992e12), "12.0 TFLOP"),
            (flops(0.0), "0 FLOP"),
            (flops(999.0), "999 FLOP"),
            (flops(999_900.0), "1.00 MFLOP"),
            (flops_per_second(1.84e12), "1.84 TFLOP/s"),
            (bytes_per_second(25e9), "25.0 GB/s"),
            (quantity(173_568), "173,568"),
            (quantity(6_050_882_784), "6.05 B"),
            (seconds(0.000_012), "12.0 µs"),
            (seconds(0.25), "250 ms"),
            (seconds(59.0), "59.0 s"),
            (seconds(1800.0), "30.0 min"),
            (seconds(36_000.0), "10.0 h"),
            (seconds(864_000.0), "10.0 days"),
            (percent(0.0), "0 %"),
            (percent(0.0001), "<0.1 %"),
            (percent(0.75), "75.0 %"),
            (thousands(1_234_567), "1,234,567"),
            (thousands(12), "12"),
            (thousands(0), "0"),
            (thousands(999), "999"),
            (thousands(1000), "1,000"),
            (thousands(6_051_177_504), "6,051,177,504"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }
}
