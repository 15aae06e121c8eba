//! Flags about evaluating, logging and saving.

use super::Answer::{Holds, Instead, Refused};
use super::Values::{Other, Words};
use super::{FALSE, Row, TRUE, TRUE_OR_FALSE};

const ROW_BY_ROW: &str = "rows are evaluated one by one, and what was predicted is not kept";
const TRACKERS: &str = "a run is known by its --output-dir";
const WHOLE: &str = "checkpoints hold all that it takes to go on";

pub(super) const ROWS: &[Row] = &[
    Row {
        flag: "eval-delay",
        value: Some("N"),
        help: "0: evaluation is not put off",
        answers: &[
            (Words(&["0", "0.0"]), Holds("evaluation is not put off")),
            (Other, Instead("evaluation is not put off")),
        ],
    },
    Row {
        flag: "prediction-loss-only",
        value: None,
        help: "Either: what was predicted is not kept",
        answers: &[(TRUE_OR_FALSE, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "eval-accumulation-steps",
        value: Some("N"),
        help: "Any: what was predicted is not kept",
        answers: &[(Other, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "batch-eval-metrics",
        value: None,
        help: "Either: what was predicted is not kept",
        answers: &[(TRUE_OR_FALSE, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "eval-do-concat-batches",
        value: None,
        help: "Either: what was predicted is not kept",
        answers: &[(TRUE_OR_FALSE, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "eval-use-gather-object",
        value: None,
        help: "Either: what was predicted is not kept",
        answers: &[(TRUE_OR_FALSE, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "include-inputs-for-metrics",
        value: None,
        help: "Either: what was predicted is not kept",
        answers: &[(TRUE_OR_FALSE, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "include-for-metrics",
        value: Some("NAMES..."),
        help: "Any: what was predicted is not kept",
        answers: &[(Other, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "use-legacy-prediction-loop",
        value: None,
        help: "Either: what was predicted is not kept",
        answers: &[(TRUE_OR_FALSE, Holds(ROW_BY_ROW))],
    },
    Row {
        flag: "include-tokens-per-second",
        value: None,
        help: "Either: progress shows tokens per second",
        answers: &[(TRUE_OR_FALSE, Holds("progress shows tokens per second"))],
    },
    Row {
        flag: "include-num-input-tokens-seen",
        value: Some("WHAT"),
        help: "False: the log does not count tokens",
        answers: &[
            (Words(&["false", "no"]), Holds("the log does not count tokens")),
            (Other, Instead("the log does not count tokens")),
        ],
    },
    Row {
        flag: "logging-dir",
        value: Some("DIR"),
        help: "The log is in --output-dir",
        answers: &[(Other, Instead("the log is in --output-dir"))],
    },
    Row {
        flag: "logging-nan-inf-filter",
        value: None,
        help: "Either: a loss that is not finite ends the run",
        answers: &[(TRUE_OR_FALSE, Holds("a loss that is not finite ends the run"))],
    },
    Row { flag: "run-name", value: Some("NAME"), help: TRACKERS, answers: &[(Other, Holds(TRACKERS))] },
    Row { flag: "project", value: Some("NAME"), help: TRACKERS, answers: &[(Other, Holds(TRACKERS))] },
    Row {
        flag: "trackio-space-id",
        value: Some("NAME"),
        help: TRACKERS,
        answers: &[(Other, Holds(TRACKERS))],
    },
    Row {
        flag: "save-safetensors",
        value: None,
        help: "True: tensors are written as safetensors",
        answers: &[
            (TRUE, Holds("tensors are written as safetensors")),
            (
                FALSE,
                Refused("leave it out: tensors are written as safetensors, which PEFT and transformers read"),
            ),
        ],
    },
    Row {
        flag: "save-only-model",
        value: None,
        help: "False: checkpoints hold all that it takes to go on",
        answers: &[(FALSE, Holds(WHOLE)), (TRUE, Instead(WHOLE))],
    },
    Row {
        flag: "restore-callback-states-from-checkpoint",
        value: None,
        help: "Either: a run goes on with all that its checkpoint holds",
        answers: &[(TRUE_OR_FALSE, Holds("a run goes on with all that its checkpoint holds"))],
    },
    Row {
        flag: "ignore-data-skip",
        value: None,
        help: "False: a run goes on with the window that comes next",
        answers: &[
            (FALSE, Holds("a run goes on with the window that comes next")),
            (TRUE, Instead("a run goes on with the window that comes next")),
        ],
    },
    Row {
        flag: "save-on-each-node",
        value: None,
        help: "Either: there is one process",
        answers: &[(TRUE_OR_FALSE, Holds("there is one process, which writes everything"))],
    },
];
