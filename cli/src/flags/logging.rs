//! Flags of the log: when it gets an entry, and who is told.

use super::When;
use super::reference::RefusedValue;
use super::values;
use clap::Args;
use gptjc_runtime::record::ReportTo;
use gptjc_runtime::train::Cadence;

/// Trackers of Hugging Face's Trainer that send what they are told over the network.
const REMOTE: [&str; 13] = [
    "azure_ml",
    "clearml",
    "codecarbon",
    "comet_ml",
    "dagshub",
    "dvclive",
    "flyte",
    "mlflow",
    "neptune",
    "swanlab",
    "trackio",
    "wandb",
    "tensorboardx",
];

/// The log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct LoggingFlags {
    /// When the log gets an entry
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Steps, ignore_case = true)]
    pub(crate) logging_strategy: When,
    /// Optimizer steps between entries of the log
    #[arg(long, value_name = "N", default_value = "500", value_parser = values::count)]
    pub(crate) logging_steps: u64,
    /// Log the first step in any case
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) logging_first_step: bool,
    /// Where the log goes besides trainer_state.json: jsonl (metrics.jsonl), tensorboard (event files in runs/), several with
    /// commas or blanks between them, all or none
    #[arg(long, value_name = "WHOM", num_args = 1.., value_delimiter = ',', default_value = "jsonl")]
    pub(crate) report_to: Vec<String>,
}

impl LoggingFlags {
    /// When the log gets an entry.
    pub(crate) fn cadence(&self) -> Cadence {
        self.logging_strategy.cadence(self.logging_steps)
    }

    /// Where the log goes.
    ///
    /// # Errors
    /// [`RefusedValue`] for a tracker that gptjc does not write for.
    pub(crate) fn report_to(&self) -> Result<ReportTo, RefusedValue> {
        let mut report_to = ReportTo::default();
        let words: Vec<String> = self.report_to.iter().map(|word| word.to_ascii_lowercase()).collect();
        for word in words.iter().filter(|word| !word.is_empty()) {
            let advice = match word.as_str() {
                "jsonl" => {
                    report_to.metrics = true;
                    continue;
                }
                "tensorboard" => {
                    report_to.tensorboard = true;
                    continue;
                }
                "all" => {
                    report_to = ReportTo { metrics: true, tensorboard: true };
                    continue;
                }
                "none" if words.len() == 1 => continue,
                "none" => "give none alone, or leave it out",
                other if REMOTE.contains(&other) => {
                    "gptjc never opens the network: give tensorboard, whose files most trackers can import"
                }
                _ => "give jsonl, tensorboard, all or none",
            };
            return Err(RefusedValue::new("report-to", word, advice));
        }
        Ok(report_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_to(words: &[&str]) -> Result<ReportTo, String> {
        let flags = LoggingFlags {
            logging_strategy: When::Steps,
            logging_steps: 1,
            logging_first_step: false,
            report_to: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        flags.report_to().map_err(|refused| format!("{refused}: {}", refused.advice))
    }

    #[test]
    fn trackers_are_files_or_refused() {
        let to = |metrics, tensorboard| Ok(ReportTo { metrics, tensorboard });
        assert_eq!(report_to(&["jsonl"]), to(true, false));
        assert_eq!(report_to(&["TensorBoard", "jsonl", ""]), to(true, true));
        assert_eq!(report_to(&["all"]), to(true, true));
        assert_eq!(report_to(&["none"]), to(false, false));
        let refused = |words: &[&str]| report_to(words).unwrap_err();
        assert!(
            refused(&["tensorboard", "wandb"])
                .starts_with("--report-to wandb is not possible: gptjc never opens")
        );
        assert!(refused(&["none", "jsonl"]).contains("give none alone"));
        assert!(refused(&["paper"]).contains("give jsonl, tensorboard, all or none"));
    }
}
