//! Copies that a launcher starts are refused by a program without MPI.

use crate::common::{copy_directory, golden, gptjc_alone};
use std::path::Path;

#[test]
fn copies_are_told_what_to_do_and_write_nothing() {
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join("model");
    copy_directory(&golden("accumulate/model"), &model);
    let (out, batches) = (root.path().join("out"), golden("accumulate/batches.safetensors"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (model, batches, directory) = (text(&model), text(&batches), text(&out));
    let arguments = ["train", "--model", &model, "--train-tokens", &batches, "--output-dir", &directory];
    let of_rank = |rank: &str, count: &str| {
        let variables = [("OMPI_COMM_WORLD_SIZE", count), ("OMPI_COMM_WORLD_RANK", rank)];
        gptjc_alone(&arguments, &variables.map(|(name, value)| (name, Path::new(value))))
    };
    let message = of_rank("0", "4").error();
    assert!(message.contains("has started 4 copies of gptjc"), "{message}");
    assert!(message.contains("--features mpi") && message.contains("without mpirun"), "{message}");
    let other = of_rank("1", "4").ok();
    assert!(other.out.is_empty() && other.err.is_empty(), "{other:?}");
    assert!(!out.exists());
    of_rank("0", "1").ok();
    assert!(out.join("adapter_model.safetensors").exists());
}
