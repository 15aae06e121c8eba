//! Tests of [`super`]: every layout, and shards that are not all there.

use super::*;
use tempfile::TempDir;

fn touch(root: &TempDir, names: &[&str]) {
    for name in names {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
}

fn found(root: &TempDir, split: Split) -> Option<Vec<String>> {
    let files = files(root.path(), "mnli", split).unwrap()?;
    let name = |file: PathBuf| file.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned();
    Some(files.into_iter().map(name).collect())
}

#[test]
fn every_layout_is_found() {
    let cases = [
        (["train.jsonl", "validation_matched.jsonl", "validation_mismatched.jsonl"], "jsonl"),
        (["MNLI/train.tsv", "MNLI/dev_matched.tsv", "MNLI/dev_mismatched.tsv"], "GLUE's zip"),
        (
            [
                "mnli/train-00000-of-00001.parquet",
                "mnli/validation_matched-00000-of-00001.parquet",
                "mnli/validation_mismatched-00000-of-00001.parquet",
            ],
            "Hugging Face",
        ),
        (
            [
                "multinli_1.0_train.jsonl",
                "multinli_1.0_dev_matched.jsonl",
                "multinli_1.0_dev_mismatched.jsonl",
            ],
            "MultiNLI",
        ),
    ];
    for (names, layout) in cases {
        let root = TempDir::new().unwrap();
        assert_eq!(found(&root, Split::Train), None);
        touch(&root, &names);
        for (split, name) in [Split::Train, Split::Matched, Split::Mismatched].into_iter().zip(names) {
            assert_eq!(found(&root, split), Some(vec![name.to_owned()]), "{layout}");
        }
    }
}

#[test]
fn other_datasets_have_train_and_validation() {
    let root = TempDir::new().unwrap();
    touch(&root, &["data/train.txt", "data/validation.csv", "data/test.txt"]);
    assert_eq!(found(&root, Split::Train), Some(vec!["data/train.txt".to_owned()]));
    assert_eq!(found(&root, Split::Matched), Some(vec!["data/validation.csv".to_owned()]));
    assert_eq!(found(&root, Split::Mismatched), None);
}

#[test]
fn of_several_files_the_first_kind_is_taken() {
    let root = TempDir::new().unwrap();
    touch(&root, &["train.tsv", "train.parquet", "train.jsonl", "MNLI/train.jsonl", "validation.jsonl"]);
    assert_eq!(found(&root, Split::Train), Some(vec!["train.jsonl".to_owned()]));
    touch(&root, &["dev_matched.tsv"]);
    assert_eq!(found(&root, Split::Matched), Some(vec!["dev_matched.tsv".to_owned()]));
}

#[test]
fn shards_are_in_order_and_whole() {
    let root = TempDir::new().unwrap();
    touch(
        &root,
        &["train-00001-of-00003.parquet", "train-00000-of-00003.parquet", "train-x-of-00003.parquet"],
    );
    let error = files(root.path(), "mnli", Split::Train).unwrap_err().to_string();
    assert!(error.contains("train-00002-of-00003.parquet is not there, one of 3 files"), "{error}");
    touch(&root, &["train-00002-of-00003.parquet", "train-00007-of-00003.parquet"]);
    let names = ["00000", "00001", "00002"].map(|index| format!("train-{index}-of-00003.parquet"));
    assert_eq!(found(&root, Split::Train), Some(names.into()));
}
