//! The parsers, each with valid inputs and the pieces that these are made of.

use crate::driver::Parser;
use gptjc_graphs::models::gptj::config;
use gptjc_graphs::onnx::DATA_FILE;
use gptjc_graphs::onnx::ElementType;
use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, inference_model};
use gptjc_graphs::plan::{Target, artifact, target_file};
use gptjc_graphs::text::{parse_all, print};
use gptjc_graphs::verify::verify;
use gptjc_runtime::adapter::{Adapter, AdapterConfig};
use gptjc_runtime::convert::{RECORD_FILE, Record};
use gptjc_runtime::data::document::Separator;
use gptjc_runtime::data::mnli::{MnliReader, Purpose, read_file};
use gptjc_runtime::data::pretokenized::TokenBatches;
use gptjc_runtime::data::prompt::PromptTemplate;
use gptjc_runtime::data::rows;
use gptjc_runtime::data::table::{Container, panics_are_errors};
use gptjc_runtime::hub::{Caches, Kind, Repository};
use gptjc_runtime::train::TrainerState;
use gptjc_runtime::train::checkpoint::Saved;
use gptjc_runtime::validate::onnx_directory::OnnxDirectory;
use gptjc_runtime::weights::Checkpoint;
use gptjc_tests::golden::Golden;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::fs;
use std::path::{Path, PathBuf};

/// What readers of files allocate whatever is in them: paths, buffers, messages.
const SMALL: usize = 128 << 10;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(path)
}

fn bytes(path: &str) -> Vec<u8> {
    fs::read(golden(path)).unwrap()
}

/// A parser of text without files.
fn of_text(seeds: Vec<Vec<u8>>, pieces: &'static [&'static [u8]], parse: fn(&[u8], &Path) -> bool) -> Parser {
    Parser { seeds, pieces, file: None, beside: Vec::new(), fix: |_| (), constant: SMALL, parse }
}

/// A parser of the file `file`.
fn of_file(file: &'static str, seeds: Vec<Vec<u8>>, parse: fn(&[u8], &Path) -> bool) -> Parser {
    Parser { seeds, pieces: JSON, file: Some(file), beside: Vec::new(), fix: |_| (), constant: SMALL, parse }
}

const JSON: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"null",
    b"true",
    b"\\u0000",
    b"\\ud800",
    b"{\"a\":",
    b"[[[[",
    b"1,",
    b"{},",
    b"[],",
    b"\"a\":1,",
    b"\"\",",
];

const OPCODES: &[&[u8]] = &[
    b"(",
    b")",
    b"]",
    b"}",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"N",
    b"\x88",
    b"K\x01",
    b"J\xff\xff\xff\xff",
    b"0",
    b"2",
    b"1",
    b"a",
    b"e",
    b"u",
    b"s",
    b"R",
    b"Q",
    b"b",
    b"l",
    b"d",
    b".",
    b"q\x00",
    b"r\xff\xff\x00\x00",
    b"h\x00",
    b"j\x00\x00\x00\x00",
    b"\x94",
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"X\x01\x00\x00\x00a",
    b"\x8c\x01a",
    b"\x8a\x01\xff",
];

/// Opens the checkpoint of a directory and looks at the first and last byte of every tensor.
fn open_checkpoint(_: &[u8], directory: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open(directory) else { return false };
    for name in checkpoint.names() {
        if let Some(view) = checkpoint.tensor(name) {
            let elements: usize = view.shape.iter().product();
            assert_eq!(view.bytes.len(), elements * view.dtype.size(), "{name}");
            let _ = view.bytes.first().zip(view.bytes.last()); // they lie in the mapped file
        }
    }
    true
}

pub(crate) fn torch_legacy_file() -> Parser {
    // Four pickles with 2 MiB each that they may take beside a multiple of their length.
    let seeds = vec![bytes("torch/legacy.bin")];
    Parser { pieces: OPCODES, constant: 12 << 20, ..of_file("pytorch_model.bin", seeds, open_checkpoint) }
}

pub(crate) fn torch_zip_file() -> Parser {
    let seeds = vec![bytes("torch/zip.bin"), bytes("torch/zip_protocol_4.bin")];
    Parser { pieces: OPCODES, constant: 3 << 20, ..of_file("pytorch_model.bin", seeds, open_checkpoint) }
}

/// A file of small tensors.
fn safetensors(tensors: &[(&str, Dtype, Vec<usize>, usize)]) -> Vec<u8> {
    let data = vec![0; 1 << 12];
    let view = |(name, dtype, shape, length): &(&str, Dtype, Vec<usize>, usize)| {
        ((*name).to_owned(), TensorView::new(*dtype, shape.clone(), &data[..*length]).unwrap())
    };
    safetensors::serialize(tensors.iter().map(view), None).unwrap()
}

/// Makes the length of the header right: it ends with two braces, and blanks behind them.
fn fix_safetensors(bytes: &mut [u8]) {
    let Some(brace) = bytes.windows(2).rposition(|pair| pair == b"}}") else { return };
    let blanks = bytes[brace + 2..].iter().take_while(|byte| **byte == b' ').count();
    if let Some(length) = (brace + 2 + blanks).checked_sub(8) {
        bytes[..8].copy_from_slice(&(length as u64).to_le_bytes());
    }
}

pub(crate) fn safetensors_file() -> Parser {
    let seeds = vec![
        safetensors(&[
            ("transformer.wte.weight", Dtype::F32, vec![4, 2], 32),
            ("lm_head.bias", Dtype::BF16, vec![4], 8),
        ]),
        safetensors(&[("h.0.attn.bias", Dtype::U8, vec![1, 1, 2, 2], 4)]),
    ];
    Parser { fix: fix_safetensors, ..of_file("model.safetensors", seeds, open_checkpoint) }
}

pub(crate) fn shard_index() -> Parser {
    let index = br#"{"metadata": {"total_size": 64}, "weight_map": {"wte.weight": "a.safetensors", "w": "b.safetensors"}}"#;
    let shard = |name| safetensors(&[(name, Dtype::F32, vec![4, 2], 32)]);
    Parser {
        beside: vec![("a.safetensors", shard("wte.weight")), ("b.safetensors", shard("w"))],
        ..of_file("model.safetensors.index.json", vec![index.to_vec()], open_checkpoint)
    }
}

pub(crate) fn hub_reference() -> Parser {
    const COMMIT: &str = "f98c709453c9402b1309b032f40df1c10ad481a2";
    let parse = |bytes: &[u8], directory: &Path| {
        // The bytes as a name, too.
        if let Ok(repository) = Repository::new(Kind::Model, &String::from_utf8_lossy(bytes), None) {
            assert!(!repository.name().contains("..") && !repository.name().starts_with('/'));
        }
        let repository = Repository::new(Kind::Model, "a/b", None).unwrap();
        let found = Caches::from([directory.join("hub")]).find(&repository);
        found.is_ok_and(|snapshot| {
            assert!(snapshot.directory.starts_with(directory) && snapshot.directory.is_dir());
            true
        })
    };
    Parser {
        beside: vec![
            (
                "hub/models--a--b/snapshots/f98c709453c9402b1309b032f40df1c10ad481a2/config.json",
                b"{}".to_vec(),
            ),
            ("hub/models--a--b/refs/other", Vec::new()),
        ],
        pieces: &[b"/", b"..", b"@", b"--", b"refs/pr/1", b"\n", b"\0"],
        ..of_file("hub/models--a--b/refs/main", vec![COMMIT.into(), format!("{COMMIT}\n").into()], parse)
    }
}

pub(crate) fn model_config() -> Parser {
    let seeds = vec![bytes("plain/model/config.json")];
    of_text(seeds, JSON, |bytes, _| config::parse(&String::from_utf8_lossy(bytes)).is_ok())
}

pub(crate) fn adapter_config() -> Parser {
    let pattern = br#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ".*(q|v)_proj"}"#;
    let seeds = vec![bytes("plain/adapter_final/adapter_config.json"), pattern.to_vec()];
    let parse =
        |bytes: &[u8], path: &Path| AdapterConfig::from_json(&String::from_utf8_lossy(bytes), path).is_ok();
    Parser { constant: 8 << 20, ..of_text(seeds, JSON, parse) } // for the 128 KiB that it may have
}

pub(crate) fn adapter_tensors() -> Parser {
    let seeds = vec![bytes("plain/adapter_final/adapter_model.safetensors")];
    Parser {
        beside: vec![("adapter_config.json", bytes("plain/adapter_final/adapter_config.json"))],
        fix: fix_safetensors,
        ..of_file("adapter_model.safetensors", seeds, |_, directory| Adapter::load(directory).is_ok())
    }
}

pub(crate) fn pretokenized_batches() -> Parser {
    let shape = || vec![2, 2, 3];
    let all = [
        ("input_ids", Dtype::I64, shape(), 96),
        ("labels", Dtype::I32, shape(), 48),
        ("attention_mask", Dtype::I64, shape(), 96),
    ];
    // A mask of zeros alone has no slots; ids alone have a mask of ones.
    let seeds = vec![safetensors(&all[..2]), safetensors(&all[..1]), bytes("plain/batches.safetensors")];
    let parse = |_: &[u8], directory: &Path| {
        let Ok(batches) = TokenBatches::open(&directory.join("b.safetensors")) else { return false };
        let _ = batches.check(512);
        let rows: usize = (0..batches.steps()).map(|step| batches.rows(step).count()).sum();
        assert_eq!(rows, batches.steps() * batches.batch_size());
        true
    };
    Parser { fix: fix_safetensors, ..of_file("b.safetensors", seeds, parse) }
}

pub(crate) fn mnli_rows() -> Parser {
    let rows = "{\"sentence1\": \"A.\", \"sentence2\": \"B.\", \"gold_label\": \"neutral\"}\n\n{\"premise\": \"C\u{e9}\", \
                \"hypothesis\": \"D\", \"label\": 2}\n{\"sentence1\": \"E\", \"sentence2\": \"F\", \"gold_label\": \"-\"}\n";
    let parse =
        |_: &[u8], directory: &Path| read_file(&directory.join("rows.jsonl"), Purpose::Training).is_ok();
    of_file("rows.jsonl", vec![rows.into()], parse)
}

/// Reads the rows of the file `name`, whatever it holds.
fn read_rows(directory: &Path, name: &str) -> bool {
    rows::read_file(&directory.join(name), None, &Separator::default()).is_ok()
}

/// Reads rows one by one: a row of few bytes that is kept takes more than sixteen times them.
fn stream_rows(file: &Path, container: Container) -> bool {
    MnliReader::open(file, container, Purpose::Training).is_ok_and(|mut rows| rows.all(|row| row.is_ok()))
}

pub(crate) fn completion_rows() -> Parser {
    let text = "{\"prompt\": \"A\", \"completion\": \" B\"}\n{\"completion\": \"\", \"x\": [1], \"prompt\": \"\u{e9}\"}\n";
    of_file("rows.jsonl", vec![text.into()], |_, directory| read_rows(directory, "rows.jsonl"))
}

pub(crate) fn tab_separated_rows() -> Parser {
    Parser {
        pieces: &[b"\t", b"\n", b"\r\n", b"\"", b"neutral\t", b"\t\t", b"\xff", b"\0"],
        ..of_file("rows.tsv", vec![bytes("../rows/GLUE/MNLI/train.tsv")], |_, directory| {
            stream_rows(&directory.join("rows.tsv"), Container::Tsv)
        })
    }
}

pub(crate) fn comma_separated_rows() -> Parser {
    let text = "premise,hypothesis,label\nA.,\"B, \"\"C\"\"\",1\n\"two\nlines\",D,0\n";
    Parser {
        pieces: &[b",", b"\n", b"\r\n", b"\"", b"\"\"", b"1,", b"\xff", b"\0"],
        ..of_file("rows.csv", vec![text.into()], |_, directory| {
            stream_rows(&directory.join("rows.csv"), Container::Csv)
        })
    }
}

/// Parquet's own decoders allocate what a page says of itself, so that memory is not held to a bound here.
pub(crate) fn parquet_rows() -> Parser {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panics_are_errors() {
            print(panic);
        }
    }));
    Parser {
        pieces: &[b"PAR1", b"\x15\x00", b"\x15\xfe\xff\xff\xff\x0f", b"\x19\x4c", b"\x1c"],
        constant: usize::MAX,
        ..of_file(
            "rows.parquet",
            vec![bytes("../rows/hub/mnli/train-00000-of-00001.parquet")],
            |_, directory| read_rows(directory, "rows.parquet"),
        )
    }
}

pub(crate) fn plain_text() -> Parser {
    let text = "One document.\n\nAnother\nof two lines.\n\n\n\nA third.";
    Parser {
        pieces: &[b"\n", b"\n\n", b"\r\n", b"\xff", b"\xef\xbb\xbf", b"\0"],
        ..of_file("rows.txt", vec![text.into()], |_, directory| read_rows(directory, "rows.txt"))
    }
}

pub(crate) fn prompt_template() -> Parser {
    let seeds = vec![b"mnli hypothesis: {hypothesis} premise: {premise} target: {label}".to_vec()];
    let pieces: &[&[u8]] =
        &[b"{", b"}", b"{{", b"}}", b"{label}", b"{premise}", b"{hypothesis}", b"<|endoftext|>", b"\xff"];
    of_text(seeds, pieces, |bytes, _| String::from_utf8_lossy(bytes).parse::<PromptTemplate>().is_ok())
}

/// A plan of the golden model, shrunk.
fn plan() -> Vec<u8> {
    let mut options = Golden::open("plain").compile_options();
    options.model.n_layer = 1;
    artifact::encode(&gptjc_compiler::compile(&options).unwrap())
}

/// Makes length and checksum right, which stand behind the magic number and the version.
fn fix_plan(bytes: &mut [u8]) {
    const FIELDS: usize = 8 + 4;
    if let Some((header, body)) = bytes.split_at_mut_checked(FIELDS + 12) {
        header[FIELDS..FIELDS + 8].copy_from_slice(&(body.len() as u64).to_le_bytes());
        header[FIELDS + 8..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    }
}

pub(crate) fn plan_file() -> Parser {
    let parse = |bytes: &[u8], _: &Path| {
        let _ = artifact::decode_options(bytes);
        artifact::decode(bytes).is_ok()
    };
    Parser {
        fix: fix_plan,
        ..of_text(
            vec![plan()],
            &[b"\x0a\x00", b"\x08\x01", b"\x12\x02\x08\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
            parse,
        )
    }
}

pub(crate) fn trainer_state() -> Parser {
    let log = r#"[{"epoch": 0.5, "step": 1, "loss": 1.5, "grad_norm": 0.1, "learning_rate": 1e-4}, {"epoch": 1.0, "step": 2,
        "eval_loss": 0.5}]"#;
    let state = serde_json::to_value(TrainerState::new(2, 1)).unwrap();
    let mut logged = state.clone();
    logged["log_history"] = serde_json::from_str(log).unwrap();
    let seeds = vec![state.to_string().into(), logged.to_string().into()];
    of_file("trainer_state.json", seeds, |_, directory| {
        TrainerState::load(&directory.join("trainer_state.json")).is_ok()
    })
}

pub(crate) fn training_state() -> Parser {
    let seed = br#"{"format": 1, "gptjc_version": "0.1.0", "run": 7, "global_step": 3, "windows_done": 1,
        "evaluation_due": false, "losses": {"pending": 1.5, "pending_steps": 1, "total": 4.5},
        "facts": {"settings": {"--seed": "42"}, "rounding": "avx2", "data": "00", "weights": "00"}, "files": {}}"#;
    let parse = |_: &[u8], directory: &Path| Saved::open(directory).is_ok();
    let state = serde_json::to_vec(&TrainerState::new(2, 1)).unwrap();
    let parser = of_file("training_state.json", vec![seed.to_vec()], parse);
    Parser { beside: vec![("trainer_state.json", state)], ..parser }
}

pub(crate) fn machine_description() -> Parser {
    let shipped = ["avx2-2c", "spr-2s", "zen4-2c"];
    let read = |name: &str| {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../compiler/targets/{name}.toml")))
            .unwrap()
    };
    let pieces: &[&[u8]] = &[
        b"=",
        b"[",
        b"]",
        b"[[",
        b"{",
        b"\"",
        b"'''",
        b".",
        b"\n",
        b"#",
        b"1,",
        b"{},",
        b"a.",
        b"1e400",
        b"nan",
        b"\"48KiB\"",
        b"0x",
        b"_",
    ];
    let parse = |bytes: &[u8], _: &Path| {
        let text = String::from_utf8_lossy(bytes);
        let _ = target_file::overlay("x.toml", &text, Target::default());
        target_file::parse("x.toml", &text).is_ok()
    };
    // For the 16 KiB that it may have.
    Parser { constant: 4 << 20, ..of_text(shipped.map(read).to_vec(), pieces, parse) }
}

pub(crate) fn conversion_record() -> Parser {
    let record = r#"{"format": 1, "source": "m", "source_files": [{"name": "a", "bytes": 1, "modified": 2}], "dtype": "bfloat16",
        "max_shard_bytes": 5, "files": [{"name": "b", "bytes": 1, "modified": null}], "rounding": {"elements": 1, "changed": 1,
        "largest_relative_error": 0.5, "sum_of_relative_errors": 0.5, "not_finite": 0, "overflowed": 0}}"#;
    of_file(RECORD_FILE, vec![record.into()], |_, directory| Record::read(directory).is_some())
}

/// The config, the graph and the length of the weights of the smallest export.
fn onnx_export() -> (Vec<u8>, Vec<u8>, usize) {
    let config =
        br#"{"model_type": "gptj", "n_layer": 1, "n_embd": 8, "n_head": 2, "rotary_dim": 2, "n_inner": 16,
        "vocab_size": 32, "n_positions": 16, "layer_norm_epsilon": 1e-5}"#;
    let shape = GptjShape {
        n_layer: 1,
        n_embd: 8,
        n_head: 2,
        rotary_dim: 2,
        n_inner: 16,
        vocab_size: 32,
        n_positions: 16,
        layer_norm_epsilon: 1e-5,
    };
    let model = inference_model(&shape, &ExportOptions::plain(ElementType::F32, None)).unwrap();
    (config.to_vec(), model.bytes, model.data_length as usize)
}

pub(crate) fn onnx_model() -> Parser {
    let (config, model, length) = onnx_export();
    Parser {
        beside: vec![("config.json", config), (DATA_FILE, vec![0; length])],
        pieces: &[b"\x0a\x00", b"\x08\x01", b"model.onnx_data", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
        // What `ModelSummary::decode` lets any model take, and half as much again while a list grows.
        constant: 48 << 20,
        ..of_file("model.onnx", vec![model], |_, directory| OnnxDirectory::open(directory).is_ok())
    }
}

pub(crate) fn onnx_config() -> Parser {
    let (config, model, length) = onnx_export();
    Parser {
        beside: vec![("model.onnx", model), (DATA_FILE, vec![0; length])],
        ..of_file("config.json", vec![config], |_, directory| OnnxDirectory::open(directory).is_ok())
    }
}

/// The graphs of the filetests that parse.
fn graphs(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(graphs(&path));
        } else if let Some(text) = fs::read_to_string(&path).ok().filter(|text| parse_all(text).is_ok()) {
            found.push(text.into_bytes());
        }
    }
    found
}

pub(crate) fn graph_text() -> Parser {
    let pieces: &[&[u8]] = &[
        b"graph",
        b"return",
        b"@",
        b"%0",
        b"%999999999999",
        b"(",
        b")",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"=",
        b"\"",
        b"slots:",
        b"bf16",
        b";",
        b"-1",
    ];
    let seeds = graphs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests"));
    // Tables of names double.
    let parser = of_text(seeds, pieces, |bytes, _| {
        let Ok(graphs) = parse_all(&String::from_utf8_lossy(bytes)) else { return false };
        for graph in graphs {
            let _ = verify(&graph);
            assert!(!print(&graph).is_empty());
        }
        true
    });
    Parser { constant: 2 << 20, ..parser }
}
