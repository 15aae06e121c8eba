//! Tests of `atomic`: what is there after success, after an error, and after a crash between two renames.

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_written_and_replaced_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("state.json");
    write_bytes(&target, b"one").unwrap();
    write_bytes(&target, b"two").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"two");
    assert_eq!(names(dir.path()), ["state.json"]);
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("model.onnx");
    write_bytes(&target, b"old").unwrap();
    let error = write_file(&target, |out| {
        out.write_all(b"half of the ne")?;
        fs::OpenOptions::new().write(true).open("/dev/full")?.write_all(b"w")
    })
    .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("model.onnx") && message.contains("No space left"), "{message}");
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["model.onnx"]);
}

#[test]
fn a_file_keeps_the_link_that_names_it_and_gets_ordinary_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    write_bytes(&real, b"old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    write_bytes(&link, b"new").unwrap();
    assert_eq!(fs::read(&real).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink(), "the link was replaced");
    fs::write(dir.path().join("plain"), b"").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&real), mode(&dir.path().join("plain")));
}

#[test]
fn a_missing_parent_of_a_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let message = write_bytes(&dir.path().join("no/such/file"), b"").unwrap_err().to_string();
    assert!(message.contains("no/such/file") && message.contains("create the directory"), "{message}");
}

#[test]
fn a_directory_is_created_with_its_parents_and_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("runs/out");
    write_directory::<FileError>(&target, |inside| {
        fs::create_dir(inside.join("sub")).unwrap();
        fs::write(inside.join("sub/a"), b"1").unwrap();
        Ok(())
    })
    .unwrap();
    assert_eq!(fs::read(target.join("sub/a")).unwrap(), b"1");
    write_directory::<FileError>(&target, |inside| {
        fs::write(inside.join("b"), b"2").unwrap();
        Ok(())
    })
    .unwrap();
    assert_eq!(names(&target), ["b"]);
    assert_eq!(names(target.parent().unwrap()), ["out"]);
}

#[test]
fn an_error_of_the_caller_leaves_the_old_directory_and_no_temporary() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("a"), b"old").unwrap();
    let result: Result<(), FileError> = write_directory(&target, |inside| {
        fs::write(inside.join("a"), b"half").unwrap();
        Err(FileError::new("write", Path::new("a"), io::ErrorKind::StorageFull.into()))
    });
    assert!(result.unwrap_err().to_string().contains("free space"));
    assert_eq!(fs::read(target.join("a")).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_crash_between_the_renames_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::create_dir(dir.path().join(".out.gptjc-old")).unwrap();
    fs::write(dir.path().join(".out.gptjc-old/a"), b"old").unwrap();
    recover_directory(&target).unwrap();
    assert_eq!(fs::read(target.join("a")).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_crash_after_the_renames_leaves_the_new_one_and_the_old_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    for (name, bytes) in [("out", "new"), (".out.gptjc-old", "old")] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("a"), bytes).unwrap();
    }
    recover_directory(&target).unwrap();
    assert_eq!(fs::read(target.join("a")).unwrap(), b"new");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_file_in_the_way_of_a_directory_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::write(&target, b"a file").unwrap();
    let error = write_directory::<FileError>(&target, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("/out`"), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"a file");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn what_killed_writers_left_is_cleaned_away() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["kept", ".out.gptjc-partial-abc", ".out.gptjc-old", ".two.gptjc-old", "two", ".hidden"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("a"), name).unwrap();
    }
    fs::write(dir.path().join(".a.json.gptjc-partial-xyz"), b"half").unwrap();
    clean(dir.path()).unwrap();
    assert_eq!(names(dir.path()), [".hidden", "kept", "out", "two"]);
    assert_eq!(fs::read(dir.path().join("out/a")).unwrap(), b".out.gptjc-old");
    assert_eq!(fs::read(dir.path().join("two/a")).unwrap(), b"two");
}

#[test]
fn a_removed_directory_is_gone_whole() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::create_dir_all(target.join("sub")).unwrap();
    fs::create_dir(dir.path().join(".out.gptjc-partial-removed")).unwrap();
    remove_directory(&target).unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
    assert!(remove_directory(&target).unwrap_err().to_string().contains("cannot remove the directory"));
}
