//! Tests of `selection`: what PEFT's `check_target_module_exists` says to the same settings, and settings for modules.

use super::*;

/// Whole names of the linear layers of a GPT-J of `layers` layers.
fn linear(layers: u64) -> Vec<String> {
    let attention = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|name| format!("attn.{name}"));
    let names: Vec<String> = attention.into_iter().chain(["mlp.fc_in".into(), "mlp.fc_out".into()]).collect();
    let of_layer = |layer| names.iter().map(move |name| format!("transformer.h.{layer}.{name}"));
    (0..layers).flat_map(of_layer).collect()
}

/// The modules of a GPT-J of twelve layers that `selection` selects, without `transformer.h.`.
fn selected(selection: &Selection) -> Vec<String> {
    let matcher = selection.matcher().unwrap();
    let mut modules = linear(12);
    modules.extend(["transformer", "transformer.wte", "transformer.h.0.attn", "lm_head"].map(str::to_owned));
    modules.retain(|module| matcher.selects(module));
    modules.into_iter().map(|module| module.replace("transformer.h.", "")).collect()
}

fn names(names: &[&str], layers: Option<&[u64]>, layers_pattern: &[&str]) -> Selection {
    Selection {
        modules: TargetModules::names(names.iter().copied()),
        layers: layers.map(<[u64]>::to_vec),
        layers_pattern: layers_pattern.iter().map(|&pattern| pattern.to_owned()).collect(),
    }
}

fn pattern(pattern: &str) -> Selection {
    TargetModules::Pattern(pattern.to_owned()).into()
}

#[test]
fn an_item_of_a_list_is_a_whole_name_or_its_end_behind_a_dot() {
    assert_eq!(selected(&names(&["q_proj"], None, &[])).len(), 12);
    assert_eq!(selected(&names(&["proj", "_proj", "tn.q_proj", "q_proj.", ""], None, &[])).len(), 0);
    assert_eq!(selected(&names(&["attn.q_proj", "1.mlp.fc_in"], None, &[])).len(), 13);
    assert_eq!(selected(&names(&["transformer.h.3.attn.k_proj"], None, &[])), ["3.attn.k_proj"]);
    assert_eq!(selected(&names(&["lm_head"], None, &[])), ["lm_head"]);
}

#[test]
fn layers_narrow_the_ends_of_names_only() {
    let of = |layers: &[u64]| selected(&names(&["q_proj", "transformer.h.3.attn.k_proj"], Some(layers), &[]));
    assert_eq!(of(&[0, 11]), ["0.attn.q_proj", "3.attn.k_proj", "11.attn.q_proj"]);
    assert_eq!(of(&[12]), ["3.attn.k_proj"]);
    let of = |patterns: &[&str]| selected(&names(&["q_proj"], Some(&[1]), patterns));
    assert_eq!(of(&["h"]), ["1.attn.q_proj"]);
    assert_eq!(of(&["layers", "h"]), ["1.attn.q_proj"]);
    assert_eq!(of(&["(b|h)"]), ["1.attn.q_proj"]);
    assert_eq!(of(&["layers"]).len(), 0);
}

#[test]
fn a_regular_expression_matches_whole_names() {
    assert_eq!(selected(&pattern("q_proj")).len(), 0);
    assert_eq!(selected(&pattern(r".*\.q_proj")).len(), 12);
    assert_eq!(selected(&pattern(r".*q_proj|.*\.(0|1)\.mlp\.fc_in")).len(), 14);
    let last = selected(&pattern(r"transformer\.h\.(1[01])\.attn\.(q|v)_proj"));
    assert_eq!(last, ["10.attn.q_proj", "10.attn.v_proj", "11.attn.q_proj", "11.attn.v_proj"]);
    // Look-around, which Python has and not every regular expression in Rust.
    assert_eq!(selected(&pattern(r".*(?<!\.0)(?<!\.1)\.attn\.q_proj")).len(), 10);
    assert_eq!(selected(&pattern(r".*\.attn")), ["0.attn"]);
}

#[test]
fn all_linear_layers_are_those_of_the_blocks() {
    assert_eq!(selected(&TargetModules::AllLinear.into()).len(), 72);
}

#[test]
fn settings_that_select_nothing_say_why() {
    let message = |selection: &Selection| selection.matcher().map(drop).unwrap_err().to_string();
    let text = message(&pattern("(q_proj"));
    assert!(text.starts_with("`(q_proj` is not a regular expression: "), "{text}");
    let both = Selection { layers: Some(vec![0]), ..pattern(".*q_proj") };
    assert!(message(&both).contains("put the layers into the regular expression `.*q_proj`"));
    assert!(message(&names(&["q_proj"], None, &["h"])).contains("give the layers, too"));
    let text = message(&names(&["q_proj"], Some(&[0]), &["h("]));
    assert!(text.starts_with("`h(` is not a regular expression"), "{text}");
}

#[test]
fn the_plainest_settings_select_the_modules_that_they_were_made_for() {
    let covering = |modules: &[&str], n_layer| Selection::covering(modules.iter().copied(), n_layer);
    let [q0, q1, fc0] =
        ["transformer.h.0.attn.q_proj", "transformer.h.1.attn.q_proj", "transformer.h.0.mlp.fc_in"];
    assert_eq!(covering(&[q0, q1], 2), names(&["q_proj"], None, &[]));
    assert_eq!(covering(&[q0, fc0], 2), names(&["q_proj", "fc_in"], Some(&[0]), &[]));
    assert_eq!(
        covering(&[q0, q1, fc0], 2),
        pattern(r"transformer\.h\.(?:(?:0)\.(?:mlp\.fc_in)|(?:0|1)\.(?:attn\.q_proj))")
    );
    // Any choice of modules: every one of them, and no other.
    let all = linear(3);
    for choice in (1u32..1 << all.len()).step_by(77) {
        let chosen: Vec<&str> =
            (0..all.len()).filter(|bit| choice >> bit & 1 == 1).map(|bit| all[bit].as_str()).collect();
        let selection = Selection::covering(chosen.iter().copied(), 3);
        let matcher = selection.matcher().unwrap();
        let found: Vec<&str> = all.iter().map(String::as_str).filter(|name| matcher.selects(name)).collect();
        assert_eq!(found, chosen, "{selection:?}");
    }
}
