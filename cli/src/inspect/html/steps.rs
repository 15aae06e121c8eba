//! The steps of each kind of block.

use crate::html::markup::{Table, details, escape, number, section};
use crate::numbers::{bytes, flops, seconds};
use gptjc_compiler::explain::{BlockKind, BlockStep, EntryReport, Group};

pub(super) fn write(entry: &EntryReport, out: &mut String) {
    let lead = "Most blocks are computed by the same steps: each kind of block once, in the order in which its steps run.";
    let body: String = entry
        .blocks
        .iter()
        .map(|kind| {
            let time: f64 = kind.steps.iter().map(|step| step.cost.seconds).sum();
            let summary = format!(
                "{} <span class=\"muted\">{} steps, {} each</span>",
                escape(&names(&kind.groups)),
                kind.steps.len(),
                seconds(time)
            );
            let is_common = kind.groups.len() > 1;
            details(&summary, &table(kind), is_common)
        })
        .collect();
    section(out, "steps", "Steps", lead, &body);
}

/// `blocks 1–26`, `embedding`.
fn names(groups: &[Group]) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for group in groups {
        match (group, runs.last_mut()) {
            (Group::Block(layer), Some((_, last))) if *last + 1 == *layer => *last = *layer,
            (Group::Block(layer), _) => runs.push((*layer, *layer)),
            (Group::Embedding | Group::Head | Group::Other, _) => names.push(group.to_string()),
        }
    }
    let run = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}–{last}") }
    };
    let runs: Vec<String> = runs.iter().map(run).collect();
    if !runs.is_empty() {
        let word = if groups.len() > 1 { "blocks" } else { "block" };
        names.insert(0, format!("{word} {}", runs.join(", ")));
    }
    names.join(", ")
}

fn table(kind: &BlockKind) -> String {
    let mut table = Table::new(&[
        ("step", 'r'),
        ("pass", 'l'),
        ("kernel", 'l'),
        ("module", 'l'),
        ("results", 'l'),
        ("work", 'r'),
        ("bytes moved", 'r'),
        ("predicted", 'r'),
    ]);
    kind.steps.iter().for_each(|step| table.row(&cells(step)));
    table.finish()
}

fn cells(step: &BlockStep) -> [String; 8] {
    let operands: Vec<String> = step.operands.iter().map(|ty| format!("reads {ty}")).collect();
    [
        step.index.to_string(),
        format!("<span class=\"tag {0}\">{0}</span>", step.phase.name()),
        format!("<code data-t=\"{}\">{}</code>", escape(&operands.join("\n")), escape(&step.kernel)),
        escape(&step.part),
        format!("<small>{}</small>", escape(&step.results.join(", "))),
        number(step.cost.flops as f64, &flops(step.cost.flops as f64)),
        number(step.cost.bytes as f64, &bytes(step.cost.bytes)),
        number(step.cost.seconds, &seconds(step.cost.seconds)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_blocks_have_one_name() {
        let blocks: Vec<Group> = [1, 2, 3, 7].map(Group::Block).to_vec();
        assert_eq!(names(&blocks), "blocks 1–3, 7");
        assert_eq!(names(&[Group::Block(0)]), "block 0");
        assert_eq!(names(&[Group::Embedding]), "embedding");
    }
}
