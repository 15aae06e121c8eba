//! What a validation found, as numbers for programs and as text for people.
//!
//! Does not: print; the text is this type's `Display`.

use std::fmt;

use serde::Serialize;

use super::mnli::LABELS;

/// Answers shown of those that are no label.
pub const MOST_EXAMPLES: usize = 10;

/// An answer that is no label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoLabelExample {
    /// The row, as the data numbers it.
    pub row: u64,
    /// What the model wrote.
    pub text: String,
}

/// The result of a validation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What ran.
    pub engine: String,
    /// `generate` or `score`.
    pub mode: &'static str,
    /// Rows answered.
    pub rows: usize,
    /// Of them, rows with a label; only they count.
    pub counted: u64,
    /// Counted rows whose answer is their label.
    pub correct: u64,
    /// `correct / counted`; none if nothing counts.
    pub accuracy: Option<f64>,
    /// Wilson's 95 % confidence interval of the accuracy.
    pub interval: Option<[f64; 2]>,
    /// Counted rows by label (rows, in the order of [`LABELS`]) and answer (columns: the labels, then no label).
    pub confusion: [[u64; 4]; 3],
    /// Answers that are no label, in all rows.
    pub no_label: u64,
    /// The first of them.
    pub no_label_examples: Vec<NoLabelExample>,
    /// Wall time of the model, in seconds.
    pub seconds: f64,
    /// Rows a second.
    pub rows_per_second: f64,
}

/// Wilson's score interval for `correct` of `counted` at 95 %; none if nothing was counted.
pub fn wilson_interval(correct: u64, counted: u64) -> Option<[f64; 2]> {
    const Z: f64 = 1.959_963_984_540_054; // 97.5 % quantile of the normal distribution
    if counted == 0 {
        return None;
    }
    let n = counted as f64;
    let share = correct as f64 / n;
    let denominator = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / denominator;
    let half = Z / denominator * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some([(centre - half).max(0.0), (centre + half).min(1.0)])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.accuracy, self.interval) {
            (Some(accuracy), Some([low, high])) => writeln!(
                f,
                "accuracy   {:.2} % ({} of {}), 95 % confidence {:.2} % to {:.2} %",
                100.0 * accuracy,
                self.correct,
                self.counted,
                100.0 * low,
                100.0 * high
            )?,
            _ => writeln!(f, "accuracy   none: no row has a label")?,
        }
        let unlabelled = self.rows as u64 - self.counted;
        writeln!(f, "rows       {} in {:.1} s, {:.2} rows/s", self.rows, self.seconds, self.rows_per_second)?;
        if unlabelled > 0 {
            writeln!(f, "no label   {unlabelled} rows have none: answered, not counted")?;
        }
        writeln!(f, "engine     {}, mode {}", self.engine, self.mode)?;
        self.write_confusion(f)?;
        self.write_examples(f)
    }
}

impl Report {
    fn write_confusion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<15}{:>12}{:>12}{:>15}{:>10}",
            "label \\ answer", LABELS[0], LABELS[1], LABELS[2], "unknown"
        )?;
        for (label, counts) in LABELS.iter().zip(&self.confusion) {
            writeln!(f, "{label:<15}{:>12}{:>12}{:>15}{:>10}", counts[0], counts[1], counts[2], counts[3])?;
        }
        Ok(())
    }

    fn write_examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.no_label == 0 {
            return Ok(());
        }
        writeln!(f, "\n{} answers are no label, for example:", self.no_label)?;
        for example in &self.no_label_examples {
            writeln!(f, "  row {}: {:?}", example.row, example.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_literature() {
        // Newcombe (1998), table I, method 3.
        let cases = [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ];
        for (correct, counted, low, high) in cases {
            let [found_low, found_high] = wilson_interval(correct, counted).unwrap();
            assert!((found_low - low).abs() < 5e-5, "{correct}/{counted}: low {found_low}, expected {low}");
            assert!(
                (found_high - high).abs() < 5e-5,
                "{correct}/{counted}: high {found_high}, expected {high}"
            );
        }
        assert_eq!(wilson_interval(0, 0), None);
    }

    #[test]
    fn the_text_says_everything() {
        let report = Report {
            engine: "an engine".into(),
            mode: "generate",
            rows: 6,
            counted: 5,
            correct: 3,
            accuracy: Some(0.6),
            interval: wilson_interval(3, 5),
            confusion: [[2, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]],
            no_label: 1,
            no_label_examples: vec![NoLabelExample { row: 4, text: " yes\n".into() }],
            seconds: 2.0,
            rows_per_second: 3.0,
        };
        let expected = "\
accuracy   60.00 % (3 of 5), 95 % confidence 23.07 % to 88.24 %
rows       6 in 2.0 s, 3.00 rows/s
no label   1 rows have none: answered, not counted
engine     an engine, mode generate

label \\ answer   entailment     neutral  contradiction   unknown
entailment                2           0              0         1
neutral                   0           1              0         0
contradiction             1           0              0         0

1 answers are no label, for example:
  row 4: \" yes\\n\"
";
        assert_eq!(report.to_string(), expected);
    }
}
