//! Flags of the reference workflow that choose nothing here, in one table: what each value of them means.
//!
//! A value either holds anyway, which is worth a note; or something else happens instead, which is worth a warning; or
//! it is refused. None is passed over in silence.
//! Does not: list flags that gptjc has itself; they are in the other files of this folder.

use super::values;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

/// Values of a flag.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// These words, in any case; truth values are `true` and `false`.
    Words(&'static [&'static str]),
    /// A whole number of at least 1.
    Count,
    /// Everything else.
    Other,
}

/// What gptjc says to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// That is so in any case.
    Holds(&'static str),
    /// That is not so: what happens instead.
    Instead(&'static str),
    /// That cannot be: what to do.
    Refused(&'static str),
}

/// A flag: the first of its values that fits has the answer.
#[derive(Debug)]
struct Row {
    flag: &'static str,
    /// Name of the value in the help; none for a truth value, which may be left out.
    value: Option<&'static str>,
    help: &'static str,
    answers: &'static [(Values, Answer)],
}

use Answer::{Holds, Instead, Refused};
use Values::{Count, Other, Words};

const TRUE: Values = Words(&["true"]);
const FALSE: Values = Words(&["false"]);
const AT_THE_END: &str = "the result is written once, when training is done; no checkpoint is written before";

/// The flags, in the order of the help.
const TABLE: &[Row] = &[
    Row {
        flag: "do-train",
        value: None,
        help: "True: that is what the command does",
        answers: &[
            (TRUE, Holds("the command trains in any case")),
            (FALSE, Refused("leave the command out if nothing is to be trained")),
        ],
    },
    Row {
        flag: "peft",
        value: Some("METHOD"),
        help: "lora",
        answers: &[
            (Words(&["lora"]), Holds("adapters are LoRA, or none with --trainable all")),
            (Other, Refused("gptjc trains LoRA adapters: --peft lora, or all parameters: --trainable all")),
        ],
    },
    Row {
        flag: "task",
        value: Some("TASK"),
        help: "completion",
        answers: &[
            (Words(&["completion"]), Holds("examples are a prompt and its completion")),
            (Other, Refused("gptjc has the task `completion` only")),
        ],
    },
    Row {
        flag: "use-cpu",
        value: None,
        help: "True: there is nothing else",
        answers: &[(TRUE, Holds("gptjc runs on the CPU")), (FALSE, Refused("gptjc runs on the CPU only"))],
    },
    Row {
        flag: "no-cuda",
        value: None,
        help: "True: there is nothing else",
        answers: &[(TRUE, Holds("gptjc runs on the CPU")), (FALSE, Refused("gptjc runs on the CPU only"))],
    },
    Row {
        flag: "use-fast-tokenizer",
        value: None,
        help: "Either: the token ids are the same",
        answers: &[(
            Words(&["true", "false"]),
            Holds("there is one tokenizer, and both of the workflow give its ids"),
        )],
    },
    Row {
        flag: "per-device-eval-batch-size",
        value: Some("N"),
        help: "Any: the loss is a mean over tokens, whatever the batch",
        answers: &[(
            Count,
            Holds("evaluation takes the plan's micro-batch, and its loss does not depend on that"),
        )],
    },
    Row {
        flag: "save-strategy",
        value: Some("WHEN"),
        help: "no; with epoch or steps, too, only the result is written",
        answers: &[
            (Words(&["no"]), Holds("only the result is written")),
            (Words(&["epoch", "steps"]), Instead(AT_THE_END)),
            (Other, Refused("give no, epoch or steps")),
        ],
    },
    Row {
        flag: "save-steps",
        value: Some("N"),
        help: "Only the result is written",
        answers: &[(Count, Instead(AT_THE_END))],
    },
    Row {
        flag: "save-total-limit",
        value: Some("N"),
        help: "Any: only the result is written",
        answers: &[(Count, Holds("only the result is written"))],
    },
    Row {
        flag: "lr-scheduler-type",
        value: Some("KIND"),
        help: "linear",
        answers: &[
            (Words(&["linear"]), Holds("the learning rate falls linearly to 0")),
            (Other, Refused("gptjc has the linear schedule only, with --warmup-steps")),
        ],
    },
    Row {
        flag: "warmup-ratio",
        value: Some("X"),
        help: "0; warm-up is given in steps",
        answers: &[
            (Words(&["0", "0.0"]), Holds("there is no warm-up but by --warmup-steps")),
            (Other, Refused("give the warm-up in steps: --warmup-steps N")),
        ],
    },
    Row {
        flag: "optim",
        value: Some("NAME"),
        help: "adamw_torch",
        answers: &[
            (Words(&["adamw_torch", "adamw_torch_fused", "adamw_hf"]), Holds("the optimizer is AdamW")),
            (Other, Refused("gptjc has AdamW only: --optim adamw_torch")),
        ],
    },
    Row {
        flag: "fp16",
        value: None,
        help: "False; see --precision",
        answers: &[
            (FALSE, Holds("gptjc computes in bf16 or f32")),
            (TRUE, Refused("gptjc computes in bf16 or f32: --precision bf16 or --precision f32")),
        ],
    },
    Row {
        flag: "gradient-checkpointing",
        value: None,
        help: "False; memory is planned for --memory-budget",
        answers: &[
            (FALSE, Holds("nothing is recomputed")),
            (
                TRUE,
                Instead("nothing is recomputed; micro-batches become smaller until --memory-budget is met"),
            ),
        ],
    },
    Row {
        flag: "lora-all-linear",
        value: None,
        help: "False; see --lora-target-modules",
        answers: &[
            (FALSE, Holds("adapters are on --lora-target-modules")),
            (TRUE, Refused("give --lora-target-modules all-linear")),
        ],
    },
    Row {
        flag: "overwrite-cache",
        value: None,
        help: "Either: there is no cache of the data",
        answers: &[(Words(&["true", "false"]), Holds("data are read anew each time"))],
    },
    Row {
        flag: "ddp-backend",
        value: Some("NAME"),
        help: "One process uses all cores",
        answers: &[(Other, Instead("there is one process, which uses all cores that it may"))],
    },
    Row {
        flag: "resume-from-checkpoint",
        value: Some("DIR"),
        help: "Not possible: start from an adapter with --adapter",
        answers: &[(
            Other,
            Refused(
                "the optimizer's moments are not kept; start from the adapter with --adapter DIR and new moments",
            ),
        )],
    },
];

/// The flags of the table that were typed, with their values.
#[derive(Debug, Default)]
pub(crate) struct ReferenceFlags {
    given: Vec<(&'static Row, String)>,
}

/// A value that gptjc cannot follow.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("--{flag} {value} is not possible")]
pub(crate) struct RefusedValue {
    flag: &'static str,
    value: String,
    /// What to do.
    pub(crate) advice: String,
}

impl RefusedValue {
    /// `value` of `flag` cannot be followed; what to do.
    pub(crate) fn new(flag: &'static str, value: &str, advice: &str) -> Self {
        Self { flag, value: value.to_owned(), advice: advice.to_owned() }
    }
}

/// What the user is told about the flags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    /// What holds in any case.
    pub(crate) notes: Vec<String>,
    /// What happens instead.
    pub(crate) warnings: Vec<String>,
}

impl ReferenceFlags {
    /// What the flags that were typed come to.
    ///
    /// # Errors
    /// [`RefusedValue`]: the first value that gptjc cannot follow.
    pub(crate) fn verdicts(&self) -> Result<Verdicts, RefusedValue> {
        let mut verdicts = Verdicts::default();
        for (row, value) in &self.given {
            match row.answer(value)? {
                Holds(text) => verdicts.notes.push(format!("--{} {value}: {text}", row.flag)),
                Instead(text) => verdicts.warnings.push(format!("--{} {value}: {text}", row.flag)),
                Refused(_) => {}
            }
        }
        Ok(verdicts)
    }
}

impl Row {
    /// The answer to `value`, unless it is refused.
    fn answer(&self, value: &str) -> Result<Answer, RefusedValue> {
        let word = match (self.value, values::boolean(value)) {
            (None, Ok(truth)) => truth.to_string(),
            _ => value.to_ascii_lowercase(),
        };
        let fits = |values: &Values| match values {
            Words(words) => words.contains(&word.as_str()),
            Count => values::count(&word).is_ok(),
            Other => true,
        };
        let refused = |advice: &str| RefusedValue::new(self.flag, value, advice);
        match self.answers.iter().find(|(values, _)| fits(values)) {
            Some((_, Refused(advice))) => Err(refused(advice)),
            Some((_, answer)) => Ok(*answer),
            None if self.value.is_none() => Err(refused("give True or False")),
            None => Err(refused("give a whole number of at least 1")),
        }
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.flag).long(self.flag).help(self.help).help_heading("Reference workflow");
        match self.value {
            Some(name) => arg.value_name(name),
            None => arg.value_name("BOOL").num_args(0..=1).default_missing_value("True"),
        }
    }
}

impl FromArgMatches for ReferenceFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for row in TABLE {
            let value = matches
                .try_get_one::<String>(row.flag)
                .map_err(|error| clap::Error::raw(ErrorKind::UnknownArgument, error))?;
            self.given.extend(value.map(|value| (row, value.clone())));
        }
        Ok(())
    }
}

impl Args for ReferenceFlags {
    fn augment_args(command: Command) -> Command {
        command.args(TABLE.iter().map(Row::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flag: &str, value: &str) -> Result<Answer, String> {
        let row = TABLE.iter().find(|row| row.flag == flag).unwrap();
        row.answer(value).map_err(|refused| format!("{refused}: {}", refused.advice))
    }

    #[test]
    fn every_row_has_an_answer_and_a_help() {
        for row in TABLE {
            assert!(!row.answers.is_empty() && !row.help.is_empty(), "{row:?}");
            assert!(!row.flag.contains('_'), "{row:?}");
        }
    }

    #[test]
    fn values_hold_are_replaced_or_are_refused() {
        let holds =
            [("do-train", "True"), ("use-cpu", "1"), ("peft", "LoRA"), ("use-fast-tokenizer", "false")];
        for (flag, value) in holds {
            assert!(matches!(answer(flag, value), Ok(Holds(_))), "--{flag} {value}");
        }
        assert_eq!(answer("save-strategy", "epoch"), Ok(Instead(AT_THE_END)));
        let refused = [
            ("use-cpu", "False", "--use-cpu False is not possible: gptjc runs on the CPU only"),
            ("task", "chat", "--task chat is not possible: gptjc has the task `completion` only"),
            ("do-train", "maybe", "--do-train maybe is not possible: give True or False"),
            (
                "save-total-limit",
                "0",
                "--save-total-limit 0 is not possible: give a whole number of at least 1",
            ),
        ];
        for (flag, value, message) in refused {
            assert_eq!(answer(flag, value), Err(message.to_owned()));
        }
    }
}
