//! Merges of the golden adapters: values, types, shards, configuration, and what is refused.

use std::fs;
use std::io::{self, Write};

use super::*;
use crate::adapter::{lora_a_name, lora_b_name};
use crate::weights::convert::read_f32;
use crate::weights::test_files::golden;

struct Case {
    checkpoint: Checkpoint,
    tensors: Vec<TensorSpec>,
    adapter: Adapter,
    adapter_dir: PathBuf,
}

impl Case {
    fn open(name: &str) -> Self {
        let checkpoint = Checkpoint::open(&golden(name).join("model")).unwrap();
        let spec = |name: &str| TensorSpec::new(name, checkpoint.tensor(name).unwrap().shape);
        let tensors = checkpoint.names().map(spec).collect();
        let adapter_dir = golden(name).join("adapter_final");
        let adapter = Adapter::load(&adapter_dir).unwrap();
        Case { checkpoint, tensors, adapter, adapter_dir }
    }

    fn request<'a>(&'a self, directory: &'a Path) -> MergeRequest<'a> {
        MergeRequest {
            checkpoint: &self.checkpoint,
            tensors: &self.tensors,
            adapter: &self.adapter,
            adapter_dir: &self.adapter_dir,
            dtype: None,
            tokenizer_dir: None,
            directory,
            overwrite: false,
            max_shard_bytes: MAX_SHARD_BYTES,
        }
    }

    /// `W + scaling · B·A` in f64.
    fn expected(&self, name: &str) -> Vec<f64> {
        let view = self.checkpoint.tensor(name).unwrap();
        let base = read_f32(&view).into_iter().map(f64::from);
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let tensors = &self.adapter.tensors;
        let (Some(a), Some(b)) = (tensors.get(&lora_a_name(module)), tensors.get(&lora_b_name(module)))
        else {
            return base.collect();
        };
        let (rank, inputs) = (a.shape[0], a.shape[1]);
        let product = |row: usize, column: usize| -> f64 {
            let terms = (0..rank)
                .map(|r| f64::from(b.values[row * rank + r]) * f64::from(a.values[r * inputs + column]));
            terms.sum()
        };
        let scaling = self.adapter.config.scaling();
        base.enumerate()
            .map(|(index, weight)| weight + scaling * product(index / inputs, index % inputs))
            .collect()
    }
}

fn run(request: &MergeRequest<'_>) -> Result<MergeReport, MergeError> {
    merge(request, &mut |_| {})
}

#[test]
fn merged_weights_are_base_plus_scaled_product_rounded_once() {
    // Relative to the exact value plus, for the f32 sums, to the sum's terms, which are of size 1 here.
    let types =
        [(None, 0.0), (Some(WeightDtype::Bf16), 2f64.powi(-8)), (Some(WeightDtype::F16), 2f64.powi(-11))];
    for name in ["plain", "alltargets"] {
        let case = Case::open(name);
        for (dtype, unit_roundoff) in types {
            let parent = tempfile::tempdir().unwrap();
            let directory = parent.path().join("deep/merged");
            let report = run(&MergeRequest { dtype, ..case.request(&directory) }).unwrap();
            assert_eq!(report.merged, case.adapter.tensors.len() / 2);
            let merged = Checkpoint::open(&directory).unwrap();
            assert_eq!(merged.check(&case.tensors).unwrap(), Vec::<String>::new());
            for (spec, change) in case.tensors.iter().zip(&report.tensors) {
                let view = merged.tensor(&spec.name).unwrap();
                assert_eq!(view.dtype, dtype.unwrap_or(WeightDtype::F32));
                let exact = case.expected(&spec.name);
                for (found, exact) in read_f32(&view).into_iter().zip(exact) {
                    let bound = exact.abs() * unit_roundoff * 1.001 + 3e-7 * exact.abs().max(0.05) + 6e-8;
                    let difference = (f64::from(found) - exact).abs();
                    assert!(difference <= bound, "{name}, {}: {found} for {exact}", spec.name);
                }
                assert!(change.rounding <= unit_roundoff, "{change:?}");
                assert_eq!(change.change.is_some(), change.rounding_of_change.is_some());
            }
        }
    }
}

#[test]
fn numbers_of_the_report_are_those_of_the_files() {
    let case = Case::open("plain");
    let parent = tempfile::tempdir().unwrap();
    let exact_dir = parent.path().join("f32");
    let rounded_dir = parent.path().join("bf16");
    let exact_report = run(&case.request(&exact_dir)).unwrap();
    let report = run(&MergeRequest { dtype: Some(WeightDtype::Bf16), ..case.request(&rounded_dir) }).unwrap();
    let (exact, rounded) = (Checkpoint::open(&exact_dir).unwrap(), Checkpoint::open(&rounded_dir).unwrap());
    let name = "transformer.h.1.attn.v_proj.weight";
    let read = |from: &Checkpoint| -> Vec<f64> {
        read_f32(&from.tensor(name).unwrap()).into_iter().map(f64::from).collect()
    };
    let (base, exact, rounded) = (read(&case.checkpoint), read(&exact), read(&rounded));
    let norm = |one: &[f64], other: &[f64]| -> f64 {
        one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
    };
    let zero = vec![0.0; exact.len()];
    let found = report.tensors.iter().find(|tensor| tensor.name == name).unwrap();
    let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-9;
    assert!(close(found.rounding, norm(&rounded, &exact) / norm(&exact, &zero)), "{found:?}");
    assert!(close(found.change.unwrap(), norm(&exact, &base) / norm(&base, &zero)), "{found:?}");
    assert!(
        close(found.rounding_of_change.unwrap(), norm(&rounded, &exact) / norm(&exact, &base)),
        "{found:?}"
    );
    let largest = rounded.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert_eq!(found.rounding_largest, largest);
    assert!(exact_report.tensors.iter().all(|tensor| tensor.rounding == 0.0));
    assert!(exact_report.to_string().contains("rounding   none"), "{exact_report}");
    assert!(report.to_string().contains("rounding   once; worst tensor: 1."), "{report}");
}

#[test]
fn large_models_are_split_as_hugging_face_does_it() {
    let case = Case::open("plain");
    let parent = tempfile::tempdir().unwrap();
    let (whole, split) = (parent.path().join("whole"), parent.path().join("split"));
    let one = run(&case.request(&whole)).unwrap();
    assert_eq!(one.files, ["model.safetensors"]);
    // Smaller than the largest tensor, which then has a file of its own.
    let report = run(&MergeRequest { max_shard_bytes: 100_000, ..case.request(&split) }).unwrap();
    let count = report.files.len();
    assert!(count > 3, "{:?}", report.files);
    assert_eq!(report.files[1], format!("model-00002-of-{count:05}.safetensors"));
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(split.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], report.bytes);
    let (whole, split) = (Checkpoint::open(&whole).unwrap(), Checkpoint::open(&split).unwrap());
    for name in whole.names() {
        assert_eq!(whole.tensor(name).unwrap().bytes, split.tensor(name).unwrap().bytes, "{name}");
    }
    let over = report.files.iter().filter(|file| {
        let file = fs::metadata(parent.path().join("split").join(file)).unwrap().len();
        file > 100_000 + 4096
    });
    assert_eq!(over.count(), 2, "only the two [512, 64] tables are larger than a file may be");
}

#[test]
fn the_configuration_says_the_stored_type() {
    let case = Case::open("plain");
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("merged");
    run(&MergeRequest { dtype: Some(WeightDtype::F16), ..case.request(&directory) }).unwrap();
    let read = |directory: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(directory.join("config.json")).unwrap()).unwrap()
    };
    let mut expected = read(case.checkpoint.dir());
    expected["dtype"] = "float16".into();
    assert_eq!(read(&directory), expected);
    assert!(directory.join("generation_config.json").is_file());
}

#[test]
fn a_directory_is_replaced_only_if_asked_and_never_an_input() {
    let case = Case::open("plain");
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("merged");
    run(&case.request(&directory)).unwrap();
    let message = |request: &MergeRequest<'_>| run(request).unwrap_err().to_string();
    let again = message(&case.request(&directory));
    assert!(again.contains("is not empty") && again.contains("--overwrite-output-dir"), "{again}");
    run(&MergeRequest { overwrite: true, ..case.request(&directory) }).unwrap();
    fs::write(directory.join("thesis.tex"), "precious").unwrap();
    let foreign = message(&MergeRequest { overwrite: true, ..case.request(&directory) });
    assert!(foreign.contains("`thesis.tex`") && foreign.contains("nothing was replaced"), "{foreign}");
    assert_eq!(fs::read_to_string(directory.join("thesis.tex")).unwrap(), "precious");
    let input = message(&MergeRequest { overwrite: true, ..case.request(case.checkpoint.dir()) });
    assert!(input.contains("is the directory of the model; it would be lost"), "{input}");
    let file = parent.path().join("file");
    fs::write(&file, "a file").unwrap();
    assert!(message(&case.request(&file)).contains("is not a directory"));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "nothing is left beside");
}

#[test]
fn a_value_that_f16_cannot_hold_leaves_nothing() {
    let mut case = Case::open("plain");
    let b = lora_b_name("transformer.h.0.attn.q_proj");
    case.adapter.tensors.get_mut(&b).unwrap().values[0] = 1e9;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("merged");
    let error = run(&MergeRequest { dtype: Some(WeightDtype::F16), ..case.request(&directory) }).unwrap_err();
    assert!(error.to_string().contains("which float16 cannot hold"), "{error}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

/// A disk with room for some bytes.
struct SmallDisk(usize);

impl Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_names_the_file_and_what_to_do() {
    let case = Case::open("plain");
    let request = case.request(Path::new("out"));
    let plan = shards::plan(&request, &check(&request).unwrap()).unwrap();
    for room in [0, 10_000, 200_000] {
        let shown = Path::new("out/model.safetensors");
        let shard = &plan.shards[0];
        let error = write::write_shard(&mut SmallDisk(room), shown, shard, &request, &mut |_, _| {});
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write `out/model.safetensors`") && error.contains("free space"),
            "{error}"
        );
    }
}
