//! Which modules an adapter is on, as PEFT's settings say it.
//!
//! The meaning is that of `check_target_module_exists` in PEFT's `tuners_utils.py` (0.21): a string is a regular
//! expression that whole names of modules match, such as `transformer.h.3.attn.q_proj`; an item of a list is a whole name,
//! or the end of one behind a dot, and only the latter is narrowed by `layers_to_transform`. Names are those of the base
//! model, without the `base_model.model.` of an adapter's tensors.

use std::collections::{BTreeMap, BTreeSet};

use fancy_regex::Regex;
use serde_json::Value;
use thiserror::Error;

/// The linear layers of a GPT-J block: what `all-linear` means.
const LINEAR: [&str; 6] = ["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"];

/// The setting `target_modules`, in the three forms that PEFT has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    /// Names of modules or their last parts, sorted, each once: `["k_proj", "q_proj"]`.
    Names(Vec<String>),
    /// A regular expression over whole module names.
    Pattern(String),
    /// `all-linear`: every linear layer but the language-model head.
    AllLinear,
}

impl TargetModules {
    /// The form with `names`, sorted and without repetitions.
    pub fn names(names: impl IntoIterator<Item = impl Into<String>>) -> TargetModules {
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        names.sort();
        names.dedup();
        TargetModules::Names(names)
    }

    /// As it stands in adapter_config.json.
    pub(super) fn to_json(&self) -> Value {
        match self {
            TargetModules::Names(names) => names.clone().into(),
            TargetModules::Pattern(pattern) => pattern.clone().into(),
            TargetModules::AllLinear => "all-linear".into(),
        }
    }
}

/// The settings that say where an adapter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// `target_modules`.
    pub modules: TargetModules,
    /// `layers_to_transform`: the layers of what `modules` names; none for all.
    pub layers: Option<Vec<u64>>,
    /// `layers_pattern`: what stands before a layer's number in names, as regular expressions; none for anything.
    pub layers_pattern: Vec<String>,
}

/// Settings that select nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SelectionError {
    /// No regular expression.
    #[error("`{pattern}` is not a regular expression: {reason}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Layers beside a regular expression.
    #[error(
        "layers_to_transform and layers_pattern go with a list of names: put the layers into the regular expression \
         `{pattern}`, as in `.*\\.h\\.(0|1)\\.attn\\.q_proj`"
    )]
    LayersOfPattern {
        /// The regular expression.
        pattern: String,
    },
    /// A pattern of layers without layers.
    #[error(
        "layers_pattern says where a layer's number stands: give the layers, too, with layers_to_transform"
    )]
    PatternWithoutLayers,
}

impl From<TargetModules> for Selection {
    fn from(modules: TargetModules) -> Self {
        Self { modules, layers: None, layers_pattern: Vec::new() }
    }
}

impl Selection {
    /// The plainest settings that select `modules` of a GPT-J of `n_layer` layers and nothing else of it: names; names
    /// and layers, where all are in the same layers; and else a regular expression.
    ///
    /// `modules` are whole names (`transformer.h.3.attn.q_proj`); what is in no layer is passed over.
    pub fn covering<'m>(modules: impl IntoIterator<Item = &'m str>, n_layer: u64) -> Self {
        let mut layers_of: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (layer, rest) in modules.into_iter().filter_map(layer_and_rest) {
            layers_of.entry(rest).or_default().insert(layer);
        }
        let mut groups: BTreeMap<BTreeSet<u64>, Vec<&str>> = BTreeMap::new();
        for (rest, layers) in layers_of {
            groups.entry(layers).or_default().push(rest);
        }
        if groups.len() > 1 {
            return TargetModules::Pattern(pattern(&groups)).into();
        }
        let (layers, rests) = groups.pop_first().unwrap_or_default();
        let names = rests.into_iter().map(|rest| rest.rsplit('.').next().unwrap_or(rest));
        let is_all = layers.iter().copied().eq(0..n_layer);
        let layers = (!is_all).then(|| layers.into_iter().collect());
        Self { modules: TargetModules::names(names), layers, layers_pattern: Vec::new() }
    }

    /// What tells selected modules from others.
    ///
    /// # Errors
    /// [`SelectionError`] if a pattern is not one, or if layers are given beside one.
    pub fn matcher(&self) -> Result<Matcher<'_>, SelectionError> {
        if self.layers.is_none() && !self.layers_pattern.is_empty() {
            return Err(SelectionError::PatternWithoutLayers);
        }
        let whole = match &self.modules {
            TargetModules::Pattern(pattern) if self.layers.is_some() => {
                return Err(SelectionError::LayersOfPattern { pattern: pattern.clone() });
            }
            TargetModules::Pattern(pattern) => Some(compile(pattern, &format!(r"\A(?:{pattern})\z"))?),
            TargetModules::Names(_) | TargetModules::AllLinear => None,
        };
        let before_layer = self.layers_pattern.iter();
        let before_layer =
            before_layer.map(|pattern| compile(pattern, &format!(r"\A(?:|.*?\.)(?:{pattern})\.(\d+)\.")));
        Ok(Matcher { selection: self, whole, before_layer: before_layer.collect::<Result<_, _>>()? })
    }
}

fn compile(pattern: &str, anchored: &str) -> Result<Regex, SelectionError> {
    Regex::new(anchored)
        .map_err(|error| SelectionError::Pattern { pattern: pattern.to_owned(), reason: error.to_string() })
}

/// 3 and `attn.q_proj` of `transformer.h.3.attn.q_proj`.
fn layer_and_rest(module: &str) -> Option<(u64, &str)> {
    let (layer, rest) = module.strip_prefix("transformer.h.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// A regular expression for the modules of each group in its layers.
fn pattern(groups: &BTreeMap<BTreeSet<u64>, Vec<&str>>) -> String {
    let one = |(layers, rests): (&BTreeSet<u64>, &Vec<&str>)| {
        let layers: Vec<String> = layers.iter().map(u64::to_string).collect();
        let rests: Vec<String> = rests.iter().map(|rest| rest.replace('.', r"\.")).collect();
        format!(r"(?:{})\.(?:{})", layers.join("|"), rests.join("|"))
    };
    format!(r"transformer\.h\.(?:{})", groups.iter().map(one).collect::<Vec<_>>().join("|"))
}

/// A compiled [`Selection`].
pub struct Matcher<'s> {
    selection: &'s Selection,
    /// The regular expression for whole names.
    whole: Option<Regex>,
    /// One for each pattern of layers; the layer's number is its last group.
    before_layer: Vec<Regex>,
}

impl Matcher<'_> {
    /// True if the adapter is on `module`, a whole name.
    pub fn selects(&self, module: &str) -> bool {
        match &self.selection.modules {
            // An expression that gives up on a name of few characters does not match it.
            TargetModules::Pattern(_) => {
                self.whole.as_ref().is_some_and(|regex| regex.is_match(module).unwrap_or(false))
            }
            TargetModules::Names(names) => {
                names.iter().any(|name| module == name)
                    || (names.iter().any(|name| is_end_of(name, module)) && self.is_in_layers(module))
            }
            TargetModules::AllLinear => {
                LINEAR.iter().any(|name| is_end_of(name, module)) && self.is_in_layers(module)
            }
        }
    }

    fn is_in_layers(&self, module: &str) -> bool {
        let Some(layers) = &self.selection.layers else { return true };
        let layer = if self.before_layer.is_empty() {
            first_number(module)
        } else {
            self.before_layer.iter().find_map(|regex| {
                let captures = regex.captures(module).ok()??;
                captures.get(captures.len() - 1)?.as_str().parse().ok()
            })
        };
        layer.is_some_and(|layer| layers.contains(&layer))
    }
}

/// True if `module` ends in `name`, behind a dot.
pub(super) fn is_end_of(name: &str, module: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.ends_with('.'))
}

/// The first part of `module` that is a number, with two parts before it and one after: `.*?\.[^.]*\.(\d+)\.` of PEFT.
fn first_number(module: &str) -> Option<u64> {
    let parts: Vec<&str> = module.split('.').collect();
    let inner = parts.get(2..parts.len().saturating_sub(1))?;
    inner.iter().find_map(|part| part.parse().ok())
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
