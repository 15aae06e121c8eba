//! How losses, rates and metrics went.

use super::Run;
use crate::html::chart::{Chart, Curve};
use crate::html::markup;
use crate::numbers::percent;
use gptjc_runtime::record::{EvaluationRecord, MetricsLine};

/// A picture: its title, how values are written, and what of each run is drawn in it.
struct Picture {
    title: &'static str,
    y: fn(f64) -> String,
    from_zero: bool,
    curves: &'static [Quantity],
}

/// A number over the steps.
struct Quantity {
    name: &'static str,
    /// True for a number of evaluation, which is drawn broken where training has the same picture.
    evaluation: bool,
    /// How the answers were had whose interval belongs to it.
    mode: Option<&'static str>,
    of: fn(&MetricsLine) -> Option<f64>,
}

const fn training(name: &'static str, of: fn(&MetricsLine) -> Option<f64>) -> Quantity {
    Quantity { name, evaluation: false, mode: None, of }
}

const fn evaluation(
    name: &'static str,
    mode: Option<&'static str>,
    of: fn(&MetricsLine) -> Option<f64>,
) -> Quantity {
    Quantity { name, evaluation: true, mode, of }
}

fn other(line: &MetricsLine, name: &str) -> Option<f64> {
    line.entry.other.get(name)?.as_f64()
}

fn four(value: f64) -> String {
    // Axes of small ranges need more digits, those of large ones fewer.
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        some if some >= 10.0 => format!("{value:.1}"),
        some if some >= 0.01 || some == 0.0 => {
            format!("{:.4}", value).trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.1e}"),
    }
}

const PICTURES: &[Picture] = &[
    Picture {
        title: "Loss",
        y: four,
        from_zero: false,
        curves: &[
            training("training", |line| line.entry.loss.map(f64::from)),
            evaluation("evaluation", None, |line| other(line, "eval_loss")),
        ],
    },
    Picture {
        title: "Accuracy",
        y: percent,
        from_zero: false,
        curves: &[
            evaluation("likeliest label", Some("score"), |line| other(line, "eval_accuracy")),
            evaluation("written label", Some("generate"), |line| other(line, "eval_generated_accuracy")),
        ],
    },
    Picture {
        title: "Learning rate",
        y: four,
        from_zero: true,
        curves: &[training("learning rate", |line| line.entry.learning_rate)],
    },
    Picture {
        title: "Norm of the gradient, before clipping",
        y: four,
        from_zero: true,
        curves: &[training("norm", |line| line.entry.grad_norm.map(f64::from))],
    },
    Picture {
        title: "Tokens a second",
        y: |value| format!("{value:.0}"),
        from_zero: true,
        curves: &[training("tokens/s", |line| other(line, "tokens_per_second"))],
    },
];

/// The section; none if nothing was logged.
pub(super) fn section(runs: &[Run]) -> Option<String> {
    let cards: Vec<String> = PICTURES.iter().filter_map(|picture| card(picture, runs)).collect();
    if cards.is_empty() {
        return None;
    }
    let lead = "Over optimizer steps. A training value is that of its entry in the log: the loss is the mean since the entry \
                before, rate and norm are of the last step. Bars are 95 % confidence intervals.";
    let mut out = String::new();
    markup::section(
        &mut out,
        "curves",
        "Curves",
        lead,
        &format!("<div class=\"columns\">{}</div>", cards.concat()),
    );
    Some(out)
}

fn card(picture: &Picture, runs: &[Run]) -> Option<String> {
    let mut curves = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let evaluations = run.found.evaluations();
        for (number, quantity) in picture.curves.iter().enumerate() {
            let one = runs.len() == 1;
            let name =
                if one { quantity.name.to_owned() } else { format!("{}, {}", run.name, quantity.name) };
            curves.push(Curve {
                name,
                colour: Run::colour(if one { number } else { at }),
                dashed: !one && number > 0,
                points: points(run, quantity),
                bars: intervals(&evaluations, quantity),
            });
        }
    }
    let chart = Chart { x: "step", y: picture.y, curves, from_zero: picture.from_zero };
    chart.draw().map(|svg| format!("<div class=\"card\"><h3>{}</h3>{svg}</div>", picture.title))
}

fn points(run: &Run, quantity: &Quantity) -> Vec<(f64, f64)> {
    let lines = run.found.log.iter();
    lines.filter_map(|line| Some((line.entry.step as f64, (quantity.of)(line)?))).collect()
}

fn intervals(evaluations: &[EvaluationRecord], quantity: &Quantity) -> Vec<(f64, [f64; 2])> {
    let Some(mode) = quantity.mode.filter(|_| quantity.evaluation) else { return Vec::new() };
    let of = |found: &EvaluationRecord| {
        let answers = found.answers.iter().find(|answers| answers.mode == mode)?;
        Some((found.step as f64, answers.interval?))
    };
    evaluations.iter().filter_map(of).collect()
}
