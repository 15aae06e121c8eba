//! Flags about the hub, to which nothing is uploaded.

use super::Answer::{Holds, Refused};
use super::Values::Other;
use super::{FALSE, Row, TRUE, TRUE_OR_FALSE};

const NOTHING: &str = "nothing is uploaded";
const HELP: &str = "Any: nothing is uploaded";

pub(super) const ROWS: &[Row] = &[
    Row {
        flag: "push-to-hub",
        value: None,
        help: "False: upload --output-dir afterwards",
        answers: &[
            (FALSE, Holds(NOTHING)),
            (
                TRUE,
                Refused(
                    "gptjc never opens the network: upload afterwards, with `hf upload OWNER/NAME OUTPUT_DIR`",
                ),
            ),
        ],
    },
    any("hub-model-id", "NAME"),
    any("hub-strategy", "WHEN"),
    any("hub-token", "TOKEN"),
    either("hub-private-repo"),
    either("hub-always-push"),
    any("hub-revision", "NAME"),
    any("push-to-hub-model-id", "NAME"),
    any("push-to-hub-organization", "NAME"),
    any("push-to-hub-token", "TOKEN"),
];

const fn any(flag: &'static str, value: &'static str) -> Row {
    Row { flag, value: Some(value), help: HELP, answers: &[(Other, Holds(NOTHING))] }
}

const fn either(flag: &'static str) -> Row {
    Row {
        flag,
        value: None,
        help: "Either: nothing is uploaded",
        answers: &[(TRUE_OR_FALSE, Holds(NOTHING))],
    }
}
