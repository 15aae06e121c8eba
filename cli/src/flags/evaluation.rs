//! Flags of evaluation during training, and of which model of a run is the best.

use super::When;
use super::values;
use clap::Args;
use gptjc_runtime::evaluate::{BestModelOptions, Metric};
use gptjc_runtime::train::Cadence;

/// Evaluation during training.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Evaluation")]
pub(crate) struct EvaluationFlags {
    /// When the model is evaluated during training
    #[arg(long, visible_alias = "evaluation-strategy", value_name = "WHEN", value_enum, default_value_t = When::No, ignore_case = true)]
    pub(crate) eval_strategy: When,
    /// Optimizer steps between evaluations [default: --logging-steps]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) eval_steps: Option<u64>,
    /// Evaluate before the first step too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) eval_on_start: bool,
    /// What is measured: loss; score, the accuracy of the likeliest label; generate, that of the label that is written
    /// [default: loss,score for rows whose labels are words, else loss]
    #[arg(long, value_name = "METRICS", num_args = 1.., value_delimiter = ',')]
    pub(crate) eval_metrics: Option<Vec<Metric>>,
    /// End with the best model instead of the last; needs checkpoints at the same steps as evaluations
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) load_best_model_at_end: bool,
    /// What models are compared by: loss, perplexity, accuracy or generated_accuracy, with or without eval_ [default: loss]
    #[arg(long, value_name = "NAME")]
    pub(crate) metric_for_best_model: Option<String>,
    /// Whether more of it is better [default: False for loss and perplexity, else True]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = values::boolean)]
    pub(crate) greater_is_better: Option<bool>,
    /// Stop when so many evaluations in a row brought no better model
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) early_stopping_patience: Option<u64>,
    /// By how much a model must be better to count as better there
    #[arg(long, value_name = "X", default_value = "0", value_parser = values::not_negative)]
    pub(crate) early_stopping_threshold: f64,
}

impl EvaluationFlags {
    /// When the model is evaluated.
    pub(crate) fn cadence(&self, logging_steps: u64) -> Cadence {
        self.eval_strategy.cadence(self.eval_steps.unwrap_or(logging_steps))
    }

    /// True if the run evaluates while it trains.
    pub(crate) fn during_training(&self) -> bool {
        self.eval_strategy != When::No || self.eval_on_start
    }

    /// How models are compared; `save_best` to save whenever one is the best.
    pub(crate) fn best_model(&self, save_best: bool) -> BestModelOptions {
        BestModelOptions {
            metric_for_best_model: self.metric_for_best_model.clone(),
            greater_is_better: self.greater_is_better,
            load_best_model_at_end: self.load_best_model_at_end,
            save_best,
            early_stopping_patience: self.early_stopping_patience,
            early_stopping_threshold: self.early_stopping_threshold,
        }
    }
}
