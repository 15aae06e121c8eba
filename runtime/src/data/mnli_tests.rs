//! Tests of [`super`]: both spellings, labels, skipped lines, and every message.

use super::*;
use std::io::BufReader;

fn read(text: &str, purpose: Purpose) -> Result<(Vec<MnliRow>, Skipped), RowsError> {
    let mut reader = MnliReader::json_lines(Path::new("rows.jsonl"), text.as_bytes(), purpose);
    let rows = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    Ok((rows, reader.skipped()))
}

fn message(text: &str) -> String {
    read(text, Purpose::Training).expect_err("this text must be refused").to_string()
}

fn row_with_label(label: &str) -> String {
    format!(r#"{{"premise": "p", "hypothesis": "h", "label": {label}}}"#)
}

#[test]
fn both_spellings_are_read_and_text_is_untouched() {
    let text = concat!(
        r#"{"sentence1": "A b. ", "sentence2": " c\td", "gold_label": "neutral", "genre": "slate", "pairID": "1n"}"#,
        "\r\n\n",
        r#"{"label": 2, "hypothesis": "é", "premise": "", "idx": 7}"#,
    );
    let (rows, skipped) = read(text, Purpose::Training).unwrap();
    assert_eq!(rows[0].premise, "A b. ");
    assert_eq!(rows[0].hypothesis, " c\td");
    assert_eq!(rows[0].label, Some(Label::Neutral));
    assert_eq!(rows[1].premise, "");
    assert_eq!(rows[1].hypothesis, "é");
    assert_eq!(rows[1].label, Some(Label::Contradiction));
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(skipped, Skipped { blank_lines: 1, ..Skipped::default() });
}

#[test]
fn every_form_of_a_label_is_read() {
    let cases = [("0", Label::Entailment), ("1", Label::Neutral), ("\"2\"", Label::Contradiction)];
    let words = [("\"entailment\"", Label::Entailment), ("\"contradiction\"", Label::Contradiction)];
    for (json, label) in cases.into_iter().chain(words) {
        let (rows, _) = read(&row_with_label(json), Purpose::Training).unwrap();
        assert_eq!(rows[0].label, Some(label), "{json}");
    }
    for label in Label::ALL {
        assert_eq!(Label::ALL[label.id() as usize], label);
        assert_eq!(Label::from_word(label.word()), Some(label));
    }
}

#[test]
fn rows_without_a_label_are_skipped_in_training_and_kept_in_validation() {
    let forms = ["\"-\"", "-1", "\"-1\"", "null"];
    for form in forms {
        let text = format!("{}\n{}\n", row_with_label(form), row_with_label("1"));
        let (rows, skipped) = read(&text, Purpose::Training).unwrap();
        assert_eq!((rows.len(), skipped.no_label), (1, 1), "{form}");
        let (rows, skipped) = read(&text, Purpose::Validation).unwrap();
        assert_eq!((rows.len(), rows[0].label, skipped.no_label), (2, None, 0), "{form}");
    }
    let no_field = r#"{"premise": "p", "hypothesis": "h"}"#;
    assert_eq!(read(no_field, Purpose::Validation).unwrap().0[0].label, None);
}

#[test]
fn malformed_lines_are_named_with_file_and_line() {
    let good = row_with_label("1");
    let cut = message(&format!("{good}\n{good}\n{{\"premise\": \"p\", \"hypo"));
    assert!(cut.starts_with("rows.jsonl, line 3: EOF while parsing a string at column 22"), "{cut}");
    let array = message("[{\"premise\": \"p\"}]");
    assert!(
        array.starts_with("rows.jsonl, line 1: not a JSON object; expected one JSON object a line"),
        "{array}"
    );
    let wrong_type = message(r#"{"premise": 3, "hypothesis": "h", "label": 0}"#);
    assert!(
        wrong_type.starts_with("rows.jsonl, line 1: field `premise` is 3, expected a string"),
        "{wrong_type}"
    );
    let mut reader = MnliReader::json_lines(Path::new("x"), &b"\n{\"a\xff\"}\n"[..], Purpose::Training);
    let not_text = reader.next().unwrap().unwrap_err().to_string();
    assert!(not_text.starts_with("x, line 2: not UTF-8 at byte 3"), "{not_text}");
    assert!(reader.next().is_none(), "a reader ends after its first error");
}

#[test]
fn missing_fields_and_unknown_labels_are_named() {
    let missing = message(r#"{"sentence1": "p", "text": "h", "label": 0}"#);
    assert!(
        missing.starts_with("rows.jsonl, line 1: no field `sentence2` (or `hypothesis`); found "),
        "{missing}"
    );
    assert!(missing.contains("`text`") && missing.contains("`sentence1`"), "{missing}");
    let label = message(r#"{"sentence1": "p", "sentence2": "h"}"#);
    assert!(label.contains("no field `gold_label` (or `label`)"), "{label}");
    for unknown in ["3", "-2", "\"Entailment\"", "1.0", "true", "\"\""] {
        let found = message(&row_with_label(unknown));
        assert!(found.starts_with(&format!("rows.jsonl, line 1: label {unknown} is none of")), "{found}");
    }
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let endless = BufReader::new(std::io::repeat(b'{'));
    let mut reader = MnliReader::json_lines(Path::new("model.bin"), endless, Purpose::Training);
    let error = reader.next().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("model.bin, line 1: the line is longer than 16 MiB"), "{error}");
}

#[test]
fn files_without_rows_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.jsonl");
    std::fs::write(&path, "\n\n").unwrap();
    let empty = read_file(&path, Purpose::Training).unwrap_err().to_string();
    assert_eq!(empty, format!("{} is empty: it has no row", path.display()));
    std::fs::write(&path, row_with_label("-1")).unwrap();
    let unlabelled = read_file(&path, Purpose::Training).unwrap_err().to_string();
    assert!(unlabelled.contains("has no row to train on: skipped 1 row without a label"), "{unlabelled}");
    let absent = directory.path().join("absent.jsonl");
    let missing = read_file(&absent, Purpose::Training).unwrap_err().to_string();
    assert!(missing.starts_with(&format!("cannot read {}: ", absent.display())), "{missing}");
}

#[test]
fn a_byte_order_mark_is_not_text() {
    let (rows, _) = read(&format!("\u{feff}{}", row_with_label("0")), Purpose::Training).unwrap();
    assert_eq!(rows.len(), 1);
}
