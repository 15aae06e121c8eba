//! Runs the binary, and makes the files that tests give it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Run {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Run {
    /// This run, if it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// The message, if the run ended with exactly one error and exit code 1.
    #[track_caller]
    pub(crate) fn error(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        let at = self.err.find("error: ").unwrap_or_else(|| panic!("no message: {}", self.err));
        let message = self.err[at..].to_owned();
        assert_eq!(message.matches("error: ").count(), 1, "{message}");
        message
    }
}

/// Runs `gptjc` with `arguments` in `directory`.
pub(crate) fn gptjc_in(directory: &Path, arguments: &[impl AsRef<OsStr>]) -> Run {
    // Models of whoever runs the tests are none of theirs.
    let mut command = Command::new(env!("CARGO_BIN_EXE_gptjc"));
    run(command.args(arguments).current_dir(directory).env("HF_HUB_CACHE", "/nonexistent"))
}

/// Runs `gptjc` with `arguments` and no environment but `variables`.
pub(crate) fn gptjc_alone(arguments: &[impl AsRef<OsStr>], variables: &[(&str, &Path)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gptjc"));
    run(command.args(arguments).env_clear().envs(variables.iter().copied()))
}

fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `gptjc` with the words of `line`, of which `{name}` stands for the path with that name.
pub(crate) fn gptjc(line: &str, paths: &[(&str, &Path)]) -> Run {
    let fill = |word: &str| {
        let path = |text: String, (name, path): &(&str, &Path)| {
            text.replace(&format!("{{{name}}}"), path.to_str().unwrap())
        };
        paths.iter().fold(word.to_owned(), path)
    };
    let arguments: Vec<String> = line.split_whitespace().map(fill).collect();
    gptjc_in(Path::new(env!("CARGO_MANIFEST_DIR")), &arguments)
}

/// A directory of the golden cases.
pub(crate) fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path).canonicalize().unwrap()
}

/// The directory with GPT-J's tokenizer.
pub(crate) fn tokenizer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tokenizer").canonicalize().unwrap()
}

/// A copy of the files of `from` under `to`; directories in it are left out.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
}

/// Changes the header of a safetensors file.
pub(crate) fn edit_header(file: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    fs::write(file, safetensors(&header, &bytes[8 + length..])).unwrap();
}

/// The bytes of a safetensors file.
pub(crate) fn safetensors(header: &serde_json::Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Writes the safetensors file `from` as `to`, with the bytes of the tensor `name` edited.
pub(crate) fn edit_tensor(from: &Path, to: &Path, name: &str, edit: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(from).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let [start, end] =
        [0, 1].map(|index| data + header[name]["data_offsets"][index].as_u64().unwrap() as usize);
    edit(&mut bytes[start..end]);
    fs::write(to, bytes).unwrap();
}
