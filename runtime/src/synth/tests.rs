//! Checkpoints of every layout, read back and held against each other.

use super::*;
use crate::weights::{Checkpoint, convert};
use std::io::Read;
use tempfile::TempDir;

const CONFIG: &[u8] = b"{\"model_type\": \"gptj\"}\n";

fn tensors() -> Vec<TensorSpec> {
    vec![
        TensorSpec::new("transformer.wte.weight", [30, 8]),
        TensorSpec::new("transformer.h.0.ln_1.weight", [8]),
        TensorSpec::new("transformer.h.0.attn.q_proj.weight", [8, 8]),
        TensorSpec::new("transformer.h.1.ln_1.weight", [8]),
        TensorSpec::new("transformer.h.1.attn.q_proj.weight", [8, 8]),
        TensorSpec::new("lm_head.weight", [30, 8]),
        TensorSpec::new("lm_head.bias", [30]),
    ]
}

fn make(directory: &Path, layout: Layout, threads: usize) -> Result<SynthReport, SynthError> {
    let tensors = tensors();
    let request = SynthRequest {
        tensors: &tensors,
        old_buffers: OldBuffers { layers: 2, positions: 5 },
        config: CONFIG,
        seed: 3,
        std: 0.02,
        layout,
        max_shard_bytes: 600,
        threads,
        directory,
    };
    synth(&request, &|_| {})
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    convert::read_f32(&checkpoint.tensor(name).unwrap())
}

#[test]
fn both_layouts_of_safetensors_open_and_agree() {
    let dir = TempDir::new().unwrap();
    let (single, sharded) = (dir.path().join("single"), dir.path().join("sharded"));
    let report = make(&single, Layout::Safetensors, 1).unwrap();
    assert_eq!(report.files, ["model.safetensors"]);
    assert_eq!(report.parameters, 30 * 8 * 2 + 30 + 2 * (8 + 64));
    assert_eq!(names(&single), ["config.json", "model.safetensors"]);
    assert_eq!(fs::read(single.join("config.json")).unwrap(), CONFIG);
    let report = make(&sharded, Layout::Sharded, 2).unwrap();
    assert_eq!(report.files.len(), 3, "{report:?}");
    assert_eq!(report.files[0], "model-00001-of-00003.safetensors");
    let (single, sharded) = (Checkpoint::open(&single).unwrap(), Checkpoint::open(&sharded).unwrap());
    for opened in [&single, &sharded] {
        assert_eq!(opened.check(&tensors()).unwrap(), Vec::<String>::new());
    }
    for spec in tensors() {
        let found = values(&single, &spec.name);
        assert_eq!(found, values(&sharded, &spec.name), "{}", spec.name);
        assert!(found.iter().any(|&value| value != found[0]), "{}", spec.name);
    }
    assert!(values(&single, "transformer.h.1.ln_1.weight").iter().all(|value| (value - 1.0).abs() < 0.1));
}

#[test]
fn threads_change_nothing_and_a_seed_gives_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    for layout in [Layout::Safetensors, Layout::BinF32] {
        let files = [1, 2, 5].map(|threads| {
            let directory = dir.path().join(format!("{layout:?}-{threads}"));
            let report = make(&directory, layout, threads).unwrap();
            fs::read(directory.join(&report.files[0])).unwrap()
        });
        assert!(files[0] == files[1] && files[1] == files[2], "{layout:?}");
    }
}

/// The record `data/index` of a pickle's archive.
fn record(file: &Path, index: usize) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(fs::File::open(file).unwrap()).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(&format!("pytorch_model/data/{index}")).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_pickles_records_are_the_values_and_the_old_buffers() {
    let dir = TempDir::new().unwrap();
    let (bf16, f32) = (dir.path().join("bf16"), dir.path().join("f32"));
    make(&bf16, Layout::Safetensors, 2).unwrap();
    let report = make(&f32, Layout::BinF32, 2).unwrap();
    assert_eq!(report.files, ["pytorch_model.bin"]);
    let file = f32.join("pytorch_model.bin");
    assert_eq!(report.bytes, fs::metadata(&file).unwrap().len());
    let four = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    };
    let wte = four(&record(&file, 0));
    let rounded: Vec<f32> = wte.iter().map(|&value| half::bf16::from_f32(value).to_f32()).collect();
    assert_eq!(rounded, values(&Checkpoint::open(&bf16).unwrap(), "transformer.wte.weight"));
    let mask = record(&file, 2);
    assert_eq!(mask.chunks(5).map(|row| row.iter().sum::<u8>()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(mask[..5], [1, 0, 0, 0, 0]);
    assert_eq!(four(&record(&file, 3)), [-1e9]);
}

#[test]
fn what_is_there_is_left_alone() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("mine"), b"1").unwrap();
    let message = make(dir.path(), Layout::Safetensors, 1).unwrap_err().to_string();
    assert!(message.contains("is not empty; choose another directory"), "{message}");
    let message = make(&dir.path().join("mine"), Layout::Safetensors, 1).unwrap_err().to_string();
    assert!(message.contains("mine` is not a directory"), "{message}");
    assert_eq!(names(dir.path()), ["mine"]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    make(&dir.path().join("empty"), Layout::Safetensors, 1).unwrap();
}

#[test]
fn a_disk_that_is_too_small_is_said_before_anything_is_written() {
    let message = check_disk(Path::new("out"), 12_000, Some(11_999)).unwrap_err().to_string();
    assert!(
        message.starts_with("the checkpoint takes 12000 bytes, and 11999 are free where `out`"),
        "{message}"
    );
    assert!(check_disk(Path::new("out"), 12_000, Some(12_000)).is_ok());
    assert!(check_disk(Path::new("out"), 12_000, None).is_ok());
}
