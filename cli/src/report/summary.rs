//! The head of the page: how a run ended, and its few numbers that matter; and several runs in a table.

use super::Run;
use crate::html::markup::{Table, escape, number, section, tile};
use crate::numbers::{bytes, percent, quantity, seconds, thousands};
use gptjc_runtime::record::{EvaluationRecord, RunRecord, RunStatus, Session};
use std::fmt::Write;

pub(super) fn write(runs: &[Run], out: &mut String) {
    let (title, lead) = match runs {
        [run] => {
            (run.name.clone(), run.record().map_or_else(|| "a run without a record".to_owned(), purpose))
        }
        _ => (
            format!("{} runs", runs.len()),
            runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(" · "),
        ),
    };
    let eyebrow = match runs {
        [run] => format!("gptjc training run · {}", run.record().map_or("state unknown", status)),
        _ => "gptjc training runs side by side".to_owned(),
    };
    let _ = write!(
        out,
        "<header><div><p class=\"eyebrow\">{}</p><h1>{}</h1><p class=\"purpose\">{}</p>",
        escape(&eyebrow),
        escape(&title),
        escape(&lead)
    );
    if let [run] = runs {
        out.push_str("<div class=\"tiles\">");
        tiles(run, out);
        out.push_str("</div>");
    }
    out.push_str("</div></header>\n");
}

fn status(record: &RunRecord) -> &'static str {
    match record.status {
        RunStatus::Running => "running, or cut short",
        RunStatus::Finished => "finished",
        RunStatus::StoppedEarly => "ended early: no model was better any more",
        RunStatus::Stopped => "stopped",
        RunStatus::Failed => "ended with an error",
    }
}

/// What was trained, in a line.
fn purpose(record: &RunRecord) -> String {
    let (model, plan) = (&record.facts.model, &record.facts.plan);
    let trained = plan.lora.clone().unwrap_or_else(|| "all parameters trained".to_owned());
    format!(
        "GPT-J of {} blocks of {}, {} parameters · {trained} · {}",
        model.n_layer,
        model.n_embd,
        quantity(model.parameters),
        plan.precision
    )
}

/// What sessions took together.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) steps: u64,
    pub(super) step_seconds: f64,
    pub(super) evaluation_seconds: f64,
    pub(super) wall_seconds: f64,
    pub(super) tokens: u64,
    pub(super) labelled: u64,
    pub(super) peak_bytes: Option<u64>,
}

impl Totals {
    pub(super) fn of(sessions: &[Session]) -> Self {
        let mut totals = Self::default();
        for session in sessions {
            totals.steps += session.last_step.saturating_sub(session.first_step);
            totals.step_seconds += session.step_seconds;
            totals.evaluation_seconds += session.evaluation_seconds;
            totals.wall_seconds += (session.updated - session.started).max(0.0);
            totals.tokens += session.tokens;
            totals.labelled += session.labelled;
            totals.peak_bytes = totals.peak_bytes.max(session.peak_bytes);
        }
        totals
    }

    pub(super) fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.step_seconds.max(1e-9)
    }
}

/// Steps done and steps of the whole run, as far as they are known.
fn steps(run: &Run) -> (u64, Option<u64>) {
    let logged = run.found.log.iter().map(|line| line.entry.step).max().unwrap_or(0);
    let recorded = run.sessions().last().map_or(0, |session| session.last_step);
    (logged.max(recorded), run.record().map(|record| record.extent.total_steps))
}

fn last_loss(run: &Run) -> Option<f32> {
    run.found.log.iter().rev().find_map(|line| line.entry.loss)
}

/// The metric that says most about a run, with its name and interval, of the evaluation in which it is best.
struct Best {
    name: &'static str,
    value: f64,
    step: u64,
    interval: Option<[f64; 2]>,
}

fn best(evaluations: &[EvaluationRecord]) -> Option<Best> {
    let of = |name: &'static str, mode: &str, sign: f64| {
        let with = evaluations.iter().filter_map(|found| Some((found, *found.metrics.get(name)?)));
        let (found, value) =
            with.max_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)).then(b.0.step.cmp(&a.0.step)))?;
        let answers = found.answers.iter().find(|answers| answers.mode == mode);
        Some(Best { name, value, step: found.step, interval: answers.and_then(|answers| answers.interval) })
    };
    of("eval_accuracy", "score", 1.0)
        .or_else(|| of("eval_generated_accuracy", "generate", 1.0))
        .or_else(|| of("eval_loss", "", -1.0))
}

impl Best {
    fn title(&self) -> &'static str {
        match self.name {
            "eval_accuracy" => "Best accuracy",
            "eval_loss" => "Best evaluation loss",
            _ => "Best generated accuracy",
        }
    }

    fn text(&self) -> String {
        if self.name == "eval_loss" { format!("{:.4}", self.value) } else { percent(self.value) }
    }

    fn note(&self) -> String {
        let interval = self.interval.map(|[low, high]| format!("{} to {}, ", percent(low), percent(high)));
        format!("{}after step {}", interval.unwrap_or_default(), thousands(self.step))
    }
}

fn tiles(run: &Run, out: &mut String) {
    let (done, all) = steps(run);
    let of_all = all.map(|all| format!("of {}", thousands(all))).unwrap_or_default();
    tile(out, "Optimizer steps", &thousands(done), &of_all);
    if let Some(loss) = last_loss(run) {
        tile(out, "Training loss", &format!("{loss:.4}"), "last entry of the log");
    }
    if let Some(best) = best(&run.found.evaluations()) {
        tile(out, best.title(), &best.text(), &best.note());
    }
    if run.sessions().is_empty() {
        return;
    }
    let totals = Totals::of(run.sessions());
    let note = format!("{} tokens, {} labelled", thousands(totals.tokens), thousands(totals.labelled));
    tile(out, "Training speed", &format!("{:.0} tokens/s", totals.tokens_per_second()), &note);
    let note = format!("{} of it evaluation", seconds(totals.evaluation_seconds));
    tile(out, "Wall time", &seconds(totals.wall_seconds), &note);
    if let Some(peak) = totals.peak_bytes {
        let predicted = run.record().map(|record| record.facts.plan.peak_bytes).filter(|&bytes| bytes > 0);
        tile(
            out,
            "Peak memory",
            &bytes(peak),
            &predicted.map(|most| format!("predicted {}", bytes(most))).unwrap_or_default(),
        );
    }
}

/// Several runs in a table.
pub(super) fn compare(runs: &[Run], out: &mut String) {
    let mut table = Table::new(&[
        ("run", 'l'),
        ("state", 'l'),
        ("steps", 'r'),
        ("training loss", 'r'),
        ("best", 'r'),
        ("", 'l'),
        ("tokens/s", 'r'),
        ("wall time", 'r'),
        ("peak memory", 'r'),
    ]);
    for (index, run) in runs.iter().enumerate() {
        let totals = Totals::of(run.sessions());
        let known = !run.sessions().is_empty();
        let when = |text: String| if known { text } else { "–".to_owned() };
        let best = best(&run.found.evaluations());
        table.row(&[
            format!("<i class=\"stroke s{}\"></i>{}", Run::colour(index), escape(&run.name)),
            escape(run.record().map_or("unknown", status)),
            number(steps(run).0 as f64, &thousands(steps(run).0)),
            last_loss(run).map_or("–".to_owned(), |loss| number(loss.into(), &format!("{loss:.4}"))),
            best.as_ref().map_or("–".to_owned(), |best| number(best.value, &best.text())),
            escape(&best.as_ref().map_or(String::new(), |best| format!("{}, {}", best.name, best.note()))),
            when(number(totals.tokens_per_second(), &format!("{:.0}", totals.tokens_per_second()))),
            when(number(totals.wall_seconds, &seconds(totals.wall_seconds))),
            totals.peak_bytes.map_or("–".to_owned(), |peak| number(peak as f64, &bytes(peak))),
        ]);
    }
    section(out, "runs", "Runs", "", &table.finish());
}
