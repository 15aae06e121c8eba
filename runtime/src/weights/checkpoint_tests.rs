//! Tests of `checkpoint`: golden models, shards, prefixes, and every way a directory can be wrong.

use super::super::test_files::{f32_bytes, golden, write};
use super::*;

type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn f32_tensor(name: &'static str, shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    (name, Dtype::F32, shape.to_vec(), f32_bytes(&vec![0.5; len]))
}

/// A directory with one file of `tensors`.
fn directory(tensors: &[Tensor]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join(SINGLE_FILE), tensors);
    dir
}

/// A directory with two shards and the given index text.
fn sharded(index: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.safetensors"), &[f32_tensor("transformer.wte.weight", &[4, 2])]);
    write(&dir.path().join("b.safetensors"), &[f32_tensor("lm_head.weight", &[4, 2])]);
    std::fs::write(dir.path().join(INDEX_FILE), index).unwrap();
    dir
}

const GOOD_INDEX: &str = r#"{"metadata":{"total_size":64},
    "weight_map":{"transformer.wte.weight":"a.safetensors","lm_head.weight":"b.safetensors"}}"#;

fn open_error(dir: &Path) -> String {
    Checkpoint::open(dir).unwrap_err().to_string()
}

#[test]
fn a_golden_model_opens_and_fits_itself() {
    let checkpoint = Checkpoint::open(&golden("plain/model")).unwrap();
    assert_eq!(checkpoint.names().count(), 25);
    let view = checkpoint.tensor("transformer.h.1.mlp.fc_in.weight").unwrap();
    assert_eq!((view.dtype, view.shape, view.len()), (WeightDtype::F32, [256, 64].as_slice(), 256 * 64));
    let file = std::fs::read(view.file).unwrap();
    let offset = view.offset as usize;
    assert_eq!(&file[offset..offset + view.bytes.len()], view.bytes);
    let specs: Vec<TensorSpec> = checkpoint
        .names()
        .map(|name| TensorSpec::new(name, checkpoint.tensor(name).unwrap().shape))
        .collect();
    assert_eq!(checkpoint.check(&specs).unwrap(), Vec::<String>::new());
    let warnings = checkpoint.check(&specs[1..]).unwrap();
    assert_eq!(
        warnings,
        ["tensor `lm_head.bias` in model.safetensors is not part of the model and is not used"]
    );
}

#[test]
fn shards_are_read_through_their_index() {
    let dir = sharded(GOOD_INDEX);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["lm_head.weight", "transformer.wte.weight"]);
    assert!(checkpoint.tensor("lm_head.weight").unwrap().file.ends_with("b.safetensors"));
}

#[test]
fn an_index_that_is_wrong_is_refused() {
    for (from, to, expected) in [
        ("\"b.safetensors\"", "\"c.safetensors\"", "`c.safetensors` (1 tensors) is missing"),
        ("\"b.safetensors\"", "\"../b.safetensors\"", "plain name"),
        ("\"b.safetensors\"", "\"/b.safetensors\"", "plain name"),
        ("\"b.safetensors\"", "\"sub/b.safetensors\"", "plain name"),
        ("\"b.safetensors\"", "\"\"", "plain name"),
        ("\"b.safetensors\"", "\"..\"", "plain name"),
        (
            "\"b.safetensors\"",
            "\"a.safetensors\"",
            "tensor `lm_head.weight` in `a.safetensors`, but it is not there",
        ),
        ("lm_head.weight", "lm_head.bias", "tensor `lm_head.weight` of `b.safetensors` is not in the index"),
        ("weight_map", "weights", "missing field `weight_map`"),
        ("}}", "", "not a valid index"),
    ] {
        let message = open_error(sharded(&GOOD_INDEX.replace(from, to)).path());
        assert!(message.contains(expected) && message.contains(INDEX_FILE), "{from} -> {to}: {message}");
    }
    assert!(open_error(sharded(r#"{"weight_map":{}}"#).path()).contains("names no tensor"));
}

#[test]
fn one_tensor_in_two_shards_is_refused() {
    let dir = sharded(GOOD_INDEX);
    write(
        &dir.path().join("b.safetensors"),
        &[f32_tensor("lm_head.weight", &[4, 2]), f32_tensor("transformer.wte.weight", &[4, 2])],
    );
    assert!(open_error(dir.path()).contains("but `b.safetensors` has it too"));
}

#[test]
fn names_of_the_base_model_get_their_prefix_and_a_missing_head_is_explained() {
    let dir = directory(&[f32_tensor("h.0.ln_1.weight", &[2]), f32_tensor("wte.weight", &[4, 2])]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(
        checkpoint.names().collect::<Vec<_>>(),
        ["transformer.h.0.ln_1.weight", "transformer.wte.weight"]
    );
    let message = checkpoint.check(&[TensorSpec::new("lm_head.weight", [4, 2])]).unwrap_err().to_string();
    assert!(message.contains("save GPTJForCausalLM"), "{message}");
    let both = directory(&[f32_tensor("wte.weight", &[4, 2]), f32_tensor("transformer.wte.weight", &[4, 2])]);
    assert!(open_error(both.path()).contains("with and without the prefix"));
}

#[test]
fn old_buffers_are_ignored_whatever_their_dtype() {
    let dir = directory(&[
        f32_tensor("transformer.wte.weight", &[4, 2]),
        ("transformer.h.0.attn.bias", Dtype::U8, vec![1, 1, 2, 2], vec![1; 4]),
        f32_tensor("transformer.h.0.attn.masked_bias", &[]),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(
        checkpoint.check(&[TensorSpec::new("transformer.wte.weight", [4, 2])]).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_missing_tensor_a_wrong_shape_and_a_wrong_dtype_are_each_named() {
    let dir = directory(&[
        f32_tensor("transformer.wte.weight", &[4, 2]),
        ("transformer.ln_f.weight", Dtype::I64, vec![2], vec![0; 16]),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let message = |name: &str, shape: &[usize]| {
        checkpoint.check(&[TensorSpec::new(name, shape)]).unwrap_err().to_string()
    };
    let missing = message("transformer.ln_f.bias", &[2]);
    assert!(missing.contains("tensor `transformer.ln_f.bias` is missing (expected shape [2])"), "{missing}");
    let shape = message("transformer.wte.weight", &[5, 2]);
    assert!(shape.contains("in model.safetensors: expected shape [5, 2], found [4, 2]"), "{shape}");
    let dtype = message("transformer.ln_f.weight", &[2]);
    assert!(dtype.contains("expected dtype F32, F16 or BF16, found I64"), "{dtype}");
    assert!(checkpoint.tensor("transformer.ln_f.weight").is_none());
}

#[test]
fn many_problems_are_counted_not_all_shown() {
    let dir = directory(&[f32_tensor("transformer.wte.weight", &[4, 2])]);
    let specs: Vec<TensorSpec> =
        (0..9).map(|n| TensorSpec::new(format!("transformer.h.{n}.x"), [1])).collect();
    let message = Checkpoint::open(dir.path()).unwrap().check(&specs).unwrap_err().to_string();
    assert!(message.contains("`transformer.h.3.x`") && !message.contains("`transformer.h.4.x`"), "{message}");
    assert!(message.contains("and 5 more"), "{message}");
}

#[test]
fn a_directory_without_safetensors_says_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    assert!(open_error(dir.path()).contains("expected model.safetensors or pytorch_model.bin"));
    std::fs::write(dir.path().join("pytorch_model.bin"), b"PK").unwrap();
    let message = open_error(dir.path());
    assert!(message.contains("pytorch_model.bin` is of an unknown format"), "{message}");
    assert!(open_error(&dir.path().join("nowhere")).contains("is not a directory"));
}

#[test]
fn a_truncated_shard_is_named() {
    let dir = sharded(GOOD_INDEX);
    let path = dir.path().join("b.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    let message = open_error(dir.path());
    assert!(message.contains("b.safetensors` is truncated"), "{message}");
}

/// A directory with the shards `zip.bin` and `legacy.bin` under the names that `index` has for them.
fn torch_shards(index: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, source) in [("a.bin", "zip.bin"), ("b.bin", "legacy.bin")] {
        std::fs::copy(golden("torch").join(source), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("pytorch_model.bin.index.json"), index).unwrap();
    dir
}

#[test]
fn files_of_torch_are_weights_like_others() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(golden("torch/legacy.bin"), dir.path().join("pytorch_model.bin")).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.format(), Format::Torch);
    assert_eq!(checkpoint.files().collect::<Vec<_>>(), [dir.path().join("pytorch_model.bin")]);
    let view = checkpoint.tensor("transformer.h.0.attn.q_proj.weight").unwrap();
    assert_eq!((view.dtype, view.shape, view.len()), (WeightDtype::Bf16, [2, 6].as_slice(), 12));
    let file = std::fs::read(view.file).unwrap();
    assert_eq!(&file[view.offset as usize..][..view.bytes.len()], view.bytes);
    let message = |name: &str, shape: &[usize]| {
        checkpoint.check(&[TensorSpec::new(name, shape)]).unwrap_err().to_string()
    };
    let dtype = message("other.torch.int64", &[2]);
    assert!(dtype.contains("in pytorch_model.bin: expected dtype F32, F16 or BF16, found I64"), "{dtype}");
    let shape = message("transformer.wte.weight", &[6, 4]);
    assert!(shape.contains("expected shape [6, 4], found [4, 6]"), "{shape}");
    // safetensors come first, as in transformers.
    write(&dir.path().join(SINGLE_FILE), &[f32_tensor("transformer.wte.weight", &[4, 2])]);
    assert_eq!(Checkpoint::open(dir.path()).unwrap().format(), Format::Safetensors);
}

#[test]
fn shards_of_torch_are_held_against_their_index() {
    let names: Vec<String> = {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(golden("torch/zip.bin"), dir.path().join("pytorch_model.bin")).unwrap();
        Checkpoint::open(dir.path()).unwrap().names().map(str::to_owned).collect()
    };
    let index = |buffers: &str| {
        let entries: Vec<String> = names.iter().map(|name| format!("{name:?}: \"a.bin\"")).collect();
        format!("{{\"weight_map\": {{{}{buffers}}}}}", entries.join(", "))
    };
    let dir = torch_shards(&index(""));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().count(), 14);
    let files: Vec<_> = checkpoint.files().map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(files, ["pytorch_model.bin.index.json", "a.bin"]);
    // The index of an old checkpoint lists its masks, which are not looked for.
    let masks = torch_shards(&index(", \"transformer.h.0.attn.bias\": \"a.bin\""));
    assert_eq!(Checkpoint::open(masks.path()).unwrap().names().count(), 14);
    let both = torch_shards(&index(", \"more\": \"b.bin\""));
    assert!(open_error(both.path()).contains("but `b.bin` has it too"));
    let missing = torch_shards(&index(", \"more\": \"c.bin\""));
    assert!(open_error(missing.path()).contains("`c.bin` (1 tensors) is missing"));
}
