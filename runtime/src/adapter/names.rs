//! Names of LoRA tensors in an adapter file, and the modules that they belong to.

use crate::weights::TensorSpec;

const PREFIX: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// The name of A (`[r, in]`) of `module`, for example `transformer.h.0.attn.q_proj`.
pub fn lora_a_name(module: &str) -> String {
    format!("{PREFIX}{module}{A}")
}

/// The name of B (`[out, r]`) of `module`.
pub fn lora_b_name(module: &str) -> String {
    format!("{PREFIX}{module}{B}")
}

/// The module that the tensor `name` adapts, or none if it is not a LoRA tensor.
pub fn module_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix(PREFIX)?;
    name.strip_suffix(A).or_else(|| name.strip_suffix(B))
}

/// True if `name` is that of an A.
pub(super) fn is_lora_a(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(A)
}

/// The A and B of rank `r` for each `(module, out, in)`.
pub fn tensor_specs<'a>(
    modules: impl IntoIterator<Item = (&'a str, usize, usize)>,
    r: usize,
) -> Vec<TensorSpec> {
    let pair = |(module, outputs, inputs): (&str, usize, usize)| {
        [
            TensorSpec::new(lora_a_name(module), [r, inputs]),
            TensorSpec::new(lora_b_name(module), [outputs, r]),
        ]
    };
    modules.into_iter().flat_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_modules_belong_to_each_other() {
        let module = "transformer.h.3.mlp.fc_in";
        assert_eq!(lora_a_name(module), "base_model.model.transformer.h.3.mlp.fc_in.lora_A.weight");
        assert_eq!(module_of(&lora_a_name(module)), Some(module));
        assert_eq!(module_of(&lora_b_name(module)), Some(module));
        assert!(is_lora_a(&lora_a_name(module)) && !is_lora_a(&lora_b_name(module)));
        for other in ["transformer.h.3.mlp.fc_in.weight", "base_model.model.x.lora_A.default.weight", ""] {
            assert_eq!(module_of(other), None, "{other}");
        }
    }
}
