//! Tests of `hub`: caches as `huggingface_hub` leaves them, whole and broken.

use std::os::unix::fs::symlink;

use super::*;

const COMMIT: &str = "f98c709453c9402b1309b032f40df1c10ad481a2";
const OTHER: &str = "47e169305d2e8376be1d31e765533382721b2cc1";

/// A cache with `EleutherAI/gpt-j-6b`: its revision `revision` has one file.
fn cache(revision: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("models--EleutherAI--gpt-j-6b");
    for folder in ["blobs", "refs/refs/pr"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::create_dir_all(root.join("snapshots").join(COMMIT).join("onnx")).unwrap();
    fs::write(root.join("refs").join(revision), COMMIT).unwrap();
    fs::write(root.join("blobs/aa"), b"{}").unwrap();
    symlink("../../blobs/aa", root.join("snapshots").join(COMMIT).join("config.json")).unwrap();
    dir
}

fn root(cache: &tempfile::TempDir) -> PathBuf {
    cache.path().join("models--EleutherAI--gpt-j-6b")
}

fn find_in(cache: &tempfile::TempDir, name: &str, revision: Option<&str>) -> Result<Snapshot, HubError> {
    let caches = Caches::from([cache.path().join("absent"), cache.path().to_owned()]);
    caches.find(&Repository::new(Kind::Model, name, revision)?)
}

fn message(cache: &tempfile::TempDir, name: &str, revision: Option<&str>) -> String {
    find_in(cache, name, revision).unwrap_err().to_string()
}

#[test]
fn a_revision_is_found_by_its_name_and_by_its_commit() {
    let main = cache("main");
    let found = find_in(&main, "EleutherAI/gpt-j-6b", None).unwrap();
    assert_eq!(found.commit, COMMIT);
    assert_eq!(fs::read(found.directory.join("config.json")).unwrap(), b"{}");
    assert!(found.unfinished.is_empty());
    assert_eq!(find_in(&main, "EleutherAI/gpt-j-6B", Some(COMMIT)).unwrap(), found);
    assert_eq!(find_in(&main, &format!("EleutherAI/gpt-j-6b@{COMMIT}"), None).unwrap(), found);
    let pull_request = cache("refs/pr/3");
    assert_eq!(find_in(&pull_request, "EleutherAI/gpt-j-6b@refs/pr/3", None).unwrap().commit, COMMIT);
}

#[test]
fn what_is_not_there_comes_with_the_command() {
    let float16 = cache("float16");
    let text = message(&float16, "EleutherAI/gpt-j-6b", None);
    assert!(text.contains("not its revision main (there: float16)"), "{text}");
    assert!(text.contains("\n  hf download EleutherAI/gpt-j-6b --include '*.json'"), "{text}");
    let text = message(&float16, "EleutherAI/gpt-j-6b", Some(OTHER));
    assert!(text.contains(&format!("--revision {OTHER}")), "{text}");
    let text = message(&float16, "owner/other", Some("v2"));
    assert!(text.contains("`owner/other@v2` is not in the Hugging Face cache (`"), "{text}");
    assert!(
        text.contains("never opens the network") && text.contains("hf download owner/other --revision v2")
    );

    let empty = tempfile::tempdir().unwrap();
    let text = message(&empty, "EleutherAI/gpt-j-6b", None);
    assert!(
        text.contains("or 12 GB in float16 with\n  hf download EleutherAI/gpt-j-6b --revision float16"),
        "{text}"
    );
    let nowhere = Caches::from([]).find(&Repository::new(Kind::Dataset, "glue", None).unwrap());
    let text = nowhere.unwrap_err().to_string();
    assert!(text.contains("the data set `glue`") && text.contains("neither HF_HOME nor HOME"), "{text}");
}

#[test]
fn without_references_the_commits_are_named() {
    let main = cache("main");
    fs::remove_file(root(&main).join("refs/main")).unwrap();
    let text = message(&main, "EleutherAI/gpt-j-6b", None);
    assert!(text.contains(&format!("(there: {COMMIT})")), "{text}");
}

#[test]
fn broken_caches_are_told_apart() {
    let dangling = cache("main");
    let snapshot = root(&dangling).join("snapshots").join(COMMIT);
    symlink("../../../blobs/bb", snapshot.join("onnx/model.onnx")).unwrap();
    let text = message(&dangling, "EleutherAI/gpt-j-6b", None);
    assert!(
        text.contains("onnx/model.onnx` leads to `../../../blobs/bb`, which is not there; go on"),
        "{text}"
    );
    fs::write(root(&dangling).join("blobs/bb.incomplete"), b"").unwrap();
    let text = message(&dangling, "EleutherAI/gpt-j-6b", None);
    assert!(text.contains("(1 download(s) of this model are unfinished)"), "{text}");
    fs::remove_file(snapshot.join("onnx/model.onnx")).unwrap();
    assert_eq!(find_in(&dangling, "EleutherAI/gpt-j-6b", None).unwrap().unfinished.len(), 1);

    let moved = cache("main");
    fs::write(root(&moved).join("refs/main"), OTHER).unwrap();
    let text = message(&moved, "EleutherAI/gpt-j-6b", None);
    assert!(text.contains(&format!("says that main is commit {OTHER}, whose files are not")), "{text}");
    for content in [&b"../../../etc"[..], b"", &[0xff; 40], &[b'a'; 5000]] {
        fs::write(root(&moved).join("refs/main"), content).unwrap();
        let text = message(&moved, "EleutherAI/gpt-j-6b", None);
        assert!(text.contains("does not hold the name of a commit"), "{text}");
    }
}
