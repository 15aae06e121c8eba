//! Tests of `convert`: every layout gives the same bytes as rounding directly, and a second time nothing is done.

use std::fs;

use half::bf16;

use super::*;
use crate::synth::{Layout, OldBuffers, SynthRequest, synth};
use crate::weights::convert::{read_bf16, read_f32};

const CONFIG: &[u8] = br#"{"model_type": "gptj", "torch_dtype": "float32"}"#;

fn specs() -> Vec<TensorSpec> {
    vec![
        TensorSpec::new("transformer.wte.weight", [301, 64]),
        TensorSpec::new("transformer.h.0.attn.q_proj.weight", [64, 64]),
        TensorSpec::new("transformer.h.0.mlp.fc_in.bias", [256]),
        TensorSpec::new("transformer.ln_f.weight", [64]),
    ]
}

/// A made-up model, which has its masks where its layout has such.
fn model(layout: Layout) -> tempfile::TempDir {
    let parent = tempfile::tempdir().unwrap();
    let request = SynthRequest {
        tensors: &specs(),
        old_buffers: OldBuffers { layers: 1, positions: 16 },
        config: CONFIG,
        seed: 3,
        std: 0.02,
        layout,
        max_shard_bytes: 20_000,
        threads: 1,
        directory: &parent.path().join("model"),
    };
    synth(&request, &|_| {}).unwrap();
    parent
}

fn request<'a>(
    checkpoint: &'a Checkpoint,
    tensors: &'a [TensorSpec],
    directory: &'a Path,
) -> ConvertRequest<'a> {
    let (dtype, tokenizer_dir) = (WeightDtype::Bf16, None);
    ConvertRequest {
        checkpoint,
        tensors,
        dtype,
        tokenizer_dir,
        directory,
        overwrite: false,
        max_shard_bytes: 1 << 30,
    }
}

#[test]
fn every_layout_gives_the_bytes_of_direct_rounding() {
    for layout in [Layout::Safetensors, Layout::Sharded, Layout::BinF16, Layout::BinF32] {
        let source = model(layout);
        let (specs, out) = (specs(), source.path().join("out"));
        let checkpoint = Checkpoint::open(&source.path().join("model")).unwrap();
        assert_eq!(
            checkpoint.check(&specs).unwrap(),
            Vec::<String>::new(),
            "{layout:?}: the masks are no weights"
        );
        let mut seen = Vec::new();
        let report =
            convert(&request(&checkpoint, &specs, &out), &mut |progress| seen.push(progress.bytes)).unwrap();
        assert_eq!(seen.last(), Some(&report.bytes));
        let converted = Checkpoint::open(&out).unwrap();
        assert_eq!(converted.names().count(), specs.len());
        for (spec, rounding) in specs.iter().zip(&report.tensors) {
            let (before, after) =
                (checkpoint.tensor(&spec.name).unwrap(), converted.tensor(&spec.name).unwrap());
            let expected: Vec<u8> = read_bf16(&before).iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(
                (after.dtype, after.shape, after.bytes),
                (WeightDtype::Bf16, before.shape, expected.as_slice())
            );
            check_rounding(&read_f32(&before), rounding);
        }
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["torch_dtype"], "bfloat16");
    }
}

/// Counts again, in f64 and without blocks.
fn check_rounding(exact: &[f32], found: &TensorRounding) {
    let errors: Vec<f64> = exact
        .iter()
        .filter(|&&value| value != 0.0)
        .map(|&value| ((bf16::from_f32(value).to_f64() - f64::from(value)) / f64::from(value)).abs())
        .collect();
    let changed = errors.iter().filter(|&&error| error > 0.0).count() as u64;
    let mean = errors.iter().sum::<f64>() / exact.len() as f64;
    let largest = errors.iter().copied().fold(0.0, f64::max);
    assert_eq!(
        (found.rounding.elements, found.rounding.changed),
        (exact.len() as u64, changed),
        "{}",
        found.name
    );
    // Errors are computed in f32, from exact differences.
    assert!((found.rounding.mean_relative_error() - mean).abs() <= 1e-7 * mean, "{found:?} {mean:e}");
    assert!((found.rounding.largest_relative_error - largest).abs() <= 1e-7 * largest);
    assert!(largest <= 1.0 / 256.0, "half of the last place of 8 bits");
}

#[test]
fn the_report_says_what_rounding_cost() {
    let (f16, bf16) = (model(Layout::BinF16), model(Layout::Safetensors));
    let specs = specs();
    let text = |source: &tempfile::TempDir| {
        let checkpoint = Checkpoint::open(&source.path().join("model")).unwrap();
        let out = source.path().join("out");
        convert(&request(&checkpoint, &specs, &out), &mut |_| {}).unwrap().to_string()
    };
    let lossy = text(&f16);
    assert!(
        lossy.contains("from float16") && lossy.contains("4 tensors, 47360 bytes of bfloat16"),
        "{lossy}"
    );
    assert!(lossy.contains("elements; relative error 1.") && lossy.contains("worst tensor: "), "{lossy}");
    assert!(text(&bf16).contains("rounding   none: bfloat16 holds every value"));
}

#[test]
fn what_is_infinite_is_said() {
    use crate::weights::test_files::{f32_bytes, write};
    let dir = tempfile::tempdir().unwrap();
    let values = f32_bytes(&[f32::MAX, f32::INFINITY, 1.0, f32::NAN]);
    write(&dir.path().join("model.safetensors"), &[("w", safetensors::Dtype::F32, vec![4], values)]);
    fs::write(dir.path().join("config.json"), CONFIG).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let (specs, out) = ([TensorSpec::new("w", [4])], dir.path().join("out"));
    let text = convert(&request(&checkpoint, &specs, &out), &mut |_| {}).unwrap().to_string();
    assert!(text.contains("overflow   1 elements became infinite, the first in `w`"), "{text}");
    assert!(text.contains("source     2 elements were infinite or NaN before, the first in `w`"), "{text}");
    // f16 refuses what it cannot hold.
    let narrow =
        ConvertRequest { dtype: WeightDtype::F16, overwrite: true, ..request(&checkpoint, &specs, &out) };
    let before = fs::read(out.join("model.safetensors")).unwrap();
    assert!(convert(&narrow, &mut |_| {}).unwrap_err().to_string().contains("float16 cannot hold"));
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), before, "what was there is as it was");
}

#[test]
fn a_second_time_is_known_until_a_file_changes() {
    let source = model(Layout::BinF32);
    let (specs, out) = (specs(), source.path().join("out"));
    let checkpoint = Checkpoint::open(&source.path().join("model")).unwrap();
    let request = ConvertRequest { max_shard_bytes: 20_000, ..request(&checkpoint, &specs, &out) };
    assert!(!is_up_to_date(&request));
    let report = convert(&request, &mut |_| {}).unwrap();
    assert_eq!(report.files.len(), 2);
    assert!(is_up_to_date(&request));
    assert_eq!(Record::read(&out).unwrap().rounding(), &report.rounding());
    assert!(!is_up_to_date(&ConvertRequest { dtype: WeightDtype::F32, ..request }));
    assert!(!is_up_to_date(&ConvertRequest { max_shard_bytes: 1, ..request }));
    let error = convert(&request, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");

    // Damage to what was made, and any change of what it was made of.
    let shard = out.join(&report.files[1]);
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[1..]).unwrap();
    assert!(!is_up_to_date(&request));
    fs::write(&shard, &bytes).unwrap();
    assert!(is_up_to_date(&request));
    let config = source.path().join("model/config.json");
    fs::write(&config, [CONFIG, b" "].concat()).unwrap();
    assert!(!is_up_to_date(&request));
    convert(&ConvertRequest { overwrite: true, ..request }, &mut |_| {}).unwrap();
    assert!(is_up_to_date(&request));
    let weights =
        fs::File::options().append(true).open(source.path().join("model/pytorch_model.bin")).unwrap();
    weights.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(!is_up_to_date(&request));
    fs::write(out.join(RECORD_FILE), b"{").unwrap();
    assert!(!is_up_to_date(&request));
}

#[test]
fn a_disk_that_is_too_small_is_known_before() {
    let error = check_disk(Path::new("out"), 10, Some(9)).unwrap_err().to_string();
    assert_eq!(
        error,
        "`out` would take 10 bytes, and 9 are free there; free some space or choose a place on another disk"
    );
    assert!(
        check_disk(Path::new("out"), 10, Some(10)).is_ok() && check_disk(Path::new("out"), 10, None).is_ok()
    );
}

#[test]
fn the_model_itself_is_never_replaced() {
    let source = model(Layout::Sharded);
    let (specs, place) = (specs(), source.path().join("model"));
    let checkpoint = Checkpoint::open(&place).unwrap();
    let request = ConvertRequest { overwrite: true, ..request(&checkpoint, &specs, &place) };
    let error = convert(&request, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("is the directory of the model; it would be lost"), "{error}");
}
