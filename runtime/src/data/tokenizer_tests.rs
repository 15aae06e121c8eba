//! Tests of [`super`]: ids against Hugging Face's are in `golden_tests`; here both forms and every message.

use super::*;
use std::fs;

fn repository_tokenizer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tokenizer")
}

/// A directory with a vocabulary of a handful of tokens.
fn small(vocab: &str, merges: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(VOCAB), vocab).unwrap();
    fs::write(directory.path().join(MERGES), merges).unwrap();
    directory
}

const SMALL_VOCAB: &str = r#"{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "<|endoftext|>": 4}"#;
const SMALL_MERGES: &str = "#version: 0.2\na b\n";

fn error(directory: &Path) -> String {
    GptJTokenizer::from_dir(directory).expect_err("this directory must be refused").to_string()
}

#[test]
fn the_vocabulary_is_gptjs() {
    let tokenizer = GptJTokenizer::from_dir(&repository_tokenizer()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 50400);
    assert_eq!(tokenizer.eos_id(), 50256);
    assert_eq!(tokenizer.token_id("<|extratoken_143|>"), Some(50399));
    assert_eq!(tokenizer.token_id("no such token"), None);
}

#[test]
fn text_survives_encoding_and_decoding() {
    let tokenizer = GptJTokenizer::from_dir(&repository_tokenizer()).unwrap();
    for text in
        ["", " ", "  two  spaces ", "naïve café ☕ 你好\u{1f600}\u{0301}", "a\u{0}b\r\n\t", "it's 1,000.00"]
    {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
    let ids = tokenizer.encode(" neutral<|endoftext|>").unwrap();
    assert_eq!(ids, [8500, 50256]);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), " neutral");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), " neutral<|endoftext|>");
    assert_eq!(tokenizer.decode(&[8500, 4_000_000_000], true).unwrap(), " neutral");
}

#[test]
fn the_boundary_counts_the_tokens_that_begin_before_it() {
    let tokenizer = GptJTokenizer::from_dir(&repository_tokenizer()).unwrap();
    for (prompt, target, expected) in
        [("target:", " neutral", 2), ("é你:", " 0", 4), ("", " neutral", 0), ("neut", "ral", 1)]
    {
        let (ids, before) =
            tokenizer.encode_with_boundary(&format!("{prompt}{target}"), prompt.len()).unwrap();
        assert_eq!(before, expected, "{prompt}|{target}: {ids:?}");
    }
}

#[test]
fn both_forms_give_the_same_ids() {
    let files = tempfile::tempdir().unwrap();
    let from_vocab = GptJTokenizer::from_dir(&repository_tokenizer()).unwrap();
    from_vocab.inner.save(files.path().join(TOKENIZER_JSON), false).unwrap();
    let from_json = GptJTokenizer::from_dir(files.path()).unwrap();
    let text = "mnli hypothesis: naïve ☕ don't<|extratoken_7|> target: neutral<|endoftext|>";
    assert_eq!(from_json.encode(text).unwrap(), from_vocab.encode(text).unwrap());
    assert_eq!((from_json.eos_id(), from_json.vocab_size()), (50256, 50400));
}

#[test]
fn truncation_and_padding_of_tokenizer_json_are_ignored() {
    let plain = small(SMALL_VOCAB, SMALL_MERGES);
    let mut inner = GptJTokenizer::from_dir(plain.path()).unwrap().inner;
    let one = tokenizers::TruncationParams { max_length: 1, ..Default::default() };
    inner.with_truncation(Some(one)).unwrap();
    inner.with_padding(Some(tokenizers::PaddingParams::default()));
    let files = tempfile::tempdir().unwrap();
    inner.save(files.path().join(TOKENIZER_JSON), false).unwrap();
    assert_eq!(GptJTokenizer::from_dir(files.path()).unwrap().encode("aab").unwrap(), [0, 3]);
}

#[test]
fn a_directory_without_a_tokenizer_says_what_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().display();
    assert!(
        error(directory.path())
            .starts_with(&format!("{name} has neither tokenizer.json nor vocab.json and merges.txt"))
    );
    fs::write(directory.path().join(VOCAB), SMALL_VOCAB).unwrap();
    let half = error(directory.path());
    assert!(half.starts_with(&format!("cannot read {name}/merges.txt: ")), "{half}");
}

#[test]
fn broken_files_are_named() {
    let cases = [
        ("{", SMALL_MERGES, "vocab.json: EOF while parsing"),
        (
            SMALL_VOCAB,
            "a b\na b c\n",
            "merges.txt: line 2: expected two tokens with a space between them, found `a b c`",
        ),
        (SMALL_VOCAB, "b a\n", "merges.txt: line 1: `ba` is not in vocab.json"),
        (SMALL_VOCAB, "c a\n", "merges.txt: line 1: `c` is not in vocab.json"),
    ];
    for (vocab, merges, expected) in cases {
        let found = error(small(vocab, merges).path());
        assert!(found.contains(expected), "expected {expected}, found {found}");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(TOKENIZER_JSON), "{\"version\": \"1.0\"").unwrap();
    assert!(error(directory.path()).contains("tokenizer.json: "));
}

#[test]
fn added_tokens_must_follow_the_vocabulary() {
    let directory = small(SMALL_VOCAB, SMALL_MERGES);
    let file = directory.path().join(ADDED_TOKENS);
    fs::write(&file, r#"{"<x>": 6, "<|endoftext|>": 4, "<w>": 5}"#).unwrap();
    let tokenizer = GptJTokenizer::from_dir(directory.path()).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.encode("a<x>ab<w>").unwrap()), (7, vec![0, 6, 3, 5]));
    fs::write(&file, r#"{"<x>": 7}"#).unwrap();
    let gap = error(directory.path());
    assert!(
        gap.contains("added_tokens.json: `<x>` should have id 7, after the tokens before it comes 5"),
        "{gap}"
    );
}

#[test]
fn the_end_of_text_is_the_one_that_the_files_name() {
    let directory = small(r#"{"a": 0, "</s>": 1}"#, "");
    let map = directory.path().join(SPECIAL_TOKENS);
    for spelling in [r#"{"eos_token": "</s>"}"#, r#"{"eos_token": {"content": "</s>", "lstrip": false}}"#] {
        fs::write(&map, spelling).unwrap();
        assert_eq!(GptJTokenizer::from_dir(directory.path()).unwrap().eos_id(), 1, "{spelling}");
    }
    fs::write(&map, r#"{"eos_token": 7}"#).unwrap();
    assert!(
        error(directory.path()).contains("special_tokens_map.json: eos_token is 7, expected a token's text")
    );
}
