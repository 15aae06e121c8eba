//! Flags of the reference workflow, and of the Hugging Face classes that it parses into, that choose nothing here: what
//! each value of them means.
//!
//! A value either holds anyway, which is worth a note; or something else happens instead, which is worth a warning; or
//! it is refused. None is passed over in silence. The flags that people give are here and in the help; the others are in
//! the files of `reference/` by what they are about, and in the table of docs/flags.md only, which is made of all of them.
//! Does not: list flags that gptjc has itself; they are in the other files of this folder.

mod data;
mod hardware;
mod hub;
mod model;
#[cfg(test)]
mod readme;
mod running;
mod training;

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
    /// Name of the value in the help, with `...` behind it if there may be several; none for a truth value, which may be
    /// left out. A `TOKEN` is a secret, and never said again.
    value: Option<&'static str>,
    help: &'static str,
    answers: &'static [(Values, Answer)],
}

use Answer::{Holds, Instead, Refused};
use Values::{Count, Other, Words};

const TRUE: Values = Words(&["true"]);
const FALSE: Values = Words(&["false"]);
const TRUE_OR_FALSE: Values = Words(&["true", "false"]);
const NONE: Values = Words(&["none", "0", "0.0"]);

/// All flags, those of the help first.
fn rows() -> impl Iterator<Item = &'static Row> {
    [TABLE, model::ROWS, data::ROWS, training::ROWS, running::ROWS, hardware::ROWS, hub::ROWS]
        .into_iter()
        .flatten()
}

/// The flags of the help, in its order.
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
                Holds(text) => verdicts.notes.push(format!("--{} {}: {text}", row.flag, row.shown(value))),
                Instead(text) => {
                    verdicts.warnings.push(format!("--{} {}: {text}", row.flag, row.shown(value)));
                }
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
        let refused = |advice: &str| RefusedValue::new(self.flag, self.shown(value), advice);
        match self.answers.iter().find(|(values, _)| fits(values)) {
            Some((_, Refused(advice))) => Err(refused(advice)),
            Some((_, answer)) => Ok(*answer),
            None if self.value.is_none() => Err(refused("give True or False")),
            None => Err(refused("give a whole number of at least 1")),
        }
    }

    /// A value as it may be said again.
    fn shown<'v>(&self, value: &'v str) -> &'v str {
        if self.value == Some("TOKEN") { "..." } else { value }
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.flag).long(self.flag).help(self.help).help_heading("Reference workflow");
        let arg = arg.hide(!TABLE.iter().any(|row| row.flag == self.flag)).allow_negative_numbers(true);
        match self.value.map(|name| (name, name.strip_suffix("..."))) {
            Some((_, Some(name))) => arg.value_name(name).num_args(1..),
            Some((name, None)) => arg.value_name(name),
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
        for row in rows() {
            let values = matches
                .try_get_many::<String>(row.flag)
                .map_err(|error| clap::Error::raw(ErrorKind::UnknownArgument, error))?;
            let value = values.map(|values| values.map(String::as_str).collect::<Vec<_>>().join(" "));
            self.given.extend(value.map(|value| (row, value)));
        }
        Ok(())
    }
}

impl Args for ReferenceFlags {
    fn augment_args(command: Command) -> Command {
        command.args(rows().map(Row::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flag: &str, value: &str) -> Result<Answer, String> {
        let row = rows().find(|row| row.flag == flag).unwrap();
        row.answer(value).map_err(|refused| format!("{refused}: {}", refused.advice))
    }

    #[test]
    fn every_row_has_an_answer_and_a_help() {
        for row in rows() {
            assert!(!row.answers.is_empty() && !row.help.is_empty(), "{row:?}");
            assert!(!row.flag.contains('_'), "{row:?}");
            let words = row.answers.iter().filter_map(|(values, _)| match values {
                Words(words) => Some(words),
                Count | Other => None,
            });
            for word in words.copied().flatten() {
                assert_eq!(*word, word.to_ascii_lowercase(), "words are compared in lower case: {row:?}");
            }
            // Any value has an answer, unless the row says what it expects.
            let last = row.answers.last().map(|(values, _)| values);
            let takes_all = matches!(last, Some(Other | Count)) || row.value.is_none();
            assert!(takes_all, "{row:?}");
        }
    }

    #[test]
    fn secrets_are_not_said_again() {
        let row = rows().find(|row| row.flag == "hub-token").unwrap();
        let flags = ReferenceFlags { given: vec![(row, "hf_secret".to_owned())] };
        assert_eq!(flags.verdicts().unwrap().notes, ["--hub-token ...: nothing is uploaded"]);
    }

    #[test]
    fn several_values_are_one_text() {
        let command = ReferenceFlags::augment_args(Command::new("x"));
        let line = ["x", "--fsdp", "full_shard", "auto_wrap", "--local-rank", "-1", "--qlora"];
        let flags = ReferenceFlags::from_arg_matches(&command.try_get_matches_from(line).unwrap()).unwrap();
        let refused = flags.verdicts().unwrap_err();
        assert_eq!(refused.to_string(), "--qlora True is not possible");
        let given: Vec<(&str, &str)> =
            flags.given.iter().map(|(row, value)| (row.flag, value.as_str())).collect();
        assert_eq!(given, [("qlora", "True"), ("local-rank", "-1"), ("fsdp", "full_shard auto_wrap")]);
    }

    #[test]
    fn values_hold_are_replaced_or_are_refused() {
        let holds =
            [("do-train", "True"), ("use-cpu", "1"), ("peft", "LoRA"), ("use-fast-tokenizer", "false")];
        for (flag, value) in holds {
            assert!(matches!(answer(flag, value), Ok(Holds(_))), "--{flag} {value}");
        }
        assert!(matches!(answer("ddp-backend", "ccl"), Ok(Instead(_))));
        let refused = [
            ("use-cpu", "False", "--use-cpu False is not possible: gptjc runs on the CPU only"),
            ("task", "chat", "--task chat is not possible: gptjc has the task `completion` only"),
            ("do-train", "maybe", "--do-train maybe is not possible: give True or False"),
            (
                "per-device-eval-batch-size",
                "0",
                "--per-device-eval-batch-size 0 is not possible: give a whole number of at least 1",
            ),
        ];
        for (flag, value, message) in refused {
            assert_eq!(answer(flag, value), Err(message.to_owned()));
        }
    }
}
