//! Flags about the data.

use super::Answer::{Holds, Instead, Refused};
use super::Values::{Other, Words};
use super::{FALSE, Row, TRUE, TRUE_OR_FALSE};

const READ_ANEW: &str = "data are read and tokenised anew each time, which takes seconds";
const IN_MEMORY: &str = "windows are in memory before training begins";
const OTHER_TASKS: &str = "it is about other tasks; --max-seq-length cuts examples";

pub(super) const ROWS: &[Row] = &[
    Row {
        flag: "validation-split-percentage",
        value: Some("N"),
        help: "0: rows to evaluate on are a split or a file of their own",
        answers: &[
            (Words(&["0"]), Holds("no part of the training rows is set aside")),
            (Other, Refused("give rows to evaluate on: --validation-file FILE")),
        ],
    },
    Row {
        flag: "pad-to-max-length",
        value: None,
        help: "Either: padding takes no slot and changes no result",
        answers: &[(TRUE_OR_FALSE, Holds("padding takes no slot and changes no result"))],
    },
    Row {
        flag: "keep-in-memory",
        value: None,
        help: "Either: windows are in memory before training begins",
        answers: &[(TRUE_OR_FALSE, Holds(IN_MEMORY))],
    },
    Row {
        flag: "streaming",
        value: None,
        help: "False: windows are in memory before training begins",
        answers: &[(FALSE, Holds(IN_MEMORY)), (TRUE, Instead(IN_MEMORY))],
    },
    Row {
        flag: "dataset-seed",
        value: Some("N"),
        help: "Any: rows keep their order, and windows are shuffled by --seed",
        answers: &[(Other, Holds("rows keep their order, and windows are shuffled by --seed"))],
    },
    Row {
        flag: "data-seed",
        value: Some("N"),
        help: "See --seed",
        answers: &[(Other, Instead("windows are shuffled by --seed"))],
    },
    Row {
        flag: "dataset-cache-directory",
        value: Some("DIR"),
        help: "There is no cache of the data",
        answers: &[(Other, Instead(READ_ANEW))],
    },
    Row {
        flag: "preprocessing-num-workers",
        value: Some("N"),
        help: "Any: see --threads",
        answers: &[(Other, Holds("--threads tokenise"))],
    },
    Row {
        flag: "special-tokens",
        value: Some("TOKENS..."),
        help: "Not possible: the vocabulary is the model's",
        answers: &[(Other, Refused("leave them out: the vocabulary is the model's"))],
    },
    Row {
        flag: "max-source-length",
        value: Some("N"),
        help: "Any: see --max-seq-length",
        answers: &[(Other, Holds(OTHER_TASKS))],
    },
    Row {
        flag: "max-target-length",
        value: Some("N"),
        help: "Any: see --max-seq-length",
        answers: &[(Other, Holds(OTHER_TASKS))],
    },
    Row {
        flag: "block-size",
        value: Some("N"),
        help: "Not possible: see --max-seq-length",
        answers: &[(Other, Refused("give --max-seq-length"))],
    },
    Row {
        flag: "num-beams",
        value: Some("N"),
        help: "1: answers are continued greedily",
        answers: &[
            (Words(&["1"]), Holds("answers are continued greedily")),
            (Other, Instead("answers are continued greedily")),
        ],
    },
    Row {
        flag: "eval-dataset-size",
        value: Some("N"),
        help: "See --max-eval-samples",
        answers: &[(Other, Instead("--max-eval-samples says how many rows are evaluated on"))],
    },
    Row {
        flag: "do-predict",
        value: None,
        help: "False; see gptjc validate and gptjc generate",
        answers: &[
            (FALSE, Holds("nothing is predicted after training")),
            (TRUE, Refused("ask what was trained with `gptjc validate` or `gptjc generate`")),
        ],
    },
    Row {
        flag: "do-lm-eval",
        value: None,
        help: "False",
        answers: &[
            (FALSE, Holds("no other program evaluates")),
            (TRUE, Refused("write the merged model with `gptjc merge` and give it to lm-evaluation-harness")),
        ],
    },
    Row {
        flag: "lm-eval-tasks",
        value: Some("NAMES..."),
        help: "Any: only --do-lm-eval would read it",
        answers: &[(Other, Holds("only --do-lm-eval would read it"))],
    },
    Row {
        flag: "remove-unused-columns",
        value: None,
        help: "Either: other columns than the prompt's are not kept",
        answers: &[(TRUE_OR_FALSE, Holds("other columns than the prompt's are not kept"))],
    },
    Row {
        flag: "label-names",
        value: Some("NAMES..."),
        help: "Labels come from the text of the examples",
        answers: &[(Other, Instead("labels come from the text of the examples"))],
    },
    Row {
        flag: "group-by-length",
        value: None,
        help: "False: windows are shuffled, and padding takes no slot",
        answers: &[
            (FALSE, Holds("windows are shuffled")),
            (TRUE, Instead("windows are shuffled: padding takes no slot, so there is nothing to save")),
        ],
    },
    Row {
        flag: "length-column-name",
        value: Some("NAME"),
        help: "Any: only --group-by-length would read it",
        answers: &[(Other, Holds("only --group-by-length would read it"))],
    },
    Row {
        flag: "dataloader-drop-last",
        value: None,
        help: "False: a short last batch counts",
        answers: &[
            (FALSE, Holds("a short last batch counts")),
            (TRUE, Instead("a short last batch is trained on, too")),
        ],
    },
    Row {
        flag: "dataloader-num-workers",
        value: Some("N"),
        help: "Any: windows are in memory before training begins",
        answers: &[(Other, Holds(IN_MEMORY))],
    },
    Row {
        flag: "dataloader-prefetch-factor",
        value: Some("N"),
        help: "Any: windows are in memory before training begins",
        answers: &[(Other, Holds(IN_MEMORY))],
    },
    Row {
        flag: "dataloader-pin-memory",
        value: None,
        help: "Either: windows are in memory before training begins",
        answers: &[(TRUE_OR_FALSE, Holds(IN_MEMORY))],
    },
    Row {
        flag: "dataloader-persistent-workers",
        value: None,
        help: "Either: windows are in memory before training begins",
        answers: &[(TRUE_OR_FALSE, Holds(IN_MEMORY))],
    },
    Row {
        flag: "past-index",
        value: Some("N"),
        help: "-1",
        answers: &[
            (Words(&["-1"]), Holds("a GPT-J has no memory beside its cache")),
            (Other, Refused("leave it out: a GPT-J has no memory beside its cache")),
        ],
    },
];
