//! Fetching with a stand-in for Python that "downloads" a small wheel.

use std::io::Write;
use std::process::Stdio;

use super::*;

/// A wheel with one member, made here; stored, so that its bytes are the same everywhere.
fn wheel_bytes() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("pkg/capi/libx.so.1", options).unwrap();
    writer.write_all(b"a library").unwrap();
    writer.finish().unwrap().into_inner()
}

fn wheel(sha256: String) -> &'static Wheel {
    Box::leak(Box::new(Wheel {
        requirement: "x==1",
        platform: "manylinux_2_28_x86_64",
        file_name: "x-1.whl",
        sha256: Box::leak(sha256.into_boxed_str()),
        member: "pkg/capi/libx.so.1",
    }))
}

fn true_hash() -> String {
    Sha256::digest(wheel_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A program that copies the wheel to where `--dest` says, as pip would.
fn python(folder: &Path) -> PathBuf {
    fs::write(folder.join("the.whl"), wheel_bytes()).unwrap();
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\ncp '{}/the.whl' \"$2/x-1.whl\"\n",
        folder.display()
    );
    write_program(&folder.join("python"), &script)
}

/// Writes an executable file from another process: a file that this one had open for writing may still be open in
/// a child that another test's thread is just starting, and then it cannot be executed.
fn write_program(path: &Path, script: &str) -> PathBuf {
    let mut shell = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    path.to_path_buf()
}

#[test]
fn the_library_lands_in_the_cache_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache/gptjc");
    let wheel = wheel(true_hash());
    let fetched = fetch(wheel, &python(folder.path()), &cache).unwrap();
    assert_eq!(fetched, Fetched { path: cache.join("libx.so.1"), was_there: false });
    assert_eq!(fs::read(&fetched.path).unwrap(), b"a library");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1, "nothing else is left");
    let again = fetch(wheel, Path::new("no-such-python"), &cache).unwrap();
    assert!(again.was_there);
}

#[test]
fn another_file_than_the_pinned_one_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let error = fetch(wheel("00".repeat(32)), &python(folder.path()), &cache).unwrap_err().to_string();
    assert!(error.starts_with(&format!("`x-1.whl` has SHA-256 {}, expected 0000", true_hash())), "{error}");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn without_python_the_message_says_what_to_put_where() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no-python");
    let error = fetch(&WHEEL, &missing, folder.path()).unwrap_err().to_string();
    let target = folder.path().join("libonnxruntime.so.1.32.0");
    assert!(error.contains(WHEEL.file_name) && error.contains(WHEEL.sha256), "{error}");
    assert!(error.ends_with(&format!("put it at `{}`", target.display())), "{error}");
}

#[test]
fn what_pip_says_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let failing = write_program(&folder.path().join("python"), "#!/bin/sh\necho no network >&2\nexit 1\n");
    let error = fetch(&WHEEL, &failing, folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("`pip download onnxruntime==1.32.0` failed:\nno network\n"), "{error}");
}
