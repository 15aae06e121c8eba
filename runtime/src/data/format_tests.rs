//! Tests of [`super`]: what names and contents say, and files that hold no rows.

use super::*;
use tempfile::TempDir;

fn layout(name: &str, contents: &[u8], format: Option<Format>) -> Result<Layout, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, contents).unwrap();
    Layout::of(&path, format).map_err(|error| error.to_string())
}

#[test]
fn names_and_contents_decide() {
    let mnli = "{\"premise\": \"p\", \"hypothesis\": \"h\", \"label\": 0}";
    let glue = "index\tsentence1\tsentence2\tgold_label\n";
    let some = Some;
    let cases = [
        ("a.jsonl", mnli, Format::Mnli, some(Container::JsonLines)),
        ("a.json", "\n {\"sentence1\": \"p\"}", Format::Mnli, some(Container::JsonLines)),
        (
            "a.JSONL",
            "{\"prompt\": \"p\", \"completion\": \"c\"}",
            Format::PromptCompletion,
            some(Container::JsonLines),
        ),
        ("a", "{\"input\": \"p\", \"output\": \"c\"}", Format::PromptCompletion, some(Container::JsonLines)),
        ("a.dat", "\u{feff}{\"text\": \"p\"}", Format::Text, some(Container::JsonLines)),
        ("train.tsv", glue, Format::Mnli, some(Container::Tsv)),
        ("multinli_1.0_train.txt", glue, Format::Mnli, some(Container::Tsv)),
        ("a.csv", "prompt,completion\n", Format::PromptCompletion, some(Container::Csv)),
        ("a.txt", "Once upon a time.", Format::Text, None),
        ("a.txt", "{\"text\": \"in a .txt is text\"}", Format::Text, None),
        ("README", "# Title\tx\n", Format::Text, None),
        ("a.jsonl", "", Format::Mnli, some(Container::JsonLines)),
        ("a.txt", "", Format::Text, None),
    ];
    for (name, contents, format, container) in cases {
        let found = layout(name, contents.as_bytes(), None).unwrap();
        assert_eq!(found, Layout { format, container }, "{name}: {contents}");
    }
}

#[test]
fn what_is_said_counts() {
    let text = layout("a.jsonl", b"{\"prompt\": 1, \"text\": \"t\"}", Some(Format::Text)).unwrap();
    assert_eq!(text, Layout { format: Format::Text, container: Some(Container::JsonLines) });
    let rows = layout("a", b"prompt\tcompletion\n", Some(Format::PromptCompletion)).unwrap();
    assert_eq!(rows.container, Some(Container::Tsv));
    let rows = layout("rows.txt", b"{\"prompt\": \"p\"}", Some(Format::PromptCompletion)).unwrap();
    assert_eq!(rows.container, Some(Container::JsonLines));
}

#[test]
fn files_without_rows_say_what_they_are() {
    let cases: [(&[u8], &str); 5] = [
        (b"\x1f\x8b\x08", "is compressed by gzip; unpack it"),
        (b"PK\x03\x04", "is a zip archive; unpack it with unzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"ARROW1\0\0", "is an Arrow file"),
        (b"\xfd7zXZ\x00", "is compressed by xz"),
    ];
    for (contents, expected) in cases {
        let found = layout("train.jsonl", contents, None).unwrap_err();
        assert!(found.contains("train.jsonl") && found.contains(expected), "{found}");
    }
    let chat = layout("a.jsonl", b"{\"messages\": []}", None).unwrap_err();
    assert!(chat.contains("holds chats (`messages`)"), "{chat}");
    let unknown = layout("a.csv", b"question,answer\n", None).unwrap_err();
    assert!(unknown.contains("found the columns `question`, `answer`; expected sentence1"), "{unknown}");
    let absent = Layout::of(Path::new("/nowhere/rows.jsonl"), None).unwrap_err().to_string();
    assert!(absent.starts_with("cannot read /nowhere/rows.jsonl: "), "{absent}");
}

#[test]
fn formats_have_words() {
    for word in Format::WORDS {
        assert_eq!(word.parse::<Format>().unwrap().to_string(), *word);
    }
    assert!("chat".parse::<Format>().unwrap_err().contains("expected mnli, prompt-completion, text"));
}
