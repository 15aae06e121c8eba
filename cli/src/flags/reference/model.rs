//! Flags about the model and its adapters.

use super::Answer::{Holds, Instead, Refused};
use super::Values::{Other, Words};
use super::{FALSE, Row, TRUE, TRUE_OR_FALSE};

const OFFLINE: &str = "gptjc never opens the network, so nothing has to be allowed to it";
const OTHER_METHODS: &str = "it is about other methods than LoRA";
const NO_QUANTIZATION: &str = "weights are not quantized for training";
const PLAIN_LORA: &str = "adapters are plain LoRA";

pub(super) const ROWS: &[Row] = &[
    Row {
        flag: "cache-dir",
        value: Some("DIR"),
        help: "The cache of the hub is where HF_HOME or HF_HUB_CACHE say",
        answers: &[(Other, Instead("the cache of the hub is where HF_HOME or HF_HUB_CACHE say"))],
    },
    Row {
        flag: "use-auth-token",
        value: None,
        help: "Either: gptjc never opens the network",
        answers: &[(TRUE_OR_FALSE, Holds(OFFLINE))],
    },
    Row {
        flag: "token",
        value: Some("TOKEN"),
        help: "Any: gptjc never opens the network",
        answers: &[(Other, Holds(OFFLINE))],
    },
    Row {
        flag: "trust-remote-code",
        value: None,
        help: "False: no code of a model is run",
        answers: &[
            (FALSE, Holds("no code of a model is run")),
            (TRUE, Instead("no code of a model is run: GPT-J is built in")),
        ],
    },
    Row {
        flag: "model-type",
        value: Some("TYPE"),
        help: "gptj",
        answers: &[
            (Words(&["gptj"]), Holds("the model is a GPT-J")),
            (Other, Refused("gptjc trains GPT-J only")),
        ],
    },
    Row {
        flag: "config-overrides",
        value: Some("TEXT"),
        help: "Not possible: see --config-name",
        answers: &[(Other, Refused("write the config into a file and give it with --config-name"))],
    },
    Row {
        flag: "low-cpu-mem-usage",
        value: None,
        help: "Either: weights are mapped into memory, not copied",
        answers: &[(
            TRUE_OR_FALSE,
            Holds("weights are mapped into memory, and copied only where they have to be"),
        )],
    },
    Row {
        flag: "torch-dtype",
        value: Some("TYPE"),
        help: "auto; see --precision",
        answers: &[
            (Words(&["auto"]), Holds("weights are read in the type that the checkpoint has")),
            (
                Words(&["bfloat16", "float32"]),
                Instead(
                    "what is computed in is said by --precision bf16, which is the default, or --precision f32",
                ),
            ),
            (Other, Refused("gptjc computes in bf16 or f32: --precision bf16 or --precision f32")),
        ],
    },
    Row {
        flag: "attn-implementation",
        value: Some("NAME"),
        help: "Any: there is one, which is fused",
        answers: &[(Other, Holds("there is one implementation of attention, which is fused"))],
    },
    Row {
        flag: "device",
        value: Some("NAME"),
        help: "cpu or auto",
        answers: &[
            (Words(&["cpu", "auto"]), Holds("gptjc runs on the CPU")),
            (Other, Refused("gptjc runs on the CPU only")),
        ],
    },
    Row {
        flag: "qlora",
        value: None,
        help: "False",
        answers: &[
            (FALSE, Holds(NO_QUANTIZATION)),
            (TRUE, Refused("leave it out: with --memory-budget weights are streamed, not quantized")),
        ],
    },
    Row {
        flag: "double-quant",
        value: None,
        help: "Either: weights are not quantized for training",
        answers: &[(TRUE_OR_FALSE, Holds(NO_QUANTIZATION))],
    },
    Row {
        flag: "quant-type",
        value: Some("TYPE"),
        help: "Any: weights are not quantized for training",
        answers: &[(Other, Holds(NO_QUANTIZATION))],
    },
    Row {
        flag: "bits",
        value: Some("N"),
        help: "Any: weights are not quantized for training",
        answers: &[(Other, Holds(NO_QUANTIZATION))],
    },
    Row {
        flag: "adapter-layers",
        value: Some("N"),
        help: "Any: it is about other methods than LoRA",
        answers: &[(Other, Holds(OTHER_METHODS))],
    },
    Row {
        flag: "adapter-len",
        value: Some("N"),
        help: "Any: it is about other methods than LoRA",
        answers: &[(Other, Holds(OTHER_METHODS))],
    },
    Row {
        flag: "num-virtual-tokens",
        value: Some("N"),
        help: "Any: it is about other methods than LoRA",
        answers: &[(Other, Holds(OTHER_METHODS))],
    },
    Row {
        flag: "ptun-hidden-size",
        value: Some("N"),
        help: "Any: it is about other methods than LoRA",
        answers: &[(Other, Holds(OTHER_METHODS))],
    },
    Row {
        flag: "use-dora",
        value: None,
        help: "False",
        answers: &[(FALSE, Holds(PLAIN_LORA)), (TRUE, Refused("gptjc trains plain LoRA only: leave it out"))],
    },
    Row {
        flag: "lora-bias",
        value: Some("WHICH"),
        help: "none",
        answers: &[
            (Words(&["none", "false"]), Holds("biases stay as they are")),
            (Other, Refused("gptjc trains the matrices of LoRA only: --lora-bias none, or --trainable all")),
        ],
    },
    Row {
        flag: "modules-to-save",
        value: Some("NAMES..."),
        help: "Not possible: only adapters are trained, or everything with --trainable all",
        answers: &[(Other, Refused("leave it out, or train everything with --trainable all"))],
    },
];
