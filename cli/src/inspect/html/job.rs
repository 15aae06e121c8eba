//! Work and time of a whole job.

use crate::html::markup::{Table, number, section};
use crate::inspect::View;
use crate::numbers::{flops, percent, seconds, thousands};
use gptjc_compiler::explain::JobCase;

pub(super) fn write(view: &View<'_>, out: &mut String) {
    let Some(job) = &view.report.job else { return };
    let lead = format!(
        "{} full windows and {} epochs: {} tokens in {} optimizer steps of {} micro-batches in all. Labels on every position, \
         and on {} of them, as with masked prompts: lm_head and loss run on labelled rows only. Work counts what is \
         computed once, not what is recomputed to save memory.",
        thousands(job.job.windows),
        job.job.epochs,
        thousands(job.tokens),
        thousands(job.optimizer_steps),
        thousands(job.micro_steps),
        percent(job.job.labelled_share)
    );
    let mut table = Table::new(&[
        ("labelled", 'r'),
        ("work a token", 'r'),
        ("attention", 'r'),
        ("everything else", 'r'),
        ("recomputed", 'r'),
        ("work of the job", 'r'),
        ("optimizer step", 'r'),
        ("tokens/s", 'r'),
        ("share of peak", 'r'),
        ("hours", 'r'),
    ]);
    job.cases.iter().for_each(|case| table.row(&cells(case)));
    section(out, "job", "The whole job", &lead, &table.finish());
}

fn cells(case: &JobCase) -> [String; 10] {
    let work = |value: f64| number(value, &flops(value));
    [
        percent(case.labelled_share),
        work(case.flops_per_token),
        work(case.attention_flops_per_token),
        work(case.flops_per_token - case.attention_flops_per_token),
        work(case.recomputed_flops_per_token),
        work(case.flops),
        number(case.step_seconds, &seconds(case.step_seconds)),
        number(case.tokens_per_second, &format!("{:.1}", case.tokens_per_second)),
        percent(case.share_of_peak),
        number(case.hours, &format!("{:.2}", case.hours)),
    ]
}
