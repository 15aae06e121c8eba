//! New adapters, initialised as PEFT does: B is zero, so that training starts at the base model's function.
//!
//! A is kaiming_uniform(a = sqrt(5)), that is uniform in [-1/sqrt(in), 1/sqrt(in)). Every tensor has its own random stream,
//! keyed by seed and name: its values do not depend on which other tensors exist or on their order.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::names::{is_lora_a, module_of};
use super::{Adapter, AdapterConfig, AdapterError, AdapterTensor};
use crate::weights::TensorSpec;

/// Separates these streams from other uses of the same seed.
const DOMAIN: &[u8] = b"gptjc lora initialisation 1\0";

impl Adapter {
    /// A new adapter with the tensors of `expected`, from `seed`.
    ///
    /// # Errors
    /// [`AdapterError::CannotInitialise`] if `expected` has a tensor that is not a LoRA A or B.
    pub fn initialise(
        config: AdapterConfig,
        expected: &[TensorSpec],
        seed: u64,
    ) -> Result<Adapter, AdapterError> {
        let mut tensors = BTreeMap::new();
        for spec in expected {
            let &[_, inputs] = spec.shape.as_slice() else { return Err(cannot(spec)) };
            if module_of(&spec.name).is_none() || spec.is_empty() {
                return Err(cannot(spec));
            }
            let values = if is_lora_a(&spec.name) {
                uniform(seed, &spec.name, spec.len(), 1.0 / (inputs as f32).sqrt())
            } else {
                vec![0.0; spec.len()]
            };
            tensors.insert(spec.name.clone(), AdapterTensor { shape: spec.shape.clone(), values });
        }
        Ok(Adapter { config, tensors })
    }
}

fn cannot(spec: &TensorSpec) -> AdapterError {
    AdapterError::CannotInitialise { name: spec.name.clone(), shape: spec.shape.clone() }
}

/// `len` values uniform in [-bound, bound) on a grid of 2^24 steps, from the stream of `seed` and `name`.
fn uniform(seed: u64, name: &str, len: usize, bound: f32) -> Vec<f32> {
    const STEP: f32 = 1.0 / (1 << 23) as f32;
    let key =
        Sha256::new().chain_update(DOMAIN).chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    let mut stream = ChaCha8Rng::from_seed(key.into());
    // The upper 24 bits of a word are one step of the grid; every step is exact in f32.
    (0..len).map(|_| ((stream.next_u32() >> 8) as f32 * STEP - 1.0) * bound).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{TargetModules, lora_a_name, lora_b_name, tensor_specs};
    use super::*;

    fn config() -> AdapterConfig {
        AdapterConfig {
            base_model_name_or_path: None,
            r: 8,
            lora_alpha: 54.0,
            lora_dropout: 0.0,
            selection: TargetModules::names(["q_proj", "v_proj"]).into(),
            use_rslora: false,
        }
    }

    fn specs() -> Vec<TensorSpec> {
        tensor_specs(
            [("transformer.h.0.attn.q_proj", 64, 4096), ("transformer.h.0.attn.v_proj", 64, 4096)],
            8,
        )
    }

    #[test]
    fn a_is_uniform_within_its_bound_and_b_is_zero() {
        let adapter = Adapter::initialise(config(), &specs(), 42).unwrap();
        let a = &adapter.tensors[&lora_a_name("transformer.h.0.attn.q_proj")];
        let bound = 1.0f64 / 64.0;
        assert_eq!(a.shape, [8, 4096]);
        let n = a.values.len() as f64;
        let mean = a.values.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
        let variance = a.values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / n;
        // Standard errors: bound / sqrt(3 n) for the mean, bound^2 * sqrt(4 / 45 / n) for the variance; five of each.
        assert!(mean.abs() < 5.0 * bound / (3.0 * n).sqrt(), "mean {mean}");
        assert!(
            (variance - bound * bound / 3.0).abs() < 5.0 * bound * bound * (4.0 / 45.0 / n).sqrt(),
            "{variance}"
        );
        let largest = a.values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert!(f64::from(largest) <= bound && f64::from(largest) > 0.999 * bound, "{largest}");
        let b = &adapter.tensors[&lora_b_name("transformer.h.0.attn.q_proj")];
        assert!(b.shape == [64, 8] && b.values.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn a_tensor_depends_on_seed_and_name_only() {
        let all = Adapter::initialise(config(), &specs(), 42).unwrap();
        let reversed: Vec<TensorSpec> = specs().into_iter().rev().collect();
        assert_eq!(all, Adapter::initialise(config(), &reversed, 42).unwrap());
        let alone = Adapter::initialise(config(), &specs()[2..], 42).unwrap();
        let v = lora_a_name("transformer.h.0.attn.v_proj");
        assert_eq!(all.tensors[&v], alone.tensors[&v]);
        assert_ne!(all.tensors[&v], all.tensors[&lora_a_name("transformer.h.0.attn.q_proj")]);
        assert_ne!(all.tensors[&v], Adapter::initialise(config(), &specs(), 43).unwrap().tensors[&v]);
    }

    #[test]
    fn the_values_of_a_seed_never_change() {
        let adapter = Adapter::initialise(config(), &specs(), 42).unwrap();
        let first: Vec<u32> = adapter.tensors[&lora_a_name("transformer.h.0.attn.q_proj")].values[..3]
            .iter()
            .map(|value| value.to_bits())
            .collect();
        assert_eq!(first, FIRST_VALUES, "runs of older versions could not be repeated");
    }

    /// Bits of the first three values of layer 0's q_proj for seed 42, the same from a second, separate ChaCha8.
    const FIRST_VALUES: [u32; 3] = [0xba54_4b00, 0xbaae_3490, 0xbc31_9fb4];

    #[test]
    fn what_is_no_lora_weight_is_refused() {
        for spec in [
            TensorSpec::new("transformer.wte.weight", [2, 2]),
            TensorSpec::new(lora_a_name("q_proj"), [8]),
            TensorSpec::new(lora_a_name("q_proj"), [8, 0]),
        ] {
            let message =
                Adapter::initialise(config(), std::slice::from_ref(&spec), 1).unwrap_err().to_string();
            assert!(message.contains(&spec.name), "{message}");
        }
    }
}
