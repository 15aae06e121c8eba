//! The roofline: how much each kernel computes for each byte that it moves, and what that lets it reach.

use crate::html::markup::{Table, escape, number, px, section, share_bar};
use crate::inspect::View;
use crate::numbers::{bytes, bytes_per_second, flops, flops_per_second, percent, seconds, thousands};
use gptjc_compiler::explain::{EntryReport, KernelCost, TargetFacts};
use std::fmt::Write;

const SIZE: (f64, f64) = (1120.0, 340.0);
const LEFT: f64 = 92.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Kernels with their name in the picture.
const NAMED: usize = 8;
/// About the width of a letter.
const LETTER: f64 = 6.4;

pub(super) fn write(view: &View<'_>, entry: &EntryReport, out: &mut String) {
    let target = &view.report.plan.target;
    let lead = format!(
        "The target moves {} and computes {}: a kernel with fewer than {:.1} FLOP a byte is held up by memory, if its \
         operands are in no cache. Bytes count each operand and result once.",
        bytes_per_second(target.memory_bandwidth),
        flops_per_second(target.peak_bf16),
        balance(target)
    );
    let body = format!(
        "<div class=\"card wide\"><div class=\"scroll\">{}</div></div>{}",
        Plot::new(target, entry).draw(),
        table(target, entry)
    );
    section(out, "roofline", "Roofline", &lead, &body);
}

/// FLOPs a byte at which memory and arithmetic take the same time.
fn balance(target: &TargetFacts) -> f64 {
    target.peak_bf16 / target.memory_bandwidth.max(1.0)
}

fn rate(row: &KernelCost) -> f64 {
    if row.cost.seconds > 0.0 { row.cost.flops as f64 / row.cost.seconds } else { 0.0 }
}

fn table(target: &TargetFacts, entry: &EntryReport) -> String {
    let mut table = Table::new(&[
        ("kernel", 'l'),
        ("calls", 'r'),
        ("work", 'r'),
        ("bytes moved", 'r'),
        ("FLOP/B", 'r'),
        ("held up by", 'l'),
        ("predicted", 'r'),
        ("rate", 'r'),
        ("share of time", 'l'),
    ]);
    for row in &entry.kernels {
        let by = if row.intensity < balance(target) { "memory" } else { "arithmetic" };
        table.row(&[
            format!("<code>{}</code>", escape(&row.kernel)),
            number(row.cost.calls as f64, &thousands(row.cost.calls as u64)),
            number(row.cost.flops as f64, &flops(row.cost.flops as f64)),
            number(row.cost.bytes as f64, &bytes(row.cost.bytes)),
            number(row.intensity, &format!("{:.2}", row.intensity)),
            by.to_owned(),
            number(row.cost.seconds, &seconds(row.cost.seconds)),
            number(rate(row), &flops_per_second(rate(row))),
            share_bar(row.time_share, &percent(row.time_share)),
        ]);
    }
    table.finish()
}

/// The picture: both axes logarithmic.
struct Plot<'e> {
    target: &'e TargetFacts,
    kernels: Vec<&'e KernelCost>,
    x: (f64, f64),
    y: (f64, f64),
}

impl<'e> Plot<'e> {
    fn new(target: &'e TargetFacts, entry: &'e EntryReport) -> Self {
        let kernels: Vec<&KernelCost> = entry.kernels.iter().filter(|row| rate(row) > 0.0).collect();
        let least =
            |values: &mut dyn Iterator<Item = f64>, start: f64| values.fold(start, f64::min).log10().floor();
        let most =
            kernels.iter().map(|row| row.intensity).fold(balance(target) * 10.0, f64::max).log10().ceil();
        let x = (least(&mut kernels.iter().map(|row| row.intensity), 1.0).max(-3.0), most);
        let top = target.peak_bf16.max(target.peak_f32);
        let low = least(&mut kernels.iter().map(|row| rate(row)), top / 100.0).max(top.log10().floor() - 6.0);
        Self { target, kernels, x, y: (low, (top * 1.6).log10()) }
    }

    fn at(&self, intensity: f64, rate: f64) -> (f64, f64) {
        let part = |value: f64, (from, to): (f64, f64)| {
            ((value.max(1e-12).log10() - from) / (to - from)).clamp(0.0, 1.0)
        };
        let x = LEFT + (SIZE.0 - LEFT - RIGHT) * part(intensity, self.x);
        (x, TOP + (SIZE.1 - TOP - BOTTOM) * (1.0 - part(rate, self.y)))
    }

    fn draw(&self) -> String {
        let mut svg = format!("<svg viewBox=\"0 0 {} {}\" class=\"chart map\" role=\"img\">", SIZE.0, SIZE.1);
        self.grid(&mut svg);
        let mut roofs = vec![("bf16", self.target.peak_bf16)];
        if self.target.peak_f32 != self.target.peak_bf16 {
            roofs.push(("f32", self.target.peak_f32));
        }
        for (name, peak) in roofs {
            let (start, end) = (10f64.powf(self.x.0), 10f64.powf(self.x.1));
            let bandwidth = self.target.memory_bandwidth;
            let ridge = (peak / bandwidth.max(1.0)).clamp(start, end);
            let points = [(start, bandwidth * start), (ridge, peak), (end, peak)].map(|(x, y)| self.at(x, y));
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{} {}", px(*x), px(*y))).collect();
            let _ = write!(
                svg,
                "<path class=\"roof\" d=\"M{}\"/><text class=\"line\" x=\"{}\" y=\"{}\">peak in {name}: {}</text>",
                path.join("L"),
                px(points[1].0 + 4.0),
                px(points[1].1 - 7.0),
                flops_per_second(peak)
            );
        }
        self.points(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    fn points(&self, svg: &mut String) {
        let mut taken: Vec<(f64, f64, f64)> = Vec::new();
        for (index, row) in self.kernels.iter().enumerate() {
            let (x, y) = self.at(row.intensity, rate(row));
            let radius = 4.0 + 18.0 * row.time_share.sqrt();
            let name = escape(&row.kernel);
            let _ = write!(
                svg,
                "<circle class=\"point\" cx=\"{}\" cy=\"{}\" r=\"{}\"><title>{name}\n{:.2} FLOP/B, {}\n{} of the \
                 time</title></circle>",
                px(x),
                px(y),
                px(radius),
                row.intensity,
                flops_per_second(rate(row)),
                percent(row.time_share)
            );
            // Names of kernels that lie side by side would cover each other.
            let wide = row.kernel.len() as f64 * LETTER;
            let is_left = x + radius + wide > SIZE.0 - RIGHT;
            let from = if is_left { x - radius - 4.0 - wide } else { x + radius + 4.0 };
            let apart = |&(other_from, other_to, other_y): &(f64, f64, f64)| {
                from > other_to || from + wide < other_from || (y - other_y).abs() > 13.0
            };
            if index < NAMED && taken.iter().all(apart) {
                let (class, at) = if is_left { ("r", from + wide) } else { ("", from) };
                let (at, middle) = (px(at), px(y));
                let _ =
                    write!(svg, "<text class=\"{class}\" x=\"{at}\" y=\"{middle}\" dy=\"4\">{name}</text>");
                taken.push((from, from + wide, y));
            }
        }
    }

    fn grid(&self, svg: &mut String) {
        let (floor, right) = (SIZE.1 - BOTTOM, SIZE.0 - RIGHT);
        for power in self.x.0 as i32..=self.x.1 as i32 {
            let value = 10f64.powi(power);
            let (x, _) = self.at(value, 1.0);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{} {TOP}V{floor}\"/><text class=\"m\" x=\"{}\" y=\"{}\">{value}</text>",
                px(x),
                px(x),
                floor + 16.0
            );
        }
        for power in self.y.0.ceil() as i32..=self.y.1.floor() as i32 {
            let value = 10f64.powi(power);
            let (_, y) = self.at(1.0, value);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {}H{right}\"/><text class=\"r\" x=\"{}\" y=\"{}\" dy=\"4\">{}</text>",
                px(y),
                LEFT - 8.0,
                px(y),
                flops_per_second(value)
            );
        }
        let _ = write!(svg, "<text class=\"r\" x=\"{right}\" y=\"{}\">FLOP a byte</text>", floor + 34.0);
    }
}
