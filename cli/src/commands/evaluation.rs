//! What a run is evaluated with: flags that fit together, rows and metrics, and a plan to generate answers.

use super::data::{TextPath, Validation};
use super::engine;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::checkpoint::SaveWhen;
use crate::flags::{EvaluationFlags, JobFlags, When};
use gptjc_compiler::{MemoryNeed, budget};
use gptjc_graphs::plan::{CompileOptions, Plan};
use gptjc_runtime::data::prompt::LabelStyle;
use gptjc_runtime::evaluate::{BestModelOptions, Generator, Metric, ModelEvaluator};
use gptjc_runtime::train::Cadence;
use gptjc_runtime::validate::mnli::{Mode, Options, Row, check_lengths};
use gptjc_runtime::validate::questions::{Questions, questions};

/// Tokens that an answer may have, as in the reference workflow.
const ANSWER_TOKENS: usize = 5;
/// Prompts that are continued side by side.
const SIDE_BY_SIDE: u64 = 8;
/// What every evaluation has besides its metrics.
const ALWAYS: [&str; 2] = ["eval_runtime", "eval_samples_per_second"];

/// Whether the run evaluates, as `--do-eval` and the flags that need it say; none if neither says anything.
pub(crate) fn wanted(job: &JobFlags) -> Result<Option<bool>, CliError> {
    match (job.run.do_eval, job.evaluation.during_training()) {
        (Some(false), true) => Err(CliError::Flags {
            first: "--do-eval False".to_owned(),
            second: "--eval-strategy or --eval-on-start".to_owned(),
        }),
        (wanted, during_training) => Ok(wanted.or(during_training.then_some(true))),
    }
}

/// How models are compared, and what that decides.
pub(crate) fn policy(job: &JobFlags) -> BestModelOptions {
    job.evaluation.best_model(job.checkpoint.save_strategy == SaveWhen::Best)
}

/// Refuses flags that do not fit together, as Hugging Face's Trainer does, and says which have no effect.
pub(crate) fn check(job: &JobFlags, console: Console) -> Result<(), CliError> {
    let flags = &job.evaluation;
    let save = (job.checkpoint.save_strategy != SaveWhen::Best).then(|| job.checkpoint.cadence());
    let usage = |what: String, advice: &str| Err(CliError::Usage { what, advice: advice.to_owned() });
    let needs = [
        ("--load-best-model-at-end", flags.load_best_model_at_end),
        ("--metric-for-best-model", flags.metric_for_best_model.is_some()),
        ("--early-stopping-patience", flags.early_stopping_patience.is_some()),
        ("--save-strategy best", save.is_none()),
    ];
    if let Some((flag, _)) = needs.iter().find(|(_, given)| *given && flags.eval_strategy == When::No) {
        return usage(
            format!("{flag} needs evaluations during training"),
            "give --eval-strategy steps or epoch",
        );
    }
    if flags.eval_steps.is_some() && flags.eval_strategy != When::Steps {
        console.warn("--eval-steps has no effect without --eval-strategy steps");
    }
    if flags.early_stopping_threshold > 0.0 && flags.early_stopping_patience.is_none() {
        console.warn("--early-stopping-threshold has no effect without --early-stopping-patience");
    }
    if flags.load_best_model_at_end {
        check_checkpoints(flags.cadence(job.logging.logging_steps), save)?;
    }
    Ok(())
}

/// Refuses checkpoints that are not written where models are evaluated: the best one could not be loaded.
fn check_checkpoints(eval: Cadence, save: Option<Cadence>) -> Result<(), CliError> {
    let what = match (eval, save) {
        (_, None) | (Cadence::Epochs, Some(Cadence::Epochs)) => return Ok(()),
        (Cadence::Steps(eval), Some(Cadence::Steps(save))) if save.is_multiple_of(eval.max(1)) => {
            return Ok(());
        }
        (Cadence::Steps(eval), Some(Cadence::Steps(save))) => {
            format!("--load-best-model-at-end: --save-steps {save} is not a multiple of --eval-steps {eval}")
        }
        _ => "--load-best-model-at-end: --save-strategy and --eval-strategy differ".to_owned(),
    };
    let advice = "every model that is saved must have been evaluated: give both strategies the same value, or --save-strategy best";
    Err(CliError::Usage { what, advice: advice.to_owned() })
}

/// What measures the model, on rows that were read.
pub(crate) fn evaluator<'a>(
    flags: &EvaluationFlags,
    text: &'a TextPath<'_>,
    validation: Validation,
    plan: &Plan,
    console: Console,
) -> Result<ModelEvaluator<'a>, CliError> {
    let Validation { windows, rows } = validation;
    let options = text.example_options()?;
    let metrics = metrics(flags, !rows.is_empty(), options.label_style)?;
    let has = |metric: Metric| metrics.contains(&metric);
    let mut evaluator = ModelEvaluator::new(if has(Metric::Loss) { windows } else { Vec::new() });
    if !has(Metric::Score) && !has(Metric::Generate) {
        return Ok(evaluator);
    }
    let tokenizer = text.tokenizer()?;
    let asked = questions(&rows, &options.template, options.label_style, tokenizer)
        .map_err(|source| CliError::Train(source.into()))?;
    if has(Metric::Generate) {
        let generator = generator(&asked, text, plan, console)?;
        evaluator = evaluator.generating(asked.clone(), generator);
    }
    if has(Metric::Score) {
        tell_long(&asked, plan, console);
        evaluator = evaluator.scoring(asked);
    }
    Ok(evaluator)
}

/// What is measured; refuses what these rows or these flags cannot have.
fn metrics(flags: &EvaluationFlags, labelled: bool, style: LabelStyle) -> Result<Vec<Metric>, CliError> {
    let default = if labelled && style == LabelStyle::Words {
        &[Metric::Loss, Metric::Score][..]
    } else {
        &[Metric::Loss]
    };
    let metrics = flags.eval_metrics.clone().unwrap_or_else(|| default.to_vec());
    if let Some(metric) = metrics.iter().find(|&&metric| metric != Metric::Loss && !labelled) {
        return Err(CliError::Usage {
            what: format!(
                "--eval-metrics {metric} needs rows with one of three labels, and the validation data have none"
            ),
            advice: "give rows of MNLI with --validation-file, or --eval-metrics loss".to_owned(),
        });
    }
    let wanted = flags.best_model(false).metric();
    let names: Vec<&str> = metrics.iter().flat_map(|metric| metric.names()).copied().chain(ALWAYS).collect();
    if flags.during_training() && needs_metric(flags) && !names.contains(&wanted.as_str()) {
        return Err(CliError::Usage {
            what: format!(
                "--metric-for-best-model {wanted} is not among what is measured: {}",
                names.join(", ")
            ),
            advice: "give one of these, or add what it needs to --eval-metrics".to_owned(),
        });
    }
    Ok(metrics)
}

/// True if models are compared.
fn needs_metric(flags: &EvaluationFlags) -> bool {
    flags.metric_for_best_model.is_some()
        || flags.load_best_model_at_end
        || flags.early_stopping_patience.is_some()
}

/// Says how many rows have no room in a window.
fn tell_long(asked: &Questions, plan: &Plan, console: Console) {
    let longest = asked.label_tokens.iter().map(Vec::len).max().unwrap_or(0);
    let window = plan.options.max_seq_length as usize;
    let long = |row: &&Row| row.prompt.len() + longest > window;
    let count = asked.rows.iter().filter(long).count();
    if count > 0 {
        console.warn(&format!(
            "{count} rows of the validation data are longer than --max-seq-length {window} with their label: they have no score \
             and count as not answered"
        ));
    }
}

/// What generates answers: a plan that decodes, in the memory that training leaves.
fn generator<'a>(
    asked: &Questions,
    text: &'a TextPath<'_>,
    plan: &Plan,
    console: Console,
) -> Result<Generator<'a>, CliError> {
    if plan.options.lora.is_none() {
        return Err(CliError::Usage {
            what: "--eval-metrics generate needs an adapter, and --trainable all trains none".to_owned(),
            advice: "leave generate out; `gptjc validate` generates with the model that was trained"
                .to_owned(),
        });
    }
    let tokenizer = text.tokenizer()?;
    let options = Options {
        mode: Mode::Generate,
        batch_size: SIDE_BY_SIDE as usize,
        max_new_tokens: ANSWER_TOKENS,
        eos: tokenizer.eos_id(),
        label_tokens: asked.label_tokens.clone(),
        label_texts: asked.label_texts.clone(),
        with_scores: false,
    };
    let positions = plan.options.model.n_positions as usize;
    let longest =
        check_lengths(&asked.rows, &options, positions).map_err(|source| CliError::Train(source.into()))?;
    let decode_plan = engine::plan_beside(&beside(plan), longest as u64, SIDE_BY_SIDE, console)?;
    // What the tokenizer cannot decode is no label.
    let decode = Box::new(move |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default());
    Ok(Generator::new(decode_plan, options, decode))
}

/// The options of `plan` with the memory that it leaves: of the weights, both plans map the same pages.
fn beside(plan: &Plan) -> CompileOptions {
    let need = MemoryNeed::of(plan);
    // Copies are of this plan alone.
    let shared = if need.copies == 0 { need.weights } else { 0 };
    let own = need.total() - shared;
    CompileOptions {
        memory_budget: budget(&plan.options).saturating_sub(own).max(1),
        micro_batch: 0,
        ..plan.options.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_saved_where_they_are_evaluated() {
        let refused = |eval, save| check_checkpoints(eval, save).err().map(|error| error.to_string());
        assert_eq!(refused(Cadence::Steps(10), Some(Cadence::Steps(20))), None);
        assert_eq!(refused(Cadence::Epochs, Some(Cadence::Epochs)), None);
        assert_eq!(refused(Cadence::Steps(10), None), None);
        let message = refused(Cadence::Steps(10), Some(Cadence::Steps(25))).unwrap();
        assert!(message.contains("--save-steps 25 is not a multiple of --eval-steps 10"), "{message}");
        for save in [Cadence::Never, Cadence::Epochs] {
            let message = refused(Cadence::Steps(10), Some(save)).unwrap();
            assert!(message.contains("--save-strategy and --eval-strategy differ"), "{message}");
        }
    }
}
