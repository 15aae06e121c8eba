//! `gptjc synth-data`: files that the other commands take, the same for the same seed.

use crate::common::gptjc;
use gptjc_runtime::data::mnli::{Purpose, read_file};
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const FILES: [&str; 8] = [
    "train.jsonl",
    "validation_matched.jsonl",
    "validation_mismatched.jsonl",
    "text.txt",
    "notes.jsonl",
    "exercises.jsonl",
    "review.jsonl",
    "tokenizer.json",
];
const LINE: &str = "synth-data --train-rows 60 --validation-rows 30 --documents 3000 --notes 30 --exercises 40 --review 20 --vocab-size 1152 --seed 5 -o {out}";

fn make(out: &Path) -> String {
    gptjc(LINE, &[("out", out)]).ok().out
}

#[test]
fn a_seed_gives_the_same_files_which_the_other_commands_read() {
    let directory = TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    let said = make(&first);
    assert!(
        said.contains("60 rows to train on, 30 of each kind to validate on, 3000 documents, 90 exercises"),
        "{said}"
    );
    make(&second);
    for name in FILES {
        assert_eq!(fs::read(first.join(name)).unwrap(), fs::read(second.join(name)).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(&first).unwrap().count(), FILES.len());
    for (name, rows) in [(FILES[0], 60), (FILES[1], 30), (FILES[2], 30)] {
        assert_eq!(read_file(&first.join(name), Purpose::Training).unwrap().rows.len(), rows, "{name}");
    }
    assert_eq!(fs::read_to_string(first.join("text.txt")).unwrap().lines().count(), 3000);
    for (name, exercises) in [("notes.jsonl", 30), ("exercises.jsonl", 40), ("review.jsonl", 20)] {
        assert_eq!(fs::read_to_string(first.join(name)).unwrap().lines().count(), exercises, "{name}");
    }
    let tokenizer = GptJTokenizer::from_dir(&first).unwrap();
    assert!(tokenizer.vocab_size() <= 1152);
    // A label is one token, so that scores of labels do not depend on how they are spelt.
    for label in [" entailment", " neutral", " contradiction"] {
        let ids = tokenizer.encode(label).unwrap();
        assert_eq!(ids.len(), 1, "{label}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), label);
    }
}

#[test]
fn what_is_there_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("data");
    fs::create_dir(&out).unwrap();
    let message = gptjc(LINE, &[("out", &out)]).error();
    assert!(message.contains("exists already") && message.contains("give another directory"), "{message}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}
