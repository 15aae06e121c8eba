//! Tests of [`super`]: columns under other names, every message, and that no bytes make a reader panic.

use super::*;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use std::sync::Arc;
use tempfile::TempDir;

const COLUMNS: [Column; 2] =
    [Column { names: &["first", "one"], required: true }, Column { names: &["second"], required: false }];

fn json(text: &str) -> Result<Vec<Record>, TableError> {
    Table::json_lines(Path::new("rows.jsonl"), text.as_bytes(), &COLUMNS).collect()
}

fn separated(text: &str, container: Container) -> Result<Vec<Record>, TableError> {
    Table::separated(Path::new("rows.x"), text.as_bytes(), container, &COLUMNS)?.collect()
}

fn tsv(text: &str) -> Result<Vec<Record>, TableError> {
    separated(text, Container::Tsv)
}

/// The texts of a record; `-` for a value that is absent, `?` for another.
fn texts(record: &Record) -> Vec<String> {
    let text = |field: &Field| match &field.cell {
        Cell::Text(text) => text.clone(),
        Cell::Absent => "-".to_owned(),
        _ => "?".to_owned(),
    };
    record.fields.iter().map(text).collect()
}

fn message(result: Result<Vec<Record>, TableError>) -> String {
    result.expect_err("this must be refused").to_string()
}

#[test]
fn the_first_of_a_columns_names_counts() {
    let records =
        json("{\"one\": \"b\", \"first\": \"a\"}\n{\"one\": \"b\", \"second\": 3, \"x\": [{}]}").unwrap();
    assert_eq!((texts(&records[0]), records[0].fields[0].name), (vec!["a".into(), "-".into()], "first"));
    assert_eq!((texts(&records[1]), records[1].fields[0].name), (vec!["b".into(), "?".into()], "one"));
    assert_eq!(records[1].fields[1].cell, Cell::Integer(3));
    let records = tsv("x\tone\tfirst\n1\tb\ta\n").unwrap();
    assert_eq!(texts(&records[0]), ["a", "-"]);
}

#[test]
fn json_values_are_told_apart() {
    let values = [
        ("null", Cell::Null),
        ("-7", Cell::Integer(-7)),
        ("1.0", Cell::Other("1.0".into())),
        ("18446744073709551615", Cell::Other("18446744073709551615".into())),
        ("false", Cell::Other("false".into())),
        ("[[1, {}]]", Cell::Other("a list".into())),
        ("{\"first\": 1}", Cell::Other("an object".into())),
        ("\"\\u00e9\"", Cell::Text("é".into())),
    ];
    for (value, cell) in values {
        let records = json(&format!("{{\"first\": {value}}}")).unwrap();
        assert_eq!(records[0].fields[0].cell, cell, "{value}");
    }
}

#[test]
fn bad_json_lines_are_named() {
    let cases = [
        (
            "{\"first\": 1} x",
            "rows.jsonl, line 1: trailing characters at column 14; expected one JSON object",
        ),
        ("\n{\"first\": 1, \"first\": 2}", "rows.jsonl, line 2: field `first` is there twice at column"),
        ("[1]", "rows.jsonl, line 1: not a JSON object; expected"),
        ("{\"second\": 1, \"x\": 2}", "line 1: no field `first` (or `one`); found `second`, `x`"),
        ("{}", "line 1: no field `first` (or `one`); found no field"),
    ];
    for (text, expected) in cases {
        let found = message(json(text));
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn tsv_has_no_quoting_and_csv_has() {
    let records = tsv("first\tsecond\r\n\"a, \tb\"\"\r\nc\u{e9}\t \r\n\n\t\n").unwrap();
    assert_eq!(records.iter().map(texts).collect::<Vec<_>>(), [["\"a, ", "b\"\""], ["cé", " "], ["", ""]]);
    let lines: Vec<u64> = records.iter().map(|record| record.place.number()).collect();
    assert_eq!(lines, [2, 3, 5]);
    let records = separated("second,first\n\"b\nb\",\"a, \"\"a\"\"\"\n,c\n", Container::Csv).unwrap();
    assert_eq!(records.iter().map(texts).collect::<Vec<_>>(), [["a, \"a\"", "b\nb"], ["c", ""]]);
    assert_eq!(records[1].place, Place::Line(4));
    let records = tsv("\u{feff}first\na\n").unwrap();
    assert_eq!(texts(&records[0]), ["a", "-"], "a byte order mark is no part of a name");
}

#[test]
fn bad_tables_are_named() {
    let narrow = message(tsv("first\tsecond\na\tb\na\n"));
    assert!(
        narrow.starts_with("rows.x, line 3: 1 values, the header has 2; expected a line of column names")
    );
    let wide = message(tsv("first\na\tb\n"));
    assert!(wide.starts_with("rows.x, line 2: 2 values, the header has 1"), "{wide}");
    let missing = message(tsv("second\tx\na\tb\n"));
    assert_eq!(missing, "rows.x, line 1: no column `first` (or `one`); found `second`, `x`");
    let bytes = &b"first\tsecond\na\tb\nc\td\xff\n"[..];
    let table = Table::separated(Path::new("rows.x"), bytes, Container::Tsv, &COLUMNS).unwrap();
    let not_text = message(table.collect());
    assert!(not_text.starts_with("rows.x, line 3: value 2 is not UTF-8 at byte 1"), "{not_text}");
    let columns = message(tsv(&"\t".repeat(10_000)));
    assert!(columns.starts_with("rows.x, line 1: 10001 columns, at most 10000 are read"), "{columns}");
    assert_eq!(tsv("").unwrap(), [], "an empty file has no record");
}

#[test]
fn values_of_other_types_are_named() {
    let text = "{\"first\": [1]}";
    let mut table = Table::json_lines(Path::new("rows.jsonl"), text.as_bytes(), &COLUMNS);
    let mut record = table.next().unwrap().unwrap();
    let error = table.take_text(&mut record, 0).unwrap_err().to_string();
    assert_eq!(error, "rows.jsonl, line 1: field `first` is a list, expected a string");
    let long = Cell::Text("é".repeat(100));
    assert_eq!(long.to_string(), format!("\"{}\"…", "é".repeat(60)));
}

/// Writes `first` (null where none) and, by `schema`, `second` as int64 or int32, two row groups.
fn write_parquet(directory: &TempDir, schema: &str) -> PathBuf {
    let path = directory.path().join("rows.parquet");
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, properties).unwrap();
    for group in 0..2 {
        let mut rows = writer.next_row_group().unwrap();
        while let Some(mut column) = rows.next_column().unwrap() {
            let texts = [ByteArray::from("a"), ByteArray::from(if group == 0 { "é" } else { "z" })];
            match column.untyped() {
                parquet::column::writer::ColumnWriter::ByteArrayColumnWriter(_) => {
                    let typed = column.typed::<ByteArrayType>();
                    typed.write_batch(&texts, Some(&[1, 0, 1]), Some(&[0, 0, 0])).unwrap();
                }
                parquet::column::writer::ColumnWriter::Int64ColumnWriter(_) => {
                    column.typed::<Int64Type>().write_batch(&[0, -1, 2], None, None).unwrap();
                }
                _ => {
                    column.typed::<Int32Type>().write_batch(&[0, -1, 2], None, None).unwrap();
                }
            }
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();
    path
}

fn parquet_records(path: &Path) -> Result<Vec<Record>, TableError> {
    Table::open(path, Container::Parquet, &COLUMNS)?.collect()
}

#[test]
fn parquet_has_rows_nulls_and_both_widths_of_numbers() {
    let directory = TempDir::new().unwrap();
    for number in ["INT64", "INT32"] {
        let schema = format!("message m {{ optional BYTE_ARRAY one (UTF8); required {number} second; }}");
        let path = write_parquet(&directory, &schema);
        assert_eq!(column_names(&path, Container::Parquet).unwrap(), ["one", "second"]);
        let records = parquet_records(&path).unwrap();
        assert_eq!(records.len(), 6);
        assert_eq!(records[1].fields[0].cell, Cell::Null);
        assert_eq!(records[2].fields[0].cell, Cell::Text("é".into()));
        assert_eq!(records[5].fields[0].cell, Cell::Text("z".into()));
        let numbers: Vec<&Cell> = records.iter().map(|record| &record.fields[1].cell).collect();
        assert_eq!(numbers[1], &Cell::Integer(-1));
        assert_eq!(records[4].place, Place::Row(5));
    }
}

#[test]
fn bad_parquet_is_named() {
    let directory = TempDir::new().unwrap();
    let lists = "message m { optional group one (LIST) { repeated group list { optional BYTE_ARRAY element (UTF8); } } }";
    let path = write_parquet(&directory, lists);
    let nested = message(parquet_records(&path));
    assert!(
        nested.ends_with("rows.parquet: column `one` is a list or a structure, expected a string"),
        "{nested}"
    );
    let path = write_parquet(&directory, "message m { required INT64 second; }");
    let missing = message(parquet_records(&path));
    assert!(missing.ends_with("rows.parquet: no column `first` (or `one`); found `second`"), "{missing}");
    let path = write_parquet(&directory, "message m { optional BYTE_ARRAY first (UTF8); }");
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 3, 8, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let cut = message(parquet_records(&path));
        assert!(cut.contains("rows.parquet: this is no whole Parquet file"), "{length}: {cut}");
    }
}

/// Bytes that look like a table now and then.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words =
        ["first", "one", "second", "{\"", "\":", "}", "[", "]", "\t", ",", "\n", "\r", "\"", "\\u", "é"];
    let word = prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in bytes()) {
        let path = Path::new("rows");
        for record in Table::json_lines(path, &bytes[..], &COLUMNS).flatten() {
            prop_assert_eq!(record.fields.len(), COLUMNS.len());
        }
        for container in [Container::Tsv, Container::Csv] {
            let Ok(table) = Table::separated(path, &bytes[..], container, &COLUMNS) else { continue };
            for record in table.flatten() {
                prop_assert_eq!(record.fields.len(), COLUMNS.len());
            }
        }
    }

    #[test]
    fn json_lines_keep_any_text(text in any::<String>()) {
        let line = serde_json::json!({"x": [text], "first": text}).to_string();
        let records = json(&line).unwrap();
        prop_assert_eq!(&records[0].fields[0].cell, &Cell::Text(text));
    }

    #[test]
    fn tsv_keeps_any_text_without_tabs_and_line_ends(text in "[^\t\n\r\u{feff}][^\t\n\r]*") {
        let records = tsv(&format!("second\tfirst\nx\t{text}\n")).unwrap();
        prop_assert_eq!(&records[0].fields[0].cell, &Cell::Text(text));
    }

    #[test]
    fn damaged_parquet_is_refused_or_read(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let directory = TempDir::new().unwrap();
        let schema = "message m { optional BYTE_ARRAY one (UTF8); required INT64 second; }";
        let path = write_parquet(&directory, schema);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        std::fs::write(&path, bytes).unwrap();
        if let Ok(records) = parquet_records(&path) {
            prop_assert!(records.iter().all(|record| record.fields.len() == COLUMNS.len()));
        }
    }
}
