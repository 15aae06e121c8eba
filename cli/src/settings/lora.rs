//! Flags about adapters made into options: which modules they are on above all.
//!
//! `--lora-target-modules` means what `target_modules` means to PEFT, which matches it against names of modules; a plan
//! keeps the modules that were met.

use crate::error::CliError;
use crate::flags::LoraFlags;
use crate::flags::compile::{ALPHA, DROPOUT, RANK, TARGETS};
use gptjc_graphs::models::gptj::names::Projection;
use gptjc_graphs::models::gptj::sites::{Site, by_projection};
use gptjc_graphs::plan::{LoraOptions, ranges};
use gptjc_runtime::adapter::{Adapter, Selection, SelectionError, TargetModules};
use miette::Diagnostic;
use std::collections::BTreeSet;

/// Flags that say nowhere, or where no adapter can be.
#[derive(Debug, thiserror::Error, Diagnostic, PartialEq, Eq)]
pub(crate) enum TargetError {
    /// Settings that PEFT would not take, either.
    #[error("the adapters' modules cannot be told")]
    Selection(#[source] SelectionError),
    /// Several regular expressions.
    #[error("--lora-target-modules {0}: a regular expression stands alone")]
    #[diagnostic(help("join expressions with `|`: '.*\\.q_proj|.*\\.v_proj'"))]
    SeveralPatterns(String),
    /// A target that no module matches.
    #[error("--lora-target-modules {target} matches no module of the model")]
    #[diagnostic(help("{advice}"))]
    Nothing { target: String, advice: String },
    /// A target that matches what cannot have an adapter.
    #[error("--lora-target-modules {target} matches `{module}`, which cannot have an adapter")]
    #[diagnostic(help("{advice}"))]
    NotAdaptable { target: String, module: String, advice: String },
    /// Layers that are no numbers.
    #[error("--layers-to-transform {0}: expected numbers of layers, from 0, such as 0,1,20-27")]
    Layers(String),
    /// Layers that the model does not have.
    #[error("--layers-to-transform {layer}: the model has layers 0 to {last}")]
    NoLayer { layer: u64, last: u64 },
}

/// The adapters that are compiled when no flag is given.
pub(super) fn default_lora(n_layer: u64) -> LoraOptions {
    let mut lora = LoraOptions { rank: RANK, alpha: ALPHA, dropout: DROPOUT, ..LoraOptions::default() };
    let mut sites = Site::all(n_layer);
    sites.retain(|site| TARGETS.contains(&site.projection.name()));
    lora.place(&sites, n_layer);
    lora
}

/// The settings of an adapter; its tensors say which modules it is on.
pub(super) fn lora_of(adapter: &Adapter, n_layer: u64) -> LoraOptions {
    let mut lora = LoraOptions {
        rank: adapter.config.r as u64,
        alpha: adapter.config.lora_alpha,
        dropout: adapter.config.lora_dropout,
        use_rslora: adapter.config.use_rslora,
        ..LoraOptions::default()
    };
    let sites: BTreeSet<Site> = adapter.modules().into_iter().filter_map(Site::of_module).collect();
    lora.place(&sites, n_layer);
    // What no GPT-J has is refused by its name when it is compiled.
    let known = Projection::ALL.map(Projection::name);
    let unknown = adapter.target_names().into_iter().filter(|name| !known.contains(name));
    lora.targets.extend(unknown.map(str::to_owned));
    lora
}

/// Puts what was typed into `lora`, the adapters of a model of `n_layer` layers.
///
/// # Errors
/// [`TargetError`] if adapters can nowhere be where they should.
pub(crate) fn overlay(flags: &LoraFlags, lora: &mut LoraOptions, n_layer: u64) -> Result<(), CliError> {
    lora.rank = flags.lora_rank.unwrap_or(lora.rank);
    lora.alpha = flags.lora_alpha.unwrap_or(lora.alpha);
    lora.dropout = flags.lora_dropout.unwrap_or(lora.dropout);
    lora.use_rslora = flags.use_rslora.unwrap_or(lora.use_rslora);
    let has_layers = flags.layers_to_transform.is_some() || flags.layers_pattern.is_some();
    let modules = match &flags.lora_target_modules {
        Some(typed) => target_modules(typed)?,
        None if has_layers => TargetModules::names(lora.targets.iter().cloned()),
        None => return Ok(()),
    };
    let layers = flags.layers_to_transform.as_deref().map(|typed| layers(typed, n_layer)).transpose()?;
    let layers_pattern = flags.layers_pattern.as_deref().map(words).unwrap_or_default();
    lora.place(&sites(&Selection { modules, layers, layers_pattern }, n_layer)?, n_layer);
    Ok(())
}

/// What there is to say if adapters are in some layers only.
pub(crate) fn partial(lora: &LoraOptions, n_layer: u64) -> Option<String> {
    let count = lora.sites(n_layer).len();
    let lowest = lora.sites(n_layer).iter().map(|site| site.layer).min()?;
    (!lora.only_in.is_empty()).then(|| {
        format!(
            "adapters are in some of the {n_layer} layers only, {count} in all: {}; nothing is differentiated below layer {lowest}",
            lora.described(", ")
        )
    })
}

/// Words with commas or blanks between them.
fn words(typed: &[String]) -> Vec<String> {
    let separators = |c: char| c == ',' || c.is_whitespace();
    let words = typed.iter().flat_map(|text| text.split(separators));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The names, or the regular expression, that were typed.
///
/// Names are of letters, digits, `_`, `-` and dots; what has any other character is a regular expression.
fn target_modules(typed: &[String]) -> Result<TargetModules, TargetError> {
    let in_name = |c: char| c.is_alphanumeric() || "_-.,".contains(c) || c.is_whitespace();
    match typed {
        [pattern] if !pattern.chars().all(in_name) => Ok(TargetModules::Pattern(pattern.clone())),
        _ if !typed.iter().flat_map(|text| text.chars()).all(in_name) => {
            Err(TargetError::SeveralPatterns(typed.join(" ")))
        }
        _ => {
            let mut names = words(typed);
            // Beside other names it stands for those that it means, as in `all-linear,wte`.
            match names.iter().position(|name| name == "all-linear") {
                Some(_) if names.len() == 1 => return Ok(TargetModules::AllLinear),
                Some(at) => drop(names.splice(at..=at, Projection::ALL.map(|one| one.name().to_owned()))),
                None => {}
            }
            Ok(TargetModules::names(names))
        }
    }
}

/// The numbers, and the runs of numbers, that were typed.
fn layers(typed: &[String], n_layer: u64) -> Result<Vec<u64>, TargetError> {
    let number = |word: &str| word.parse::<u64>().ok();
    let mut layers = BTreeSet::new();
    for word in words(typed) {
        let run = match word.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)),
            None => number(&word).map(|one| (one, one)),
        };
        let (first, last) =
            run.filter(|(first, last)| first <= last).ok_or(TargetError::Layers(word.clone()))?;
        if last >= n_layer {
            return Err(TargetError::NoLayer { layer: last, last: n_layer.saturating_sub(1) });
        }
        layers.extend(first..=last);
    }
    if layers.is_empty() {
        return Err(TargetError::Layers(typed.join(" ")));
    }
    Ok(layers.into_iter().collect())
}

/// Where `selection` puts adapters in a GPT-J of `n_layer` layers.
fn sites(selection: &Selection, n_layer: u64) -> Result<BTreeSet<Site>, TargetError> {
    let all = Site::all(n_layer);
    let others = other_modules(n_layer);
    // Each name has to meet something: one that does not is a slip of the pen.
    let targets: Vec<Selection> = match &selection.modules {
        TargetModules::Names(names) => {
            let alone = |name| Selection { modules: TargetModules::names([name]), ..selection.clone() };
            names.iter().map(alone).collect()
        }
        TargetModules::Pattern(_) | TargetModules::AllLinear => vec![selection.clone()],
    };
    let mut sites = BTreeSet::new();
    for target in &targets {
        let matcher = target.matcher().map_err(TargetError::Selection)?;
        let anywhere = Selection::from(target.modules.clone());
        let anywhere = anywhere.matcher().map_err(TargetError::Selection)?;
        if let Some(module) = others.iter().find(|module| anywhere.selects(module)) {
            let (target, module) = (described(target), module.clone());
            return Err(TargetError::NotAdaptable { target, module, advice: known(n_layer) });
        }
        let found = all.iter().filter(|site| matcher.selects(&site.module()));
        let found: Vec<Site> = found.copied().collect();
        if found.is_empty() {
            return Err(TargetError::Nothing { target: described(target), advice: known(n_layer) });
        }
        sites.extend(found);
    }
    if sites.is_empty() {
        return Err(TargetError::Nothing { target: "(nothing)".to_owned(), advice: known(n_layer) });
    }
    Ok(sites)
}

fn described(selection: &Selection) -> String {
    let modules = match &selection.modules {
        TargetModules::Names(names) => names.join(","),
        TargetModules::Pattern(pattern) => pattern.clone(),
        TargetModules::AllLinear => "all-linear".to_owned(),
    };
    let layers = selection.layers.as_deref();
    let layers = layers.map(|layers| format!(" --layers-to-transform {}", ranges(layers)));
    let patterns = Some(selection.layers_pattern.join(",")).filter(|patterns| !patterns.is_empty());
    let patterns = patterns.map(|patterns| format!(" --layers-pattern {patterns}"));
    format!("{modules}{}{}", layers.unwrap_or_default(), patterns.unwrap_or_default())
}

/// Where adapters can be.
fn known(n_layer: u64) -> String {
    let names: Vec<&str> = by_projection(&Site::all(1)).into_keys().map(Projection::name).collect();
    let last = Site { projection: Projection::FcOut, layer: n_layer.saturating_sub(1) };
    format!(
        "there are {} in each of {n_layer} layers, with whole names from `transformer.h.0.attn.q_proj` to `{}`; a regular \
         expression has to match a whole name",
        names.join(", "),
        last.module()
    )
}

/// Modules of Hugging Face's GPT-J that PEFT would match and that have no adapter here.
fn other_modules(n_layer: u64) -> Vec<String> {
    let of_model =
        ["transformer", "transformer.wte", "transformer.drop", "transformer.h", "transformer.ln_f"];
    let of_layer = [
        "",
        ".ln_1",
        ".attn",
        ".attn.attn_dropout",
        ".attn.resid_dropout",
        ".mlp",
        ".mlp.act",
        ".mlp.dropout",
    ];
    let mut modules: Vec<String> = of_model.map(str::to_owned).into();
    for layer in 0..n_layer {
        modules.extend(of_layer.map(|part| format!("transformer.h.{layer}{part}")));
    }
    modules.push("lm_head".to_owned());
    modules
}

#[cfg(test)]
#[path = "lora_tests.rs"]
mod tests;
