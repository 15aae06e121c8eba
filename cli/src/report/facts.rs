//! What was run where: command, versions, machine, model, plan, data, and each start of the program.

use super::Run;
use crate::html::markup::{self, Table, details, escape, grid, number};
use crate::numbers::{bytes, seconds, thousands};
use gptjc_runtime::record::{RunFacts, RunRecord, Session, utc};

/// The section; none if no run has a record.
pub(super) fn section(runs: &[Run]) -> Option<String> {
    let mut body = String::new();
    for run in runs {
        let Some(record) = run.record() else { continue };
        if runs.len() > 1 {
            body.push_str(&details(
                &escape(&run.name),
                &format!("<div class=\"inside\">{}</div>", facts(record)),
                false,
            ));
        } else {
            body.push_str(&facts(record));
        }
    }
    if body.is_empty() {
        return None;
    }
    let mut out = String::new();
    markup::section(&mut out, "facts", "The run", "", &body);
    Some(out)
}

fn facts(record: &RunRecord) -> String {
    let facts = &record.facts;
    let command = facts.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    format!(
        "<div class=\"card\"><h3>Command</h3><pre>{}</pre></div><div class=\"columns three\">{}{}{}</div>{}",
        escape(&command),
        grid("Machine and program", &machine(facts)),
        grid("Model and plan", &model(facts)),
        settings(record),
        sessions(&record.sessions)
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn machine(facts: &RunFacts) -> Vec<(&'static str, String)> {
    let machine = &facts.machine;
    vec![
        ("processor", machine.cpu.clone()),
        ("cores", machine.cores.to_string()),
        ("sockets", machine.sockets.to_string()),
        ("threads", machine.threads.to_string()),
        ("kernels for", machine.isa.clone()),
        ("memory", bytes(machine.memory_bytes)),
        ("gptjc", facts.gptjc.clone()),
        ("plan format", facts.plan_format.to_string()),
    ]
}

fn model(facts: &RunFacts) -> Vec<(&'static str, String)> {
    let (model, plan) = (&facts.model, &facts.plan);
    let mut rows = vec![
        ("model", model.directory.clone()),
        ("blocks, width, heads", format!("{}, {}, {}", model.n_layer, model.n_embd, model.n_head)),
        ("vocabulary", thousands(model.vocab_size)),
        ("parameters", thousands(model.parameters)),
        ("trained", thousands(model.trained)),
    ];
    rows.extend(plan.lora.clone().map(|lora| ("adapters", lora)));
    rows.extend([
        ("precision", plan.precision.clone()),
        ("packing", plan.packing.clone()),
        ("tokens of a window", thousands(plan.max_seq_length)),
        ("windows of a micro-batch", plan.micro_batch.to_string()),
        ("windows of a step", plan.step_windows.to_string()),
    ]);
    rows
}

fn settings(record: &RunRecord) -> String {
    let extent = &record.extent;
    let mut rows: Vec<(&str, String)> = vec![
        ("windows", thousands(extent.windows as u64)),
        ("epochs", format!("{:.2}", extent.epochs)),
        ("optimizer steps", thousands(extent.total_steps)),
    ];
    rows.extend(record.facts.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    rows.extend(record.facts.resumed_from.clone().map(|from| ("resumed from", from)));
    rows.extend(record.tensorboard.clone().map(|place| ("event files", place)));
    grid("Data and options", &rows)
}

fn sessions(sessions: &[Session]) -> String {
    let mut table = Table::new(&[
        ("started (UTC)", 'l'),
        ("last written", 'l'),
        ("from step", 'r'),
        ("to step", 'r'),
        ("tokens", 'r'),
        ("labelled", 'r'),
        ("steps took", 'r'),
        ("evaluations took", 'r'),
        ("peak memory", 'r'),
    ]);
    for session in sessions {
        table.row(&[
            utc(session.started),
            utc(session.updated),
            thousands(session.first_step),
            thousands(session.last_step),
            number(session.tokens as f64, &thousands(session.tokens)),
            number(session.labelled as f64, &thousands(session.labelled)),
            number(session.step_seconds, &seconds(session.step_seconds)),
            number(session.evaluation_seconds, &seconds(session.evaluation_seconds)),
            session.peak_bytes.map_or("–".to_owned(), |peak| number(peak as f64, &bytes(peak))),
        ]);
    }
    let title = if sessions.len() == 1 {
        "One start of the program".to_owned()
    } else {
        format!("{} starts of the program", sessions.len())
    };
    details(&title, &table.finish(), true)
}
