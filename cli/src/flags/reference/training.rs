//! Flags about the optimizer and the steps.

use super::Answer::{Holds, Instead, Refused};
use super::Values::{Other, Words};
use super::{FALSE, NONE, Row, TRUE, TRUE_OR_FALSE};

const PLANNED: &str = "blocks are recomputed where --memory-budget asks for it, and nowhere else";
const OVER_TOKENS: &str = "the loss is a mean over the labelled tokens of the whole step";

pub(super) const ROWS: &[Row] = &[
    Row {
        flag: "lr-scheduler-kwargs",
        value: Some("JSON"),
        help: "{}: schedules have Hugging Face's defaults",
        answers: &[
            (Words(&["{}", "none"]), Holds("schedules have Hugging Face's defaults")),
            (Other, Refused("leave it out: schedules have Hugging Face's defaults")),
        ],
    },
    Row {
        flag: "optim-args",
        value: Some("TEXT"),
        help: "Not possible: AdamW has flags of its own",
        answers: &[(
            Other,
            Refused("give --adam-beta1, --adam-beta2, --adam-epsilon and --weight-decay instead"),
        )],
    },
    Row {
        flag: "optim-target-modules",
        value: Some("NAMES..."),
        help: "Not possible: AdamW updates all that is trained",
        answers: &[(Other, Refused("leave it out: AdamW updates all that is trained"))],
    },
    Row {
        flag: "adafactor",
        value: None,
        help: "False",
        answers: &[
            (FALSE, Holds("the optimizer is AdamW")),
            (TRUE, Refused("gptjc has AdamW only: --optim adamw_torch")),
        ],
    },
    Row {
        flag: "label-smoothing-factor",
        value: Some("X"),
        help: "0",
        answers: &[
            (Words(&["0", "0.0"]), Holds("labels are not smoothed")),
            (Other, Refused("leave it out: labels are not smoothed")),
        ],
    },
    Row {
        flag: "neftune-noise-alpha",
        value: Some("X"),
        help: "none",
        answers: &[
            (NONE, Holds("no noise is added to embeddings")),
            (Other, Refused("leave it out: no noise is added to embeddings")),
        ],
    },
    Row {
        flag: "gradient-checkpointing",
        value: None,
        help: "Either: blocks are recomputed where --memory-budget asks for it",
        answers: &[(FALSE, Holds(PLANNED)), (TRUE, Instead(PLANNED))],
    },
    Row {
        flag: "gradient-checkpointing-kwargs",
        value: Some("JSON"),
        help: "Any: blocks are recomputed where --memory-budget asks for it",
        answers: &[(Other, Instead(PLANNED))],
    },
    Row {
        flag: "auto-find-batch-size",
        value: None,
        help: "Either: a batch is computed in micro-batches that fit --memory-budget",
        answers: &[(TRUE_OR_FALSE, Holds("a batch is computed in micro-batches that fit --memory-budget"))],
    },
    Row {
        flag: "per-gpu-train-batch-size",
        value: Some("N"),
        help: "Not possible: see --per-device-train-batch-size",
        answers: &[(Other, Refused("give --per-device-train-batch-size"))],
    },
    Row {
        flag: "per-gpu-eval-batch-size",
        value: Some("N"),
        help: "Not possible: see --per-device-eval-batch-size",
        answers: &[(Other, Refused("give --per-device-eval-batch-size"))],
    },
    Row {
        flag: "average-tokens-across-devices",
        value: None,
        help: "True: the loss is a mean over the labelled tokens of the whole step",
        answers: &[(TRUE, Holds(OVER_TOKENS)), (FALSE, Instead(OVER_TOKENS))],
    },
    Row {
        flag: "full-determinism",
        value: None,
        help: "Either: bits depend on data, seed and kernels only",
        answers: &[(TRUE_OR_FALSE, Holds("bits depend on data, seed and kernels only"))],
    },
    Row {
        flag: "skip-memory-metrics",
        value: None,
        help: "Either: the plan says what memory is needed",
        answers: &[(TRUE_OR_FALSE, Holds("the plan says what memory is needed"))],
    },
    Row {
        flag: "torch-empty-cache-steps",
        value: Some("N"),
        help: "Any: memory is planned, and there is no cache of it",
        answers: &[(Other, Holds("memory is planned, and there is no cache of it"))],
    },
    Row {
        flag: "disable-tqdm",
        value: None,
        help: "False: a bar is shown on a terminal only",
        answers: &[
            (FALSE, Holds("a bar is shown on a terminal only")),
            (TRUE, Instead("a bar is shown on a terminal: send standard error elsewhere to have lines")),
        ],
    },
    Row {
        flag: "debug",
        value: Some("WHAT..."),
        help: "underflow_overflow: numbers that are not finite end a run in any case",
        answers: &[
            (Words(&["", "underflow_overflow"]), Holds("numbers that are not finite end a run in any case")),
            (Other, Refused("leave it out: `gptjc inspect` shows what a plan does")),
        ],
    },
    Row {
        flag: "ray-scope",
        value: Some("TEXT"),
        help: "Any: there is no search over runs",
        answers: &[(Other, Holds("there is no search over runs"))],
    },
];
