//! Tests of `store`: golden adapters there and back, 16-bit adapters, and every mismatch with a plan.

use half::{bf16, f16};

use super::super::{TargetModules, lora_a_name, lora_b_name, tensor_specs};
use super::*;
use crate::weights::test_files::{f32_bytes, golden, write};

const Q: &str = "transformer.h.0.attn.q_proj";
const V: &str = "transformer.h.0.attn.v_proj";

fn specs(adapter: &Adapter) -> Vec<TensorSpec> {
    adapter.tensors.iter().map(|(name, tensor)| TensorSpec::new(name.clone(), tensor.shape.clone())).collect()
}

fn small(r: usize, modules: &[&str]) -> Adapter {
    let config = AdapterConfig {
        base_model_name_or_path: None,
        r,
        lora_alpha: 16.0,
        lora_dropout: 0.05,
        selection: TargetModules::names(["q_proj"]).into(),
        use_rslora: false,
    };
    let specs = tensor_specs(modules.iter().map(|module| (*module, 6, 4)), r);
    Adapter::initialise(config, &specs, 7).unwrap()
}

#[test]
fn golden_adapters_survive_a_round_trip_and_keep_their_bytes() {
    for case in ["plain", "padded", "accumulate", "alltargets"] {
        for state in ["adapter_init", "adapter_final"] {
            let source = golden(case).join(state);
            let adapter = Adapter::load(&source).unwrap();
            adapter.check(&specs(&adapter), adapter.config.r, case).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let saved = dir.path().join("out/adapter");
            adapter.save(&saved).unwrap();
            assert_eq!(Adapter::load(&saved).unwrap(), adapter, "{case}/{state}");
            let bytes = |dir: &Path| std::fs::read(dir.join(MODEL_FILE)).unwrap();
            assert_eq!(bytes(&saved), bytes(&source), "{case}/{state}: other bytes than PEFT's");
        }
    }
}

#[test]
fn saving_into_an_existing_directory_keeps_its_other_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), b"mine").unwrap();
    small(2, &[Q]).save(dir.path()).unwrap();
    let newer = small(3, &[Q]);
    newer.save(dir.path()).unwrap();
    assert_eq!(Adapter::load(dir.path()).unwrap(), newer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    assert_eq!(std::fs::read(dir.path().join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn sixteen_bit_tensors_are_widened() {
    let dir = tempfile::tempdir().unwrap();
    small(2, &[Q]).save(dir.path()).unwrap();
    let values = [0.1f32, -2.0, 3.5, 0.0, 1.0, 7.0, -0.25, 1e-3];
    let halves: Vec<u8> = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let bhalves: Vec<u8> =
        values.iter().chain(&values[..4]).flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    let (a, b) = (lora_a_name(Q), lora_b_name(Q));
    write(
        &dir.path().join(MODEL_FILE),
        &[(&a, Dtype::F16, vec![2, 4], halves), (&b, Dtype::BF16, vec![6, 2], bhalves)],
    );
    let adapter = Adapter::load(dir.path()).unwrap();
    assert_eq!(adapter.tensors[&a].values, values.map(|value| f16::from_f32(value).to_f32()));
    assert_eq!(adapter.tensors[&b].values[..8], values.map(|value| bf16::from_f32(value).to_f32()));
}

#[test]
fn each_mismatch_with_a_plan_has_its_message() {
    let adapter = small(2, &[Q]);
    let message =
        |expected: &[TensorSpec], r| adapter.check(expected, r, "out/step-400").unwrap_err().to_string();
    let expected = specs(&adapter);
    assert_eq!(
        message(&expected, 8),
        "the adapter `out/step-400` has rank 2, the plan was compiled for rank 8: \
         recompile with `--lora-rank 2`, or start from an adapter of rank 8"
    );
    let more = tensor_specs([(Q, 6, 4), (V, 6, 4)], 2);
    let missing = message(&more, 2);
    assert!(
        missing.contains("v_proj.lora_A.weight` and 1 more, which the plan trains: recompile with"),
        "{missing}"
    );
    assert!(missing.contains("`--lora-target-modules q_proj`"), "{missing}");
    let mut some_layers = small(2, &[Q]);
    some_layers.config.selection.layers = Some(vec![0, 2, 3]);
    let missing = some_layers.check(&more, 2, "out").unwrap_err().to_string();
    assert!(missing.contains("`--lora-target-modules q_proj --layers-to-transform 0,2-3`"), "{missing}");
    let extra = message(&expected[..1], 2);
    assert!(
        extra.contains("has tensor `base_model.model.transformer.h.0.attn.q_proj.lora_B.weight`, which"),
        "{extra}"
    );
    let wider = tensor_specs([(Q, 6, 5)], 2);
    assert!(message(&wider, 2).contains("lora_A.weight`: expected shape [2, 5], found [2, 4]"));
}

#[test]
fn modules_that_the_settings_select_must_be_there() {
    let mut adapter = small(2, &[Q]);
    let model = [Q, V, "transformer.h.1.attn.q_proj", "lm_head"];
    assert_eq!(adapter.missing(model), Some("transformer.h.1.attn.q_proj"));
    adapter.config.selection.layers = Some(vec![0]);
    assert_eq!(adapter.missing(model), None);
    adapter.config.selection = TargetModules::Pattern(r".*\.0\.attn\.[qv]_proj".to_owned()).into();
    assert_eq!(adapter.missing(model), Some(V));
    // What cannot be understood asks for nothing.
    adapter.config.selection = TargetModules::Pattern("(".to_owned()).into();
    assert_eq!(adapter.missing(model), None);
}

#[test]
fn files_that_are_no_adapter_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = || Adapter::load(dir.path()).unwrap_err().to_string();
    assert!(error().contains("adapter_config.json`: No such file"), "{}", error());
    let model = dir.path().join(MODEL_FILE);
    small(2, &[Q]).save(dir.path()).unwrap();

    let tensor = |name: &str, dtype, shape: &[usize], bytes: usize| {
        write(&model, &[(name, dtype, shape.to_vec(), vec![0; bytes])]);
    };
    tensor("transformer.wte.weight", Dtype::F32, &[1], 4);
    assert!(error().contains("`transformer.wte.weight` is not a LoRA weight"), "{}", error());
    tensor(&lora_a_name(Q), Dtype::I32, &[2, 1], 8);
    assert!(error().contains("expected dtype F32, F16 or BF16, found I32"), "{}", error());
    tensor(&lora_a_name(Q), Dtype::F32, &[4, 2], 32);
    assert!(error().contains("has shape [4, 2], but adapter_config.json says rank 2"), "{}", error());
    tensor(&lora_b_name(Q), Dtype::F32, &[2], 8);
    assert!(error().contains("has shape [2], but"), "{}", error());

    write(&model, &[(&lora_a_name(Q), Dtype::F32, vec![2, 1], f32_bytes(&[1.0, 2.0]))]);
    let whole = std::fs::read(&model).unwrap();
    std::fs::write(&model, &whole[..whole.len() - 1]).unwrap();
    assert!(error().contains("adapter_model.safetensors` is truncated"), "{}", error());
    std::fs::rename(&model, dir.path().join("adapter_model.bin")).unwrap();
    assert!(error().contains("adapter_model.bin only"), "{}", error());
}
