//! Whether an adapter belongs to a model, told by names and shapes before anything is written.
//!
//! Does not: compare the adapter's `base_model_name_or_path`, which is a path on the machine that trained it.

use crate::adapter::{Adapter, lora_a_name, lora_b_name};
use crate::weights::Checkpoint;

/// What an adapter changes of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFit {
    /// The adapted modules: `transformer.h.0.attn.q_proj`, sorted.
    pub modules: Vec<String>,
    /// Modules of the same names in other layers, which the adapter leaves as they are: only where its settings do not
    /// select them.
    pub left_out: Vec<String>,
}

/// Why an adapter is not one of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdapterMismatch {
    /// Nothing to merge.
    #[error("the adapter `{adapter}` has no tensors; train it, or export the model without it")]
    Empty {
        /// Where the adapter came from.
        adapter: String,
    },
    /// An A without its B, or the other way round.
    #[error(
        "the adapter `{adapter}` lacks tensor `{name}`, which belongs to a pair; copy or save the adapter again"
    )]
    Half {
        /// Where the adapter came from.
        adapter: String,
        /// The tensor that is missing.
        name: String,
    },
    /// The model has no such module.
    #[error(
        "the adapter `{adapter}` changes `{module}`, which the model `{model}` does not have; give the model that it was \
         trained on"
    )]
    NoModule {
        /// Where the adapter came from.
        adapter: String,
        /// The module.
        module: String,
        /// Directory of the model.
        model: String,
    },
    /// The model's module has another shape.
    #[error(
        "the adapter `{adapter}` does not fit the model `{model}`: tensor `{name}`: expected shape {expected:?}, found \
         {found:?}; give the model that it was trained on"
    )]
    Shape {
        /// Where the adapter came from.
        adapter: String,
        /// Directory of the model.
        model: String,
        /// The tensor of the adapter.
        name: String,
        /// What fits the model.
        expected: Vec<usize>,
        /// What the adapter has.
        found: Vec<usize>,
    },
    /// The adapter covers some layers only, and does not say that it should.
    #[error(
        "the adapter `{adapter}` targets {target} and has no tensors for `{module}` of the model `{model}`; give the model \
         that it was trained on, or copy the adapter again"
    )]
    Layer {
        /// Where the adapter came from.
        adapter: String,
        /// The target.
        target: String,
        /// The first module without.
        module: String,
        /// Directory of the model.
        model: String,
    },
}

/// Checks that every pair of `adapter`, called `label` in messages, fits a weight of `checkpoint`.
///
/// # Errors
/// [`AdapterMismatch`]: the first one, in the order of the modules' names.
pub fn check_adapter(
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    label: &str,
) -> Result<AdapterFit, AdapterMismatch> {
    let modules = adapter.modules();
    if modules.is_empty() {
        return Err(AdapterMismatch::Empty { adapter: label.to_owned() });
    }
    for module in modules.iter().copied() {
        check_module(checkpoint, adapter, module, label)?;
    }
    let targets = adapter.target_names();
    let is_target = |module: &&str| module.rsplit('.').next().is_some_and(|name| targets.contains(name));
    let weights = || checkpoint.names().filter_map(|name| name.strip_suffix(".weight"));
    if let Some(module) = adapter.missing(weights()) {
        return Err(AdapterMismatch::Layer {
            adapter: label.to_owned(),
            target: module.rsplit('.').next().unwrap_or_default().to_owned(),
            module: module.to_owned(),
            model: checkpoint.dir().display().to_string(),
        });
    }
    let left_out = weights().filter(is_target).filter(|module| !modules.contains(module));
    let left_out = left_out.map(str::to_owned).collect();
    Ok(AdapterFit { modules: modules.into_iter().map(str::to_owned).collect(), left_out })
}

fn check_module(
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    module: &str,
    label: &str,
) -> Result<(), AdapterMismatch> {
    let model = || checkpoint.dir().display().to_string();
    let weight = checkpoint.tensor(&format!("{module}.weight"));
    let Some(&[outputs, inputs]) = weight.map(|weight| weight.shape) else {
        let (adapter, module) = (label.to_owned(), module.to_owned());
        return Err(AdapterMismatch::NoModule { adapter, module, model: model() });
    };
    let rank = adapter.config.r;
    let pair = [(lora_a_name(module), [rank, inputs]), (lora_b_name(module), [outputs, rank])];
    for (name, expected) in pair {
        let Some(tensor) = adapter.tensors.get(&name) else {
            return Err(AdapterMismatch::Half { adapter: label.to_owned(), name });
        };
        if tensor.shape != expected {
            return Err(AdapterMismatch::Shape {
                adapter: label.to_owned(),
                model: model(),
                name,
                expected: expected.to_vec(),
                found: tensor.shape.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Selection, TargetModules};
    use crate::weights::test_files::golden;

    #[test]
    fn every_mismatch_has_its_message() {
        let checkpoint = Checkpoint::open(&golden("plain/model")).unwrap();
        let good = Adapter::load(&golden("plain/adapter_final")).unwrap();
        let fit = check_adapter(&checkpoint, &good, "out").unwrap();
        assert_eq!((fit.modules.len(), fit.left_out.len()), (8, 0));
        let message = |change: &dyn Fn(&mut Adapter)| {
            let mut adapter = good.clone();
            change(&mut adapter);
            check_adapter(&checkpoint, &adapter, "out").unwrap_err().to_string()
        };
        let of_layer = |adapter: &mut Adapter, layer: &str, keep: bool| {
            adapter.tensors.retain(|name, _| name.contains(layer) == keep);
        };
        assert!(message(&|a| a.tensors.clear()).contains("`out` has no tensors"));
        let (a, b) = (lora_a_name("transformer.h.0.attn.k_proj"), lora_b_name("transformer.h.0.attn.k_proj"));
        let half = message(&|adapter| drop(adapter.tensors.remove(&b)));
        assert!(half.contains("lacks tensor `") && half.contains(&b), "{half}");
        let shape = message(&|adapter| adapter.tensors.get_mut(&a).unwrap().shape = vec![8, 65]);
        assert!(shape.contains("expected shape [8, 64], found [8, 65]"), "{shape}");
        let layer = message(&|adapter| of_layer(adapter, ".h.0.", true));
        assert!(layer.contains("no tensors for `transformer.h.1.attn."), "{layer}");
        let other = message(&|adapter| {
            let (name, tensor) = adapter.tensors.pop_first().unwrap();
            adapter.tensors.insert(name.replace(".h.0.", ".h.7."), tensor);
        });
        assert!(other.contains("lacks tensor") || other.contains("does not have"), "{other}");
        let unknown = message(&|adapter| {
            let tensors = std::mem::take(&mut adapter.tensors);
            let renamed = |(name, tensor): (String, _)| (name.replace(".h.1.", ".h.2."), tensor);
            adapter.tensors = tensors.into_iter().map(renamed).collect();
        });
        assert!(unknown.contains("changes `transformer.h.2.attn.k_proj`, which the model"), "{unknown}");
    }

    #[test]
    fn settings_may_leave_layers_out() {
        let checkpoint = Checkpoint::open(&golden("plain/model")).unwrap();
        let mut adapter = Adapter::load(&golden("plain/adapter_final")).unwrap();
        adapter.tensors.retain(|name, _| name.contains(".h.1."));
        let names = adapter.config.selection.clone();
        let pattern = TargetModules::Pattern(r".*h\.1\.attn\..*_proj".into());
        for selection in [pattern.into(), Selection { layers: Some(vec![1]), ..names }] {
            adapter.config.selection = selection;
            let fit = check_adapter(&checkpoint, &adapter, "out").unwrap();
            assert_eq!((fit.modules.len(), fit.left_out.len()), (4, 4));
            assert!(fit.left_out.iter().all(|module| module.contains(".h.0.")), "{:?}", fit.left_out);
        }
    }
}
