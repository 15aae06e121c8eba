//! Pickles that `synth` writes, as another reader of them sees them.

use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};
use gptjc_graphs::models::gptj::{config, names};
use gptjc_runtime::synth::{Layout, OldBuffers, SynthRequest, synth};
use gptjc_runtime::weights::{Checkpoint, TensorSpec, convert};
use half::bf16;
use std::path::Path;

const CONFIG: &str = r#"{"model_type": "gptj", "n_layer": 2, "n_embd": 16, "n_head": 2, "rotary_dim": 4,
    "vocab_size": 50, "n_positions": 6}"#;

fn specs() -> Vec<TensorSpec> {
    let config = config::parse(CONFIG).unwrap();
    names::checkpoint_tensors(&config).into_iter().map(|(name, shape)| TensorSpec::new(name, shape)).collect()
}

fn make(directory: &Path, layout: Layout) {
    let tensors = specs();
    let request = SynthRequest {
        tensors: &tensors,
        old_buffers: OldBuffers { layers: 2, positions: 6 },
        config: CONFIG.as_bytes(),
        seed: 11,
        std: 0.02,
        layout,
        max_shard_bytes: u64::MAX,
        threads: 2,
        directory,
    };
    synth(&request, &|_| {}).unwrap();
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn candle_reads_what_torch_would_and_layouts_agree() {
    let directory = tempfile::tempdir().unwrap();
    let [bf16_dir, f16_dir, f32_dir] = ["bf16", "f16", "f32"].map(|name| directory.path().join(name));
    make(&bf16_dir, Layout::Safetensors);
    make(&f16_dir, Layout::BinF16);
    make(&f32_dir, Layout::BinF32);
    let checkpoint = Checkpoint::open(&bf16_dir).unwrap();
    let open = |dir: &Path| PthTensors::new(dir.join("pytorch_model.bin"), None).unwrap();
    let (half, single) = (open(&f16_dir), open(&f32_dir));
    // Two buffers a layer.
    assert_eq!(half.tensor_infos().len(), specs().len() + 4);
    for spec in specs() {
        let get = |file: &PthTensors| file.get(&spec.name).unwrap().unwrap();
        let (half, single) = (get(&half), get(&single));
        assert_eq!((half.dtype(), single.dtype()), (DType::F16, DType::F32));
        assert_eq!((half.dims(), single.dims()), (spec.shape.as_slice(), spec.shape.as_slice()));
        let exact = floats(&single);
        let rounded: Vec<f32> = exact.iter().map(|&value| half::f16::from_f32(value).to_f32()).collect();
        assert_eq!(floats(&half), rounded, "{}", spec.name);
        let rounded: Vec<f32> = exact.iter().map(|&value| bf16::from_f32(value).to_f32()).collect();
        assert_eq!(convert::read_f32(&checkpoint.tensor(&spec.name).unwrap()), rounded, "{}", spec.name);
    }
    let mask = single.get("transformer.h.1.attn.bias").unwrap().unwrap();
    assert_eq!((mask.dtype(), mask.dims()), (DType::U8, [1, 1, 6, 6].as_slice()));
    let rows: Vec<f32> = floats(&mask).chunks(6).map(|row| row.iter().sum()).collect();
    assert_eq!(rows, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let masked = single.get("transformer.h.0.attn.masked_bias").unwrap().unwrap();
    assert_eq!((masked.dims().len(), floats(&masked)), (0, vec![-1e9]));
}
