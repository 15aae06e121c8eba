//! Tests of `config` and `unsupported`: golden files, the minimal file, and one refusal for each setting.

use serde_json::json;

use super::*;
use crate::weights::test_files::golden;

fn parse(config: &Value) -> Result<AdapterConfig, String> {
    AdapterConfig::from_json(&config.to_string(), Path::new("run/adapter_config.json"))
        .map_err(|error| error.to_string())
}

/// The settings file of a golden case, as the current PEFT writes it.
fn written_by_peft(case: &str) -> Value {
    let text = std::fs::read_to_string(golden(case).join("adapter_init/adapter_config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_peft_writes_is_read() {
    let plain = parse(&written_by_peft("plain")).unwrap();
    let targets = TargetModules::names(["q_proj", "v_proj", "k_proj", "out_proj"]);
    assert_eq!((plain.r, plain.lora_alpha, plain.use_rslora), (8, 54.0, false));
    assert_eq!(plain.selection, targets.into());
    assert_eq!(plain.scaling(), 6.75);
    let all = parse(&written_by_peft("alltargets")).unwrap();
    assert_eq!((all.r, all.use_rslora, all.scaling()), (3, true, 12.0 / 3f64.sqrt()));
}

#[test]
fn an_old_file_without_the_newer_settings_is_read() {
    let old =
        json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16.5, "target_modules": ["q_proj", "q_proj"]});
    let config = parse(&old).unwrap();
    assert_eq!(config.selection, TargetModules::names(["q_proj"]).into());
    assert_eq!((config.lora_alpha, config.lora_dropout), (16.5, 0.0));
}

#[test]
fn what_we_write_is_minimal_and_reads_back() {
    for (targets, use_rslora, alpha) in [
        (TargetModules::names(["v_proj", "q_proj"]), false, 54.0),
        (TargetModules::Pattern(r".*\.q_proj".to_owned()), true, 0.1),
        (TargetModules::AllLinear, false, 16.0),
    ] {
        let config = AdapterConfig {
            base_model_name_or_path: Some("models/gpt-j".to_owned()),
            r: 8,
            lora_alpha: alpha,
            lora_dropout: 0.05,
            selection: targets.into(),
            use_rslora,
        };
        let text = config.to_json();
        assert_eq!(AdapterConfig::from_json(&text, Path::new("x")).unwrap(), config);
        assert_eq!(text.contains("use_rslora"), use_rslora, "{text}");
        assert_eq!(text.contains("\"lora_alpha\": 54,"), alpha == 54.0, "{text}");
    }
}

#[test]
fn layers_are_read_as_peft_writes_them_and_written_only_where_there_are_some() {
    for (layers, layers_pattern, expected) in [
        (json!(null), json!(null), (None, vec![])),
        (json!([]), json!([]), (None, vec![])),
        (json!(1), json!("h"), (Some(vec![1]), vec!["h".to_owned()])),
        (json!([3, 0, 3]), json!(["h"]), (Some(vec![0, 3]), vec!["h".to_owned()])),
    ] {
        let mut config = written_by_peft("plain");
        config["layers_to_transform"] = layers;
        config["layers_pattern"] = layers_pattern;
        let config = parse(&config).unwrap();
        assert_eq!((config.selection.layers.clone(), config.selection.layers_pattern.clone()), expected);
        let text = config.to_json();
        assert_eq!(AdapterConfig::from_json(&text, Path::new("x")).unwrap(), config);
        assert_eq!(text.contains("\"layers_to_transform\""), config.selection.layers.is_some(), "{text}");
    }
}

#[test]
fn every_unsupported_setting_is_refused_by_name() {
    for (key, value) in [
        ("peft_type", json!("LOHA")),
        ("peft_type", json!(null)),
        ("task_type", json!("SEQ_CLS")),
        ("bias", json!("lora_only")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"q_proj": 4})),
        ("alpha_pattern", json!({"q_proj": 4})),
        ("layer_replication", json!([[0, 4]])),
        ("exclude_modules", json!("q_proj")),
        ("trainable_token_indices", json!([1])),
        ("target_parameters", json!(["x"])),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("use_qalora", json!(true)),
        ("some_later_feature", json!(true)),
        ("some_later_feature", json!({"of": 1})),
    ] {
        let mut config = written_by_peft("plain");
        config[key] = value.clone();
        let message = parse(&config).unwrap_err();
        let setting =
            format!("`run/adapter_config.json` has `{key}: {value}`, which gptjc does not compute; ");
        assert!(message.starts_with(&setting), "{message}");
    }
}

#[test]
fn settings_that_are_off_or_only_parameters_are_accepted() {
    for (key, value) in [
        ("rank_pattern", json!({})),
        ("modules_to_save", json!([])),
        ("layers_to_transform", json!(null)),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!(false)),
        ("loftq_config", json!({"loftq_bits": 4})),
        ("runtime_config", json!({"ephemeral_gpu_offload": false})),
        ("a_later_parameter", json!(16)),
        ("a_later_feature", json!(false)),
    ] {
        let mut config = written_by_peft("plain");
        config[key] = value.clone();
        assert!(parse(&config).is_ok(), "{key}: {value}: {:?}", parse(&config));
    }
}

#[test]
fn a_wrong_value_names_the_setting_what_was_expected_and_found() {
    for (key, value, expected) in [
        ("r", json!(0), "`r`: expected an integer of 1 or more, found 0"),
        ("r", json!("8"), "`r`: expected an integer of 1 or more, found \"8\""),
        ("lora_alpha", json!(null), "`lora_alpha`: expected a number, found null"),
        ("lora_dropout", json!(1.0), "`lora_dropout`: expected a number from 0 to below 1, found 1.0"),
        ("target_modules", json!(null), "`target_modules`: expected a list"),
        ("target_modules", json!([]), "`target_modules`: expected a list"),
        ("target_modules", json!([1]), "`target_modules`: expected a list"),
        ("use_rslora", json!("yes"), "`use_rslora`: expected true or false"),
        ("layers_to_transform", json!([0, -1]), "`layers_to_transform`: expected a layer's number or a list"),
        ("layers_to_transform", json!("0"), "`layers_to_transform`: expected a layer's number or a list"),
        ("layers_pattern", json!([1]), "`layers_pattern`: expected a string or a list of strings"),
    ] {
        let mut config = written_by_peft("plain");
        config[key] = value;
        let message = parse(&config).unwrap_err();
        assert!(message.contains(expected) && message.contains("run/adapter_config.json"), "{message}");
    }
    let long = AdapterConfig::from_json(&" ".repeat(200_000), Path::new("a.json")).unwrap_err().to_string();
    assert!(
        long.contains("a.json") && long.contains("it has 200000 bytes, expected at most 131072"),
        "{long}"
    );
    let message = AdapterConfig::from_json("[", Path::new("a.json")).unwrap_err().to_string();
    assert!(message.contains("expected a JSON object"), "{message}");
}
