//! Flags about machines, processes and number types.

use super::Answer::{Holds, Instead, Refused};
use super::Values::{Other, Words};
use super::{FALSE, Row, TRUE, TRUE_OR_FALSE};

const PRECISION: &str = "gptjc computes in bf16 or f32: --precision bf16 or --precision f32";
const ONE_PROCESS: &str =
    "one process uses all cores that it may, and ranks of mpirun know each other by themselves";
const COMPILED: &str = "the plan is compiled before it is run, and kernels are gptjc's own";
const OWN_KERNELS: &str = "kernels are gptjc's own";
const ONE_MODEL: &str =
    "start gptjc once: one process uses all cores, and --memory-budget streams what does not fit";

pub(super) const ROWS: &[Row] = &[
    Row {
        flag: "bf16-full-eval",
        value: None,
        help: "Either: evaluation has the precision of training",
        answers: &[(TRUE_OR_FALSE, Holds("evaluation has the precision of training"))],
    },
    Row {
        flag: "fp16-full-eval",
        value: None,
        help: "False: evaluation has the precision of training",
        answers: &[(FALSE, Holds("evaluation has the precision of training")), (TRUE, Refused(PRECISION))],
    },
    Row {
        flag: "fp16-opt-level",
        value: Some("LEVEL"),
        help: "Any: only --fp16 would read it",
        answers: &[(Other, Holds("only --fp16 would read it"))],
    },
    Row {
        flag: "fp16-backend",
        value: Some("NAME"),
        help: "Any: only --fp16 would read it",
        answers: &[(Other, Holds("only --fp16 would read it"))],
    },
    Row {
        flag: "half-precision-backend",
        value: Some("NAME"),
        help: "Any: kernels are gptjc's own",
        answers: &[(Other, Holds(OWN_KERNELS))],
    },
    Row {
        flag: "tf32",
        value: None,
        help: "False; see --precision",
        answers: &[(FALSE, Holds(PRECISION)), (TRUE, Instead(PRECISION))],
    },
    Row {
        flag: "use-ipex",
        value: None,
        help: "Either: kernels are gptjc's own",
        answers: &[(FALSE, Holds(OWN_KERNELS)), (TRUE, Instead(OWN_KERNELS))],
    },
    Row {
        flag: "jit-mode-eval",
        value: None,
        help: "Either: the plan is compiled before it is run",
        answers: &[(TRUE_OR_FALSE, Holds(COMPILED))],
    },
    Row {
        flag: "torch-compile",
        value: None,
        help: "Either: the plan is compiled before it is run",
        answers: &[(TRUE_OR_FALSE, Holds(COMPILED))],
    },
    Row {
        flag: "torch-compile-backend",
        value: Some("NAME"),
        help: "Any: the plan is compiled before it is run",
        answers: &[(Other, Holds(COMPILED))],
    },
    Row {
        flag: "torch-compile-mode",
        value: Some("NAME"),
        help: "Any: the plan is compiled before it is run",
        answers: &[(Other, Holds(COMPILED))],
    },
    Row {
        flag: "torchdynamo",
        value: Some("NAME"),
        help: "Any: the plan is compiled before it is run",
        answers: &[(Other, Holds(COMPILED))],
    },
    Row {
        flag: "use-liger-kernel",
        value: None,
        help: "Either: kernels are gptjc's own",
        answers: &[(TRUE_OR_FALSE, Holds(OWN_KERNELS))],
    },
    Row {
        flag: "liger-kernel-config",
        value: Some("JSON"),
        help: "Any: kernels are gptjc's own",
        answers: &[(Other, Holds(OWN_KERNELS))],
    },
    Row {
        flag: "use-mps-device",
        value: None,
        help: "False",
        answers: &[(FALSE, Holds("gptjc runs on the CPU")), (TRUE, Refused("gptjc runs on the CPU only"))],
    },
    Row {
        flag: "tpu-num-cores",
        value: Some("N"),
        help: "Not possible: gptjc runs on the CPU",
        answers: &[(Other, Refused("gptjc runs on the CPU only"))],
    },
    Row {
        flag: "tpu-metrics-debug",
        value: None,
        help: "False",
        answers: &[(FALSE, Holds("gptjc runs on the CPU")), (TRUE, Refused("gptjc runs on the CPU only"))],
    },
    Row {
        flag: "local-rank",
        value: Some("N"),
        help: "-1 or 0: there is one process",
        answers: &[
            (Words(&["-1", "0"]), Holds(ONE_PROCESS)),
            (Other, Refused("start gptjc once, or with mpirun (docs/distributed.md), not with torchrun")),
        ],
    },
    Row {
        flag: "ddp-find-unused-parameters",
        value: None,
        help: "Either: there is one process",
        answers: &[(TRUE_OR_FALSE, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "ddp-bucket-cap-mb",
        value: Some("N"),
        help: "Any: there is one process",
        answers: &[(Other, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "ddp-broadcast-buffers",
        value: None,
        help: "Either: there is one process",
        answers: &[(TRUE_OR_FALSE, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "ddp-timeout",
        value: Some("N"),
        help: "Any: there is one process",
        answers: &[(Other, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "dispatch-batches",
        value: None,
        help: "Either: there is one process",
        answers: &[(TRUE_OR_FALSE, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "split-batches",
        value: None,
        help: "Either: there is one process",
        answers: &[(TRUE_OR_FALSE, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "log-level-replica",
        value: Some("LEVEL"),
        help: "Any: there is one process",
        answers: &[(Other, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "log-on-each-node",
        value: None,
        help: "Either: there is one process",
        answers: &[(TRUE_OR_FALSE, Holds(ONE_PROCESS))],
    },
    Row {
        flag: "deepspeed",
        value: Some("FILE"),
        help: "Not possible: see --memory-budget",
        answers: &[(Other, Refused(ONE_MODEL))],
    },
    Row {
        flag: "fsdp",
        value: Some("OPTIONS..."),
        help: "Not possible: see --memory-budget",
        answers: &[(Words(&["", "false"]), Holds(ONE_PROCESS)), (Other, Refused(ONE_MODEL))],
    },
    Row {
        flag: "fsdp-config",
        value: Some("JSON"),
        help: "Any: only --fsdp would read it",
        answers: &[(Other, Holds("only --fsdp would read it"))],
    },
    Row {
        flag: "fsdp-min-num-params",
        value: Some("N"),
        help: "Any: only --fsdp would read it",
        answers: &[(Other, Holds("only --fsdp would read it"))],
    },
    Row {
        flag: "fsdp-transformer-layer-cls-to-wrap",
        value: Some("NAME"),
        help: "Any: only --fsdp would read it",
        answers: &[(Other, Holds("only --fsdp would read it"))],
    },
    Row {
        flag: "accelerator-config",
        value: Some("JSON"),
        help: "Any: there is one process",
        answers: &[(Other, Instead(ONE_PROCESS))],
    },
    Row {
        flag: "parallelism-config",
        value: Some("JSON"),
        help: "Not possible: there is one process",
        answers: &[(Other, Refused(ONE_MODEL))],
    },
    Row {
        flag: "mp-parameters",
        value: Some("TEXT"),
        help: "Not possible: there is one process",
        answers: &[(Words(&[""]), Holds(ONE_PROCESS)), (Other, Refused(ONE_MODEL))],
    },
];
