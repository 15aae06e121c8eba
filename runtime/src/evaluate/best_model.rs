//! Which model of a run is the best, and when to stop because none is better any more: the rules of Hugging Face's
//! Trainer and of its `EarlyStoppingCallback`.
//!
//! What was judged before a run was stopped is judged again from its log, so a resume needs nothing but `trainer_state.json`.
//!
//! Does not: evaluate, save or load; the training loop asks and acts.

use crate::train::LogEntry;
use std::collections::BTreeMap;

/// How models are compared; the names are those of Hugging Face's `TrainingArguments`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BestModelOptions {
    /// Name of the metric, with or without `eval_`; `eval_loss` if there is none.
    pub metric_for_best_model: Option<String>,
    /// Whether more of it is better; if not given, it is unless the name ends in `loss` or `perplexity`.
    pub greater_is_better: Option<bool>,
    /// Whether a run ends with the parameters of its best model.
    pub load_best_model_at_end: bool,
    /// Whether a checkpoint is written whenever a model is the best so far.
    pub save_best: bool,
    /// Evaluations in a row without a better model after which a run ends; none to go on.
    pub early_stopping_patience: Option<u64>,
    /// By how much a model must be better to count as better there.
    pub early_stopping_threshold: f64,
}

impl BestModelOptions {
    /// True if what happens in the run depends on which model is better.
    pub fn compares(&self) -> bool {
        self.metric_for_best_model.is_some()
            || self.load_best_model_at_end
            || self.save_best
            || self.early_stopping_patience.is_some()
    }

    /// The metric's name in the log: with `eval_`.
    pub fn metric(&self) -> String {
        match self.metric_for_best_model.as_deref() {
            None => "eval_loss".to_owned(),
            Some(name) if name.starts_with("eval_") => name.to_owned(),
            Some(name) => format!("eval_{name}"),
        }
    }

    /// Whether more of the metric is better.
    pub fn greater_is_better(&self) -> bool {
        let metric = self.metric();
        self.greater_is_better.unwrap_or(!metric.ends_with("loss") && !metric.ends_with("perplexity"))
    }
}

/// The best model so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// Optimizer steps after which it was evaluated.
    pub step: u64,
    /// Its metric.
    pub metric: f64,
}

/// What an evaluation means for the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The model is better than all before it.
    pub best: bool,
    /// The run ends here: patience is used up.
    pub stop: bool,
}

/// An evaluation without the metric that models are compared by.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the evaluation after step {step} has no `{metric}` to choose the best model by, only {}; give another --metric-for-best-model", found.join(", "))]
pub struct NoMetric {
    /// Optimizer steps done.
    pub step: u64,
    /// The metric's name.
    pub metric: String,
    /// What the evaluation has.
    pub found: Vec<String>,
}

/// Judges evaluations, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct BestModel {
    options: BestModelOptions,
    best: Option<Best>,
    /// Evaluations since the last one that was better by the threshold.
    waited: u64,
    /// Step of the evaluation that was judged last.
    judged: u64,
}

impl BestModel {
    /// A judge that has seen nothing.
    pub fn new(options: BestModelOptions) -> Self {
        Self { options, best: None, waited: 0, judged: 0 }
    }

    /// A judge that has seen the evaluations of `log`.
    pub fn resumed(options: BestModelOptions, log: &[LogEntry]) -> Self {
        let mut judge = Self::new(options);
        let metric = judge.options.metric();
        for entry in log {
            if let Some(value) = entry.other.get(&metric) {
                // A number that is not finite is null in the log.
                judge.weigh(entry.step, value.as_f64().unwrap_or(f64::NAN));
            }
        }
        judge
    }

    /// How models are compared.
    pub fn options(&self) -> &BestModelOptions {
        &self.options
    }

    /// The best model so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// Judges the evaluation after `step` optimizer steps. The one before the first step is not judged.
    ///
    /// # Errors
    /// [`NoMetric`] if `metrics` do not have the metric.
    pub fn judge(&mut self, step: u64, metrics: &BTreeMap<String, f64>) -> Result<Verdict, NoMetric> {
        let metric = self.options.metric();
        match metrics.get(&metric) {
            Some(&value) => Ok(self.weigh(step, value)),
            None => Err(NoMetric { step, metric, found: metrics.keys().cloned().collect() }),
        }
    }

    fn weigh(&mut self, step: u64, value: f64) -> Verdict {
        if step <= self.judged {
            return Verdict::default();
        }
        self.judged = step;
        let better = |than: f64| if self.options.greater_is_better() { value > than } else { value < than };
        let worth = match self.best {
            None => true,
            Some(best) => {
                better(best.metric) && (value - best.metric).abs() > self.options.early_stopping_threshold
            }
        };
        self.waited = if worth { 0 } else { self.waited + 1 };
        let best = !value.is_nan() && self.best.is_none_or(|best| better(best.metric));
        if best {
            self.best = Some(Best { step, metric: value });
        }
        let stop = self.options.early_stopping_patience.is_some_and(|patience| self.waited >= patience);
        Verdict { best, stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Others;
    use serde_json::Value;

    fn metrics(name: &str, value: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([(name.to_owned(), value), ("eval_runtime".to_owned(), 1.0)])
    }

    fn options(patience: u64, threshold: f64) -> BestModelOptions {
        BestModelOptions {
            early_stopping_patience: Some(patience),
            early_stopping_threshold: threshold,
            ..BestModelOptions::default()
        }
    }

    /// Judges `values` after steps 10, 20, ...; what was best, what stopped.
    fn judged(options: BestModelOptions, name: &str, values: &[f64]) -> (BestModel, String) {
        let mut judge = BestModel::new(options);
        let mut verdicts = String::new();
        for (index, &value) in values.iter().enumerate() {
            let verdict = judge.judge(10 * (index as u64 + 1), &metrics(name, value)).unwrap();
            verdicts.push(match (verdict.best, verdict.stop) {
                (true, false) => 'b',
                (false, false) => '.',
                (false, true) => 's',
                (true, true) => 'S',
            });
        }
        (judge, verdicts)
    }

    #[test]
    fn less_loss_is_better_and_more_of_anything_else() {
        let (judge, verdicts) = judged(options(2, 0.0), "eval_loss", &[3.0, 2.0, 2.5, 2.0, 1.0]);
        assert_eq!(verdicts, "bb.sb", "an equal loss is not better, and a better one starts patience anew");
        assert_eq!(judge.best(), Some(Best { step: 50, metric: 1.0 }));
        let by = |name: &str, greater| BestModelOptions {
            metric_for_best_model: Some(name.to_owned()),
            greater_is_better: greater,
            ..BestModelOptions::default()
        };
        assert_eq!(judged(by("accuracy", None), "eval_accuracy", &[0.5, 0.4, 0.6]).1, "b.b");
        assert_eq!(judged(by("eval_perplexity", None), "eval_perplexity", &[5.0, 4.0, 6.0]).1, "bb.");
        assert_eq!(judged(by("eval_loss", Some(true)), "eval_loss", &[5.0, 4.0, 6.0]).1, "b.b");
    }

    #[test]
    fn what_is_better_by_less_than_the_threshold_is_best_and_uses_up_patience() {
        let (judge, verdicts) = judged(options(2, 0.1), "eval_loss", &[3.0, 2.95, 2.91, 2.5]);
        // As in transformers, 2.91 is held against 2.95, the best so far, and not against 3.0.
        assert_eq!(verdicts, "bbSb");
        assert_eq!(judge.best().unwrap().step, 40);
    }

    #[test]
    fn no_number_is_never_better() {
        let (judge, verdicts) = judged(options(2, 0.0), "eval_loss", &[f64::NAN, 2.0, f64::NAN, f64::NAN]);
        assert_eq!(verdicts, ".b.s");
        assert_eq!(judge.best(), Some(Best { step: 20, metric: 2.0 }));
    }

    #[test]
    fn a_resumed_judge_is_the_one_that_went_on() {
        let values = [3.0, 2.0, f64::NAN, 2.5, 1.5, 1.6];
        let (whole, verdicts) = judged(options(3, 0.0), "eval_loss", &values);
        assert_eq!(verdicts, "bb..b.");
        let mut log = vec![LogEntry::training(10, 0.1, 3.0, 1.0, 1e-4)];
        let start = Others::from_iter([("eval_loss".to_owned(), Value::from(0.1))]);
        log.push(LogEntry { step: 0, other: start, ..LogEntry::default() });
        for (index, value) in values.iter().enumerate() {
            let other = Others::from_iter([("eval_loss".to_owned(), Value::from(*value))]);
            log.push(LogEntry { step: 10 * (index as u64 + 1), other, ..LogEntry::default() });
        }
        assert_eq!(BestModel::resumed(options(3, 0.0), &log), whole);
    }

    #[test]
    fn an_evaluation_without_the_metric_is_an_error() {
        let mut judge = BestModel::new(BestModelOptions {
            metric_for_best_model: Some("f1".to_owned()),
            ..BestModelOptions::default()
        });
        let message = judge.judge(5, &metrics("eval_loss", 1.0)).unwrap_err().to_string();
        assert!(message.contains("after step 5 has no `eval_f1`"), "{message}");
        assert!(message.contains("only eval_loss, eval_runtime"), "{message}");
    }
}
