//! Machine descriptions as files: `--target FILE.toml`, and what `gptjc bench machine` measured.
//!
//! ```toml
//! name = "spr-2s"
//! isa = "amx"                  # portable, avx2, avx512, avx512bf16 or amx
//! sockets = 2
//! cores_per_socket = 56        # physical
//! numa_nodes_per_socket = 1
//! threads = 112                # of the team; one for each physical core if it is left out
//! l1d_bytes = "48KiB"          # bytes, or a number with KiB, MiB, GiB or TiB behind it; so are all sizes
//! l2_bytes = "2MiB"            # of a core
//! l3_bytes = "105MiB"          # of a socket
//! memory_bytes = "512GiB"
//! memory_bandwidth = 480e9     # bytes a second, all cores together
//! disk_bandwidth = 3e9         # bytes a second
//! peak_f32 = 160e9             # FLOP/s of a core, all cores at work
//! peak_bf16 = 4096e9           # FLOP/s of a core in products of bf16 weights
//! ```
//!
//! A description needs `isa` and `cores_per_socket`; anything else may be left out and is
//! [guessed](Target::with_guesses). A file of measurements ([`overlay`]) has any of the keys.

use super::{Isa, Target};
use std::fmt::Write;
use toml::{Table, Value};

/// A machine description that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetFileError {
    /// No TOML.
    #[error("machine description `{file}` is no TOML: {reason}")]
    Syntax {
        /// The file, or the name of a description.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// A key that means nothing.
    #[error("machine description `{file}`: key `{key}` is unknown: expected one of {expected}")]
    Key {
        /// The file, or the name of a description.
        file: String,
        /// The key.
        key: String,
        /// The keys that there are.
        expected: String,
    },
    /// A key with a value that it cannot have, or without one.
    #[error("machine description `{file}`: `{key}`: expected {expected}, found {found}")]
    Value {
        /// The file, or the name of a description.
        file: String,
        /// The key.
        key: &'static str,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
}

const KEYS: [&str; 14] = [
    "name",
    "isa",
    "sockets",
    "cores_per_socket",
    "numa_nodes_per_socket",
    "threads",
    "l1d_bytes",
    "l2_bytes",
    "l3_bytes",
    "memory_bytes",
    "memory_bandwidth",
    "disk_bandwidth",
    "peak_f32",
    "peak_bf16",
];

/// Most cores, sockets and so on: more are a slip of the pen.
const MOST: u32 = 1 << 16;
/// The longest description, in bytes: twenty times what all keys take.
const LONGEST: usize = 16 << 10;

/// Reads a machine description; `file` is what errors call it.
///
/// # Errors
/// [`TargetFileError`] with the key, what was expected and what was found.
pub fn parse(file: &str, text: &str) -> Result<Target, TargetFileError> {
    let reader = Reader::new(file, text)?;
    for (key, expected) in
        [("isa", "the instruction set, such as \"avx2\""), ("cores_per_socket", "a number of cores")]
    {
        if !reader.table.contains_key(key) {
            return Err(reader.wrong(key, expected, "nothing"));
        }
    }
    reader.overlay(Target::default())
}

/// `target` with what the file says in place of what was there.
///
/// # Errors
/// [`TargetFileError`] with the key, what was expected and what was found.
pub fn overlay(file: &str, text: &str, target: Target) -> Result<Target, TargetFileError> {
    Reader::new(file, text)?.overlay(target)
}

/// A target as a machine description, without what is not known.
pub fn print(target: &Target) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}"); // a string takes everything
    };
    for (key, word) in [("name", &target.name), ("isa", &target.isa)] {
        if !word.is_empty() {
            line(key, Value::String(word.clone()).to_string());
        }
    }
    let counts = [
        ("sockets", u64::from(target.sockets)),
        ("cores_per_socket", u64::from(target.cores / target.sockets.max(1))),
        ("numa_nodes_per_socket", u64::from(target.numa_nodes_per_socket)),
        ("threads", u64::from(target.threads)),
        ("l1d_bytes", target.l1d_bytes),
        ("l2_bytes", target.l2_bytes),
        ("l3_bytes", target.l3_bytes),
        ("memory_bytes", target.memory_bytes),
    ];
    for (key, count) in counts.into_iter().filter(|&(_, count)| count > 0) {
        line(key, count.to_string());
    }
    let rates = [
        ("memory_bandwidth", target.memory_bandwidth),
        ("disk_bandwidth", target.disk_bandwidth),
        ("peak_f32", target.peak_f32),
        ("peak_bf16", target.peak_bf16),
    ];
    for (key, rate) in rates.into_iter().filter(|&(_, rate)| rate > 0.0) {
        line(key, format!("{rate:e}"));
    }
    text
}

/// A parsed file.
struct Reader<'f> {
    file: &'f str,
    table: Table,
}

impl<'f> Reader<'f> {
    fn new(file: &'f str, text: &str) -> Result<Self, TargetFileError> {
        let refused = |reason: String| TargetFileError::Syntax { file: file.to_owned(), reason };
        if text.len() > LONGEST {
            return Err(refused(format!("it has {} bytes, expected at most {LONGEST}", text.len())));
        }
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| refused(error.to_string().trim_end().to_owned()))?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let (file, key, expected) = (file.to_owned(), key.clone(), KEYS.join(", "));
            return Err(TargetFileError::Key { file, key, expected });
        }
        Ok(Self { file, table })
    }

    fn wrong(
        &self,
        key: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> TargetFileError {
        let (expected, found) = (expected.into(), found.into());
        TargetFileError::Value { file: self.file.to_owned(), key, expected, found }
    }

    fn overlay(&self, mut target: Target) -> Result<Target, TargetFileError> {
        self.word("name", &mut target.name)?;
        self.word("isa", &mut target.isa)?;
        if self.table.contains_key("isa") {
            target.isa.parse::<Isa>().map_err(|_| {
                let expected = format!("one of {}", Isa::ALL.map(Isa::name).join(", "));
                self.wrong("isa", expected, format!("\"{}\"", target.isa))
            })?;
        }
        let mut cores_per_socket = target.cores / target.sockets.max(1);
        self.count("sockets", &mut target.sockets)?;
        self.count("cores_per_socket", &mut cores_per_socket)?;
        if self.table.contains_key("sockets") || self.table.contains_key("cores_per_socket") {
            target.sockets = target.sockets.max(1);
            target.cores = cores_per_socket * target.sockets;
        }
        self.count("numa_nodes_per_socket", &mut target.numa_nodes_per_socket)?;
        self.count("threads", &mut target.threads)?;
        self.size("l1d_bytes", &mut target.l1d_bytes)?;
        self.size("l2_bytes", &mut target.l2_bytes)?;
        self.size("l3_bytes", &mut target.l3_bytes)?;
        self.size("memory_bytes", &mut target.memory_bytes)?;
        self.rate("memory_bandwidth", &mut target.memory_bandwidth)?;
        self.rate("disk_bandwidth", &mut target.disk_bandwidth)?;
        self.rate("peak_f32", &mut target.peak_f32)?;
        self.rate("peak_bf16", &mut target.peak_bf16)?;
        Ok(target)
    }

    fn word(&self, key: &'static str, word: &mut String) -> Result<(), TargetFileError> {
        match self.table.get(key) {
            None => {}
            Some(Value::String(value)) if !value.is_empty() => word.clone_from(value),
            Some(other) => return Err(self.wrong(key, "a word in quotes", other.to_string())),
        }
        Ok(())
    }

    fn count(&self, key: &'static str, count: &mut u32) -> Result<(), TargetFileError> {
        let Some(value) = self.table.get(key) else { return Ok(()) };
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        *count = number
            .filter(|number| (1..=MOST).contains(number))
            .ok_or_else(|| self.wrong(key, format!("a number from 1 to {MOST}"), value.to_string()))?;
        Ok(())
    }

    fn size(&self, key: &'static str, size: &mut u64) -> Result<(), TargetFileError> {
        let Some(value) = self.table.get(key) else { return Ok(()) };
        let bytes = match value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            Value::String(text) => parse_size(text),
            Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                None
            }
        };
        *size = bytes.filter(|bytes| (1..=1 << 60).contains(bytes)).ok_or_else(|| {
            self.wrong(key, "a number of bytes, such as 2097152 or \"2MiB\"", value.to_string())
        })?;
        Ok(())
    }

    fn rate(&self, key: &'static str, rate: &mut f64) -> Result<(), TargetFileError> {
        let Some(value) = self.table.get(key) else { return Ok(()) };
        let number = value.as_float().or(value.as_integer().map(|number| number as f64));
        *rate = number
            .filter(|number| number.is_finite() && *number > 0.0)
            .ok_or_else(|| self.wrong(key, "a positive number, such as 3.2e9", value.to_string()))?;
        Ok(())
    }
}

/// `2MiB` as bytes.
fn parse_size(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (number, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "isa = \"avx2\"\nsockets = 2\ncores_per_socket = 8\nl2_bytes = \"2MiB\"\npeak_f32 = 5e10\n";

    #[test]
    fn a_description_is_read_and_printed() {
        let target = parse("t", FILE).unwrap();
        assert_eq!((target.cores, target.sockets, target.l2_bytes, target.peak_f32), (16, 2, 2 << 20, 5e10));
        assert_eq!(parse("t", &print(&target)).unwrap(), target);
        let full = target.with_guesses();
        assert_eq!(parse("t", &print(&full)).unwrap(), full);
    }

    #[test]
    fn a_file_that_is_too_long_for_a_description_is_not_parsed() {
        let error = parse("t", &"#".repeat(LONGEST + 1)).unwrap_err().to_string();
        assert!(error.ends_with("it has 16385 bytes, expected at most 16384"), "{error}");
    }

    #[test]
    fn measurements_replace_what_they_have_and_nothing_else() {
        let target = Target { memory_bytes: 7, ..parse("t", FILE).unwrap() };
        let measured = overlay("m", "disk_bandwidth = 2e9\npeak_f32 = 6e10\n", target.clone()).unwrap();
        assert_eq!(measured, Target { disk_bandwidth: 2e9, peak_f32: 6e10, ..target });
    }

    #[test]
    fn errors_name_file_key_expected_and_found() {
        let cases = [
            ("isa = ", "machine description `t.toml` is no TOML: "),
            ("core = 3", "machine description `t.toml`: key `core` is unknown: expected one of name, isa, "),
            ("cores_per_socket = 3", "`isa`: expected the instruction set, such as \"avx2\", found nothing"),
            ("isa = \"avx2\"", "`cores_per_socket`: expected a number of cores, found nothing"),
            (
                "isa = \"sse\"\ncores_per_socket = 1",
                "`isa`: expected one of portable, avx2, avx512, avx512bf16, amx, found \"sse\"",
            ),
            (
                "isa = \"avx2\"\ncores_per_socket = 0",
                "`cores_per_socket`: expected a number from 1 to 65536, found 0",
            ),
            (
                "isa = \"avx2\"\ncores_per_socket = 1\nl2_bytes = \"2MB\"",
                "`l2_bytes`: expected a number of bytes, such as 2097152 or \"2MiB\", found \"2MB\"",
            ),
            (
                "isa = \"avx2\"\ncores_per_socket = 1\ndisk_bandwidth = -1",
                "`disk_bandwidth`: expected a positive number, such as 3.2e9, found -1",
            ),
            ("isa = 3\ncores_per_socket = 1", "`isa`: expected a word in quotes, found 3"),
        ];
        for (text, message) in cases {
            let error = parse("t.toml", text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
