//! Tests of `lora`: what PEFT would match, for what can be typed.

use super::*;
use gptjc_runtime::adapter::lora_a_name;
use gptjc_runtime::weights::TensorSpec;

const LAYERS: u64 = 4;

fn flags(targets: &str, layers: &str, patterns: &str) -> LoraFlags {
    let typed =
        |text: &str| (!text.is_empty()).then(|| text.split(' ').map(str::to_owned).collect::<Vec<String>>());
    LoraFlags {
        lora_target_modules: typed(targets),
        layers_to_transform: typed(layers),
        layers_pattern: typed(patterns),
        ..LoraFlags::default()
    }
}

fn placed(flags: &LoraFlags) -> Result<String, String> {
    let mut lora = default_lora(LAYERS);
    match overlay(flags, &mut lora, LAYERS) {
        Ok(()) => Ok(lora.described(" ")),
        Err(error) => Err(crate::error::report(&error)),
    }
}

fn on(targets: &str, layers: &str) -> String {
    placed(&flags(targets, layers, "")).unwrap()
}

#[test]
fn names_are_parted_by_commas_or_blanks_and_stand_in_the_models_order() {
    let all = "q_proj k_proj v_proj out_proj";
    assert_eq!(on("q_proj,v_proj,k_proj,out_proj", ""), all);
    assert_eq!(on("q_proj v_proj k_proj out_proj", ""), all);
    assert_eq!(on("out_proj, k_proj v_proj,q_proj,q_proj", ""), all);
    assert_eq!(on("", ""), "q_proj v_proj");
    assert_eq!(on("all-linear", ""), "q_proj k_proj v_proj out_proj fc_in fc_out");
    assert_eq!(on("all-linear,q_proj", ""), on("all-linear", ""));
}

#[test]
fn names_may_be_longer_than_a_word() {
    assert_eq!(on("attn.q_proj,2.mlp.fc_in", ""), "q_proj fc_in (layers 2)");
    assert_eq!(on("transformer.h.3.attn.k_proj,h.0.attn.k_proj", ""), "k_proj (layers 0,3)");
}

#[test]
fn layers_narrow_names() {
    assert_eq!(on("q_proj", "0,2-3"), "q_proj (layers 0,2-3)");
    assert_eq!(on("q_proj", "3 0 3"), "q_proj (layers 0,3)");
    assert_eq!(on("", "1"), "q_proj (layers 1) v_proj (layers 1)");
    assert_eq!(on("all-linear", "0-3"), on("all-linear", ""));
    // As in PEFT, a whole name is not narrowed.
    assert_eq!(on("q_proj,transformer.h.3.attn.v_proj", "0"), "q_proj (layers 0) v_proj (layers 3)");
    assert_eq!(placed(&flags("q_proj", "1", "h")).unwrap(), "q_proj (layers 1)");
}

#[test]
fn anything_else_is_a_regular_expression_over_whole_names() {
    assert_eq!(on(r".*\.(q|v)_proj", ""), "q_proj v_proj");
    assert_eq!(
        on(r"transformer\.h\.[01]\.attn\.(q_proj|k_proj)", ""),
        "q_proj (layers 0-1) k_proj (layers 0-1)"
    );
    assert_eq!(on(r".*\.\d{1,2}\.mlp\.fc_(in|out)", ""), "fc_in fc_out");
}

#[test]
fn what_cannot_be_followed_is_refused_with_what_there_is() {
    let cases = [
        (
            flags("q_proj|v_proj", "", ""),
            "error: --lora-target-modules q_proj|v_proj matches no module of the model",
        ),
        (
            flags("q_proj,c_attn", "", ""),
            "error: --lora-target-modules c_attn matches no module of the model",
        ),
        (
            flags("query", "", ""),
            "there are q_proj, k_proj, v_proj, out_proj, fc_in, fc_out in each of 4 layers",
        ),
        (flags(",", "", ""), "error: --lora-target-modules (nothing) matches no module"),
        (flags("lm_head", "", ""), "matches `lm_head`, which cannot have an adapter"),
        (flags(".*attn.*", "", ""), "matches `transformer.h.0.attn`, which cannot have an adapter"),
        (flags("wte,q_proj", "", ""), "--lora-target-modules wte matches `transformer.wte`, which"),
        (flags("(q_proj", "", ""), "caused by: `(q_proj` is not a regular expression"),
        (flags(".*q_proj .*v_proj", "", ""), "a regular expression stands alone"),
        (
            flags(".*q_proj", "1", ""),
            "caused by: layers_to_transform and layers_pattern go with a list of names",
        ),
        (flags("q_proj", "", "h"), "caused by: layers_pattern says where a layer's number stands"),
        (
            flags("q_proj", "1", "layers"),
            "--lora-target-modules q_proj --layers-to-transform 1 --layers-pattern layers",
        ),
        (
            flags("q_proj,1.mlp.fc_in", "2", ""),
            "--lora-target-modules 1.mlp.fc_in --layers-to-transform 2 matches no",
        ),
        (flags("q_proj", "4", ""), "error: --layers-to-transform 4: the model has layers 0 to 3"),
        (flags("q_proj", "2-1", ""), "error: --layers-to-transform 2-1: expected numbers of layers"),
        (flags("q_proj", "1,x", ""), "error: --layers-to-transform x: expected numbers of layers"),
        (flags("q_proj", ",", ""), "error: --layers-to-transform ,: expected numbers of layers"),
    ];
    for (flags, expected) in cases {
        let text = placed(&flags).unwrap_err();
        assert!(text.contains(expected), "{flags:?}: {text}");
    }
}

#[test]
fn adapters_in_some_layers_are_told_of() {
    let mut lora = default_lora(LAYERS);
    assert_eq!(partial(&lora, LAYERS), None);
    overlay(&flags("q_proj,fc_in", "2-3", ""), &mut lora, LAYERS).unwrap();
    assert_eq!(
        partial(&lora, LAYERS).unwrap(),
        "adapters are in some of the 4 layers only, 4 in all: q_proj (layers 2-3), fc_in (layers 2-3); \
         nothing is differentiated below layer 2"
    );
}

#[test]
fn an_adapter_is_where_its_tensors_are() {
    let modules =
        ["transformer.h.1.attn.q_proj", "transformer.h.3.attn.q_proj", "transformer.h.0.attn.c_attn"];
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["q_proj"]}"#;
    let config = gptjc_runtime::adapter::AdapterConfig::from_json(config, "x".as_ref()).unwrap();
    let specs = modules.map(|module| TensorSpec::new(lora_a_name(module), [2, 4]));
    let adapter = Adapter::initialise(config, &specs, 1).unwrap();
    let lora = lora_of(&adapter, LAYERS);
    assert_eq!((lora.rank, lora.alpha, lora.dropout), (2, 3.0, 0.0));
    assert_eq!(lora.described(","), "q_proj (layers 1,3),c_attn");
}
