//! Every way in which data arrives, and `gptjc data`, which shows what becomes of them.

use crate::common::{Run, gptjc, gptjc_alone, tokenizer};
use crate::reference_workflow::{config, write_model};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The same rows in three layouts.
fn rows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/rows").canonicalize().unwrap()
}

/// Runs `gptjc data` with GPT-J's tokenizer.
fn data(line: &str, paths: &[(&str, &Path)]) -> Run {
    let (tokenizer, rows) = (tokenizer(), rows());
    let mut all = vec![("tokenizer", tokenizer.as_path()), ("rows", rows.as_path())];
    all.extend_from_slice(paths);
    gptjc(&format!("data --tokenizer-name {{tokenizer}} {line}"), &all)
}

fn json_of(run: Run) -> Value {
    serde_json::from_str(&run.ok().out).unwrap()
}

fn write(directory: &TempDir, name: &str, contents: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, contents).unwrap();
    path
}

/// The page without what differs from run to run.
fn page(run: Run) -> String {
    let page = run.ok().out.replace(rows().to_str().unwrap(), "ROWS");
    let is_time = |line: &&str| line.starts_with("  time ");
    assert!(page.lines().any(|line| is_time(&line)), "{page}");
    page.lines().filter(|line| !is_time(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_page_shows_what_becomes_of_rows() {
    let line = "--train-file {rows}/train.jsonl --max-seq-length 64 --examples 2";
    insta::assert_snapshot!("data_concat", page(data(line, &[])));
    let line = "--data-dir {rows}/hub --max-seq-length 52 --packing segments --examples 1 --train-on-inputs";
    insta::assert_snapshot!("data_segments", page(data(line, &[])));
}

#[test]
fn all_layouts_of_mnli_are_the_same() {
    let sections = ["--train-file {rows}/train.jsonl", "--data-dir {rows}/GLUE", "--dataset-name {rows}/hub"]
        .map(|source| json_of(data(&format!("{source} --packing segments --max-seq-length 64 --json"), &[])));
    let labels = json!([{"label": "entailment", "rows": 4}, {"label": "neutral", "rows": 3}, {"label": "contradiction", "rows": 4}]);
    for section in &sections {
        let training = &section["training"];
        assert_eq!(training["labels"], labels);
        assert_eq!(training["files"][0]["skipped"]["no_label"], 1);
        for key in ["windows", "lengths", "first_window"] {
            assert_eq!(training[key], sections[0]["training"][key], "{key}");
        }
        assert!(section.get("evaluation").is_none(), "{section}");
    }
    let seconds = &sections[0]["training"]["seconds"];
    for phase in ["read", "load_tokenizer", "tokenize", "pack", "total"] {
        assert!(seconds[phase].as_f64().is_some_and(|seconds| seconds >= 0.0), "{seconds}");
    }
}

#[test]
fn glue_is_found_in_the_hugging_face_cache() {
    let home = TempDir::new().unwrap();
    let (folder, commit) = ("hub/datasets--nyu-mll--glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c");
    let snapshot = format!("{folder}/snapshots/{commit}/mnli");
    write(&home, &format!("{folder}/refs/main"), commit);
    let rows = fs::read(rows().join("hub/mnli/train-00000-of-00001.parquet")).unwrap();
    for split in ["train", "validation_matched", "validation_mismatched"] {
        let path = write(&home, &format!("{snapshot}/{split}-00000-of-00001.parquet"), "");
        fs::write(path, &rows).unwrap();
    }
    let tokenizer = tokenizer();
    let run = |line: &str| {
        let line = format!("data --tokenizer-name {} --json {line}", tokenizer.display());
        gptjc_alone(&line.split_whitespace().collect::<Vec<_>>(), &[("HF_HOME", home.path())])
    };
    for (line, split) in [
        ("--dataset_name glue --dataset_config_name mnli", "validation_matched"),
        ("--dataset-name nyu-mll/glue --eval-split validation_mismatched", "validation_mismatched"),
    ] {
        let page = json_of(run(line));
        assert_eq!(page["training"]["files"][0]["rows"], 11);
        let path = page["evaluation"]["files"][0]["path"].as_str().unwrap();
        assert!(path.ends_with(&format!("{split}-00000-of-00001.parquet")), "{path}");
    }
    let message = run("--dataset-name stanfordnlp/snli").error();
    for part in [
        "`stanfordnlp/snli` is not in the Hugging Face cache",
        "hf download stanfordnlp/snli --repo-type dataset",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let empty = TempDir::new().unwrap();
    let line = format!("data --tokenizer-name {} --dataset-name glue", tokenizer.display());
    let message =
        gptjc_alone(&line.split_whitespace().collect::<Vec<_>>(), &[("HF_HOME", empty.path())]).error();
    assert!(message.contains("hf download nyu-mll/glue --repo-type dataset --include 'mnli/*'"), "{message}");
}

#[test]
fn prompts_and_texts_are_trained_on_and_evaluated() {
    let directory = TempDir::new().unwrap();
    let model = directory.path().join("model");
    write_model(&model);
    fs::write(model.join("config.json"), config().to_string()).unwrap();
    let row = |n: usize| json!({"prompt": format!("{n} + {n} ="), "completion": format!(" {}", n + n)});
    let rows: String = (0..9).map(|n| format!("{}\n", row(n))).collect();
    let prompts = write(&directory, "sums.jsonl", &rows);
    let text = write(&directory, "a.txt", &"A clerk wrote a letter.\nNobody read it.\n\n".repeat(12));
    let out = directory.path().join("out");
    let cases = [
        ("--packing segments", &prompts, "9 examples, 2 windows", "9 examples, 9 windows"),
        ("--document-separator blank-line", &text, "12 examples, 3 windows", "12 examples, 12 windows"),
        // Cut into windows, not off at their end.
        ("--packing pad", &text, "1 examples, 4 windows", "1 examples, 4 windows"),
    ];
    for (more, file, training, validation) in cases {
        let line = format!(
            "train --model {{model}} --train-file {{file}} --validation-file {{file}} --max-steps 2 --output-dir {{out}} \
             --overwrite-output-dir --precision f32 {more}"
        );
        let run = gptjc(&line, &[("model", &model), ("file", file), ("out", &out)]).ok();
        let state: Value =
            serde_json::from_slice(&fs::read(out.join("trainer_state.json")).unwrap()).unwrap();
        let loss =
            state["log_history"].as_array().unwrap().iter().find_map(|entry| entry["eval_loss"].as_f64());
        // A model that knows nothing is about as good as chance over the vocabulary.
        assert!((loss.unwrap() - 50400f64.ln()).abs() < 0.5, "{more}: {loss:?}");
        for part in [training, validation] {
            assert!(run.err.contains(part), "{more}: expected `{part}` in {}", run.err);
        }
    }
}

#[test]
fn several_files_are_one() {
    let directory = TempDir::new().unwrap();
    let text = |name: &str, text: &str| write(&directory, name, text);
    let (one, two) = (text("1.txt", "One.\nTwo."), text("2.txt", "Three."));
    let paths = [("one", one.as_path()), ("two", two.as_path())];
    for line in ["--train-file {one} --train-file {two}", "--train-file {one} {two}"] {
        let page =
            json_of(data(&format!("{line} --json --packing segments --document-separator line"), &paths));
        assert_eq!(page["training"]["lengths"]["examples"], 3);
        assert_eq!(page["training"]["files"].as_array().unwrap().len(), 2);
        assert_eq!(page["training"]["examples"][2]["file"], two.to_str().unwrap());
    }
    let rows = text("3.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    let message =
        data("--train-file {one} {three}", &[("one", one.as_path()), ("three", rows.as_path())]).error();
    assert!(
        message.contains("3.jsonl` is prompt and completion, but `")
            && message.contains("1.txt` is plain text")
    );
}

#[test]
fn bad_data_are_named() {
    let directory = TempDir::new().unwrap();
    let parquet = fs::read(rows().join("hub/mnli/train-00000-of-00001.parquet")).unwrap();
    let cut = write(&directory, "cut.parquet", "");
    fs::write(&cut, &parquet[..parquet.len() / 2]).unwrap();
    let glue = fs::read_to_string(rows().join("GLUE/MNLI/train.tsv")).unwrap();
    let file = |name: &str, contents: &str| write(&directory, name, contents);
    let cases = [
        (cut, "", "cut.parquet: this is no whole Parquet file"),
        (
            file("train.tsv", &glue.replace("gold_label", "gold")),
            "",
            "train.tsv, line 1: no column `gold_label` (or `label`)",
        ),
        (
            file("b.tsv", &glue.replace("\tcontradiction\n", "\tfalse\n")),
            "",
            "b.tsv, line 4: gold_label \"false\" is none of",
        ),
        (
            file("c.tsv", &glue.replacen("\tentailment\n", "\n", 1)),
            "",
            "c.tsv, line 2: 11 values, the header has 12",
        ),
        (file("d.parquet", &glue), "", "d.parquet: this is no whole Parquet file"),
        (file("e.jsonl", &glue), "", "e.jsonl, line 1: not a JSON object; expected one JSON object a line"),
        (file("f.tsv", ""), "", "f.tsv is empty"),
        (file("g.jsonl", "{\"messages\": []}"), "", "g.jsonl holds chats"),
        (
            file("h.jsonl", "{\"instruction\": \"a\", \"input\": \"b\", \"output\": \"c\"}"),
            "",
            "h.jsonl, line 1: there is an `instruction`",
        ),
        (
            file("i.jsonl", "{\"prompt\": [\"a\"], \"completion\": \"c\"}"),
            "",
            "i.jsonl, line 1: field `prompt` is a list, expected a string",
        ),
        (
            file("j.txt", "a"),
            "--prompt-template {premise}{hypothesis}{label}",
            "--prompt-template is for MNLI",
        ),
        (file("n.txt", "a"), "--label-style ids", "--label-style is for MNLI"),
        (file("k.jsonl", "{\"text\": \"a\"}"), "--document-separator line", "where a row is a document"),
        (file("l.csv", "question,answer\na,b\n"), "", "found the columns `question`, `answer`"),
    ];
    for (path, more, expected) in cases {
        let message = data(&format!("--train-file {{file}} {more}"), &[("file", &path)]).error();
        assert!(message.contains(expected), "expected `{expected}` in {message}");
    }
    let run = data("--train-file {rows}/train.jsonl --json", &[]);
    assert!(
        run.err.contains("11 examples with 281 tokens in all give no window of 512 tokens"),
        "{}",
        run.err
    );
    assert_eq!(json_of(run)["training"]["windows"]["windows"], 0, "the dry run shows it");
    let run = data("--validation-file {rows}/train.jsonl --eval-split validation_matched", &[]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    let message = data("--data-dir {rows} --eval-split validation_mismatched", &[]).error();
    assert!(
        message.contains("there is nothing to evaluate on in") && message.contains("dev_mismatched"),
        "{message}"
    );
    let message = data("", &[]).error();
    assert!(
        message.contains("there is nothing to train on") && message.contains("--train-file FILE"),
        "{message}"
    );
}

#[test]
fn batches_that_are_tokenised_already_are_counted() {
    let tokens = crate::common::golden("plain/batches.safetensors");
    let page = json_of(data("--train-tokens {tokens} --json --max-seq-length 64", &[("tokens", &tokens)]));
    let training = &page["training"];
    assert_eq!(training["files"][0]["format"], "pre-tokenised batches");
    assert!(training["windows"]["windows"].as_u64().unwrap() > 0 && training.get("lengths").is_none());
}
